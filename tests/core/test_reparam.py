"""Merging convolutions and norms, against the unmerged modules, PyTorch's transposed convolution and hand values."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import nd
from core.errors import ConfigError
from core.residual.reparam import (
    DILATED,
    DilatedConv,
    LargeKernelConv,
    can_fold,
    dense_kernel,
    fuse_conv_norm,
)

SPATIAL = {1: (21,), 2: (13, 12), 3: (7, 8, 6)}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
every_dims = pytest.mark.parametrize("dims", [1, 2, 3])
both_dtypes = pytest.mark.parametrize("dtype", list(TOLERANCE))


def trained(module, dtype=torch.float64, seed=0):
    """The module in evaluation mode with weights and statistics that training could have left."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.running_mean.normal_(generator=generator)
                layer.running_var.uniform_(0.2, 3, generator=generator)
                if layer.affine:
                    layer.weight.normal_(generator=generator)
                    layer.bias.normal_(generator=generator)
            elif hasattr(layer, "groups"):
                layer.weight.normal_(generator=generator)
    return module.to(dtype).eval()


def inputs(dims, channels, dtype=torch.float64):
    return torch.randn(2, channels, *SPATIAL[dims], generator=torch.Generator().manual_seed(1)).to(dtype)


def check_same(module, other, x):
    expected = module(x)
    assert (other(x) - expected).abs().max() <= TOLERANCE[x.dtype] * expected.abs().max()
    assert other(x).shape == expected.shape


@every_dims
@both_dtypes
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("make", [nd.conv, nd.conv_transpose])
def test_a_norm_becomes_part_of_its_convolution(dims, dtype, bias, affine, groups, make):
    conv = make(dims)(6, 12, 3, stride=2, padding=1, dilation=2, groups=groups, bias=bias)
    norm = nd.norm("batch", dims, 12, 1e-2) if affine else type(nd.norm("batch", dims, 12))(12, affine=False)
    both = trained(nn.Sequential(conv, norm), dtype)
    before = copy.deepcopy(both.state_dict())
    fused = fuse_conv_norm(*both)
    check_same(both, fused, inputs(dims, 6, dtype))
    assert type(fused) is type(conv) and fused.bias is not None and fused.weight.dtype == dtype
    assert all(torch.equal(before[key], value) for key, value in both.state_dict().items())


def test_fusing_by_hand():
    conv, norm = nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1, eps=1.0)
    for tensor, value in (
        (conv.weight, 2),
        (conv.bias, 10),
        (norm.running_mean, 1),
        (norm.running_var, 3),
        (norm.weight, 4),
        (norm.bias, 5),
    ):
        tensor.data.fill_(value)
    fused = fuse_conv_norm(conv, norm)  # the factor is 4 / sqrt(3 + 1) = 2
    assert fused.weight.item() == 2 * 2
    assert fused.bias.item() == 5 + (10 - 1) * 2


class Activated(nn.BatchNorm2d):
    """A norm with its activation inside, as timm has it."""

    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.BatchNorm2d(4, track_running_stats=False),
        nd.norm("layer", 2, 4),
        nd.norm("bias", 2, 4),
        Activated(4),
    ],
)
def test_norms_that_depend_on_their_input_stay(norm):
    assert not can_fold(norm)
    with pytest.raises(ConfigError, match="depends on its input and cannot become part of a convolution"):
        fuse_conv_norm(nn.Conv2d(3, 4, 1), norm)


def test_the_norm_of_another_layer_is_refused():
    with pytest.raises(ConfigError, match="a norm of 5 channels does not follow a convolution to 4"):
        fuse_conv_norm(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5))


@every_dims
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_dilated_kernels_made_dense(dims, dilation):
    """Equation 1 of UniRepLKNet is a transposed convolution with a single one."""
    kernel = torch.randn(4, 1, *(3,) * dims)
    transpose = getattr(F, f"conv_transpose{dims}d")
    expected = F.pad(transpose(kernel, torch.ones(1, 1, *(1,) * dims), stride=dilation), (2, 2) * dims)
    assert torch.equal(dense_kernel(kernel, (dilation,) * dims, (2 * dilation + 1 + 4,) * dims), expected)


def test_a_dilated_kernel_by_hand():
    kernel = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert dense_kernel(kernel, (2,), (7,)).flatten().tolist() == [0, 1, 0, 2, 0, 3, 0]


@every_dims
@both_dtypes
@pytest.mark.parametrize(("kernel", "small"), [(13, 5), (7, 7), (31, 5), (9, 0)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_a_small_kernel_is_merged_into_the_large_one(dims, dtype, kernel, small, stride, dilation):
    kernel = min(kernel, 13) if dims == 3 else kernel
    conv = trained(LargeKernelConv(4, kernel, small, dims=dims, stride=stride, dilation=dilation), dtype)
    merged = conv.merged()
    check_same(conv, merged, inputs(dims, 4, dtype))
    assert type(merged) is nd.conv(dims)
    assert sum(p.numel() for p in merged.parameters()) == 4 * kernel**dims + 4


@every_dims
@both_dtypes
@pytest.mark.parametrize("kernel", list(DILATED))
def test_dilated_kernels_are_merged_into_the_large_one(dims, dtype, kernel):
    conv = trained(DilatedConv(3, kernel, dims=dims), dtype)
    merged = conv.merged()
    check_same(conv, merged, inputs(dims, 3, dtype))
    assert type(merged) is nd.conv(dims) and merged.kernel_size == (kernel,) * dims


@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 2), (2, 3)])
def test_stride_and_dilation_of_dilated_kernels(stride, dilation):
    conv = trained(DilatedConv(3, 7, stride=stride, dilation=dilation))
    check_same(conv, conv.merged(), inputs(2, 3))


@pytest.mark.parametrize("kernel", list(DILATED))
def test_no_dilated_kernel_is_wider_than_the_large_one(kernel):
    assert all(rate * (k - 1) + 1 <= kernel for k, rate in DILATED[kernel])


@pytest.mark.parametrize("build", [LargeKernelConv, DilatedConv])
def test_other_norms(build):
    unnormalised = trained(build(4, 7, norm="none"))
    assert all(conv.bias is not None for conv, _ in unnormalised.branches())
    check_same(unnormalised, unnormalised.merged(), inputs(2, 4))
    grouped = build(4, 7, norm="group")
    assert not grouped.can_merge()
    with pytest.raises(ConfigError, match="GroupNorm depends on its input"):
        grouped.merged()
    assert all(norm.eps == 1e-3 for _, norm in build(4, 7, norm_eps=1e-3).branches())


@pytest.mark.parametrize("build", [LargeKernelConv, DilatedConv])
def test_every_branch_is_trained(build):
    conv = build(4, 7).double()
    (conv(inputs(2, 4)) ** 3).sum().backward()
    assert all(parameter.grad.any() for parameter in conv.parameters())


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (LargeKernelConv, (8, 5), "kernels must be odd and the small one not above 8, not 8 and 5"),
        (LargeKernelConv, (7, 9), "kernels must be odd and the small one not above 7, not 7 and 9"),
        (LargeKernelConv, (7, 4), "kernels must be odd and the small one not above 7, not 7 and 4"),
        (
            DilatedConv,
            (19,),
            "dilated re-parameterisation exists for kernels of 5, 7, 9, 11, 13, 15, 17, not 19",
        ),
    ],
)
def test_a_wrong_kernel_is_one_line(build, options, message):
    with pytest.raises(ConfigError, match=message):
        build(4, *options)
