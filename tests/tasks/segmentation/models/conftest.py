"""Plans of small and of published networks, and what every network has to stand."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from core.compress.folding import deploy
from tasks.segmentation.planning.plan import Plan

STRIDES = {
    2: ((1, 1), (2, 1), (2, 2)),
    3: ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
}
KERNELS = {
    2: ((3, 1), (3, 3), (3, 3)),
    3: ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
}
PATCH = {2: (16, 12), 3: (4, 8, 12)}


@pytest.fixture
def make_plan():
    def make(dims=3, residual=True, *, widths=(4, 6, 8), blocks=(1, 2, 2), decoder_convs=None, even=False):
        count = len(widths)
        strides = ((1,) * dims, *((2,) * dims for _ in widths[1:])) if even else STRIDES[dims]
        kernels = ((3,) * dims,) * count if even else KERNELS[dims]
        return Plan(
            configuration="2d" if dims == 2 else "3d_fullres",
            preset="test",
            transpose=(0, 1, 2),
            spacing=(1.0,) * dims,
            patch_size=PATCH[dims],
            batch_size=2,
            median_shape=(32.0,) * dims,
            normalisation=("zscore",),
            masked_normalisation=(False,),
            intensities=(),
            strides=strides,
            kernels=kernels,
            widths=widths,
            blocks=blocks,
            decoder_convs=decoder_convs or ((1,) if residual else (2,)) * (count - 1),
            residual=residual,
            batch_dice=False,
        )

    return make


@pytest.fixture
def shake():
    """Random scales, shifts and statistics: initial ones hide a wrong order of layers."""

    def shaken(network):
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.rand(parameter.shape, generator=generator) + 0.1)
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.running_mean.normal_(0, 0.3, generator=generator)
                    module.running_var.uniform_(0.5, 2, generator=generator)
        return network.eval()

    return shaken


@pytest.fixture
def stands():
    """Pickled, copied, saved, deployed, and exported with any batch, a network gives what it gave."""

    def check(network, x, export=True):
        with torch.no_grad():
            network.eval()
            expected = network(x)
            assert torch.equal(pickle.loads(pickle.dumps(network))(x), expected)
            other = copy.deepcopy(network)
            assert torch.equal(other(x), expected)
            for parameter in other.parameters():
                parameter.zero_()
            other.load_state_dict(load(save(network.state_dict())))
            assert torch.equal(other(x), expected)
            scale = expected.abs().max().item()
            torch.testing.assert_close(deploy(network)(x), expected, rtol=1e-4, atol=1e-5 * scale)
            if not export:  # which takes seconds
                return
            batch = torch.export.Dim("batch", min=2, max=8)
            program = torch.export.export(network, (x,), dynamic_shapes=({0: batch},), strict=False).module()
            more = torch.cat([x, x.flip(0) + 0.1])
            torch.testing.assert_close(program(more), network(more), rtol=1e-4, atol=1e-5 * scale)

    return check
