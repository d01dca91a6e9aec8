"""Planned U-Nets: published counts, a plain statement of the forward pass, deep supervision, copies."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError
from core.residual import Residual, create_rule, list_rules
from tasks.segmentation.models.planned import PlannedUNet

SIX, SEVEN = (32, 64, 128, 256, 320, 320), (32, 64, 128, 256, 512, 512, 512)
every_dims = pytest.mark.parametrize("dims", [2, 3])
both = pytest.mark.parametrize("residual", [True, False])


def build(plan, in_channels=2, outputs=3, **options):
    torch.manual_seed(0)
    return PlannedUNet(plan, in_channels, outputs, **options)


def patches(plan, batch=2, channels=2, size=None):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, *(size or plan.patch_size), generator=generator)


@pytest.mark.parametrize(
    ("dims", "residual", "widths", "blocks", "outputs", "expected"),
    [
        (3, False, SIX[:4], (2,) * 4, 3, 5_603_177),
        (3, True, SIX[:4], (1, 3, 4, 6), 3, 25_895_593),
        (3, False, SIX, (2,) * 6, 3, 31_196_399),
        (3, True, SIX, (1, 3, 4, 6, 6, 6), 3, 102_350_575),
        (3, True, SIX, (1, 3, 4, 6, 6, 6), 1, 102_348_965),
        (2, False, SEVEN, (2,) * 7, 3, 33_473_330),
        (2, True, SEVEN, (1, 3, 4, 6, 6, 6, 6), 3, 105_918_322),
    ],
)
def test_published_counts(make_plan, dims, residual, widths, blocks, outputs, expected):
    plan = make_plan(dims, residual, widths=widths, blocks=blocks, even=True)
    for deep_supervision in (True, False):
        with torch.device("meta"):
            network = build(plan, 1, outputs, deep_supervision=deep_supervision)
        assert sum(p.numel() for p in network.parameters()) == expected
    # Each is there once: nnU-Net's own have 536 names for 149 in one of these.
    assert len(network.state_dict()) == len(list(network.parameters()))
    if widths == SIX and residual:
        assert sum(p.numel() for p in network.encoder.parameters()) == 90_296_576


def by_hand(state, plan, x):
    """The forward pass on weights by name, stage by stage; returns the logits from the finest."""
    flat = {2: F.conv2d, 3: F.conv3d}[plan.dims]
    up = {2: F.conv_transpose2d, 3: F.conv_transpose3d}[plan.dims]
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[plan.dims]

    def layer(x, conv, norm, stride=1, kernel=None, act=True):
        pad = [(k - 1) // 2 for k in state[f"{conv}.weight"].shape[2:]]
        assert kernel is None or list(state[f"{conv}.weight"].shape[2:]) == list(kernel)
        x = flat(x, state[f"{conv}.weight"], state.get(f"{conv}.bias"), stride, pad)
        x = F.instance_norm(x, weight=state[f"{norm}.weight"], bias=state[f"{norm}.bias"], eps=1e-5)
        return F.leaky_relu(x, 0.01) if act else x

    def pair(x, at, **options):
        return layer(x, f"{at}.conv", f"{at}.bn", **options)

    skips = []
    if plan.residual:
        x = pair(x, "encoder.stem", kernel=plan.kernels[0])
    for stage, count in enumerate(plan.blocks):
        for block in range(count):
            at, stride = f"encoder.stages.{stage}.{block}", plan.strides[stage] if block == 0 else 1
            if not plan.residual:
                x = pair(x, at, stride=stride, kernel=plan.kernels[stage])
                continue
            update = layer(x, f"{at}.conv1", f"{at}.bn1", stride, plan.kernels[stage])
            update = layer(update, f"{at}.conv2", f"{at}.bn2", 1, plan.kernels[stage], act=False)
            if stage and block == 0:
                x = layer(
                    pool(x, stride, stride),
                    f"{at}.downsample.1",
                    f"{at}.downsample.2",
                    act=False,
                    kernel=(1,) * plan.dims,
                )
            x = F.leaky_relu(x + update, 0.01)
        skips.append(x)
    x, logits = skips.pop(), []
    for i in range(len(plan.widths) - 1):
        stage = len(skips) - 1
        stride = plan.strides[stage + 1]
        x = up(x, state[f"decoder.{i}.up.weight"], state[f"decoder.{i}.up.bias"], stride)
        x = torch.cat([x, skips.pop()], dim=1)
        for conv in range(plan.decoder_convs[stage]):
            x = pair(x, f"decoder.{i}.convs.{conv}", kernel=plan.kernels[stage])
        logits.append(flat(x, state[f"segment.{i}.weight"], state[f"segment.{i}.bias"]))
    return logits[::-1]


@every_dims
@both
def test_the_forward_pass_by_hand(make_plan, shake, dims, residual):
    plan = make_plan(dims, residual, decoder_convs=(2, 1))
    network = shake(build(plan))
    x = patches(plan)
    expected = by_hand(network.state_dict(), plan, x)
    assert expected[0].std() > 0.05
    torch.testing.assert_close(network(x), expected[0])
    given = network.train()(x)
    assert [y.shape for y in given] == [y.shape for y in expected] and len(given) == 2
    for ours, theirs in zip(given, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@every_dims
@both
def test_it_stands_what_networks_have_to(make_plan, shake, stands, dims, residual):
    plan = make_plan(dims, residual)
    stands(shake(build(plan)), patches(plan), export=residual or dims == 2)


@both
def test_deep_supervision_is_switched(make_plan, residual):
    plan = make_plan(2, residual)
    network, x = build(plan), patches(plan)
    assert isinstance(network.train()(x), list) and isinstance(network.eval()(x), torch.Tensor)
    network.train().deep_supervision = False
    assert network(x).shape == (2, 3, 16, 12)
    plain = build(plan, deep_supervision=False)
    assert (
        plain.train()(x).shape == (2, 3, 16, 12) and plain.state_dict().keys() == network.state_dict().keys()
    )
    plain(x).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in plain.parameters())
    assert not plain.segment[0].weight.requires_grad and plain.segment[1].weight.requires_grad


@every_dims
def test_other_sizes_are_padded_and_cropped(make_plan, shake, dims):
    plan = make_plan(dims)
    network, size = shake(build(plan)), (5, 7, 10)[-dims:]
    x = patches(plan, size=size)
    y = network(x)
    assert y.shape == (2, 3, *size)
    larger = (6, 8, 12) if dims == 3 else (8, 10)
    last = [torch.arange(n).clamp(max=m - 1) for n, m in zip(larger, size, strict=True)]
    for axis, index in enumerate(last):
        x = x.index_select(axis + 2, index)
    torch.testing.assert_close(y, network(x)[(..., *(slice(n) for n in size))])
    coarse = network.train()(patches(plan, size=size))[1]
    assert coarse.shape[2:] == tuple(-(-n // s) for n, s in zip(size, plan.strides[1], strict=True))


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule(make_plan, rule):
    plan = make_plan(3)
    network = build(plan, rule=rule)
    for y in network.train()(patches(plan)):
        assert y.isfinite().all()
        y.square().sum().backward(retain_graph=True)
    rules = [m.rule for m in network.encoder.modules() if isinstance(m, Residual)]
    assert [type(r) for r in rules] == [type(create_rule(rule, channels=4, dims=3))] * 5
    assert [r.spec.index for r in rules] == [1, 2, 3, 4, 5]


def test_it_starts_as_nnunet_does(make_plan):
    network = build(make_plan(3, widths=(32, 64, 96), blocks=(1, 1, 1)))
    blocks = [m for m in network.encoder.modules() if isinstance(m, Residual)]
    assert all(not b.bn2.weight.any() and not b.bn2.bias.any() and b.bn1.weight.all() for b in blocks)
    he = (2 / (1 + 0.01**2)) ** 0.5
    conv, up = network.decoder[0].convs[0].conv, network.decoder[0].up
    assert conv.weight.std().item() == pytest.approx(he / (128 * 27) ** 0.5, rel=0.03)
    assert up.weight.std().item() == pytest.approx(he / (64 * 8) ** 0.5, rel=0.03)  # outputs x kernel
    assert not conv.bias.any() and not up.bias.any() and not network.segment[1].bias.any()


def test_a_rule_without_residual_connections_is_one_line(make_plan):
    with pytest.raises(ConfigError, match="have no residual rule: leave it 'add'"):
        build(make_plan(3, residual=False), rule="scaled")
    with pytest.raises(ConfigError, match="unknown residual rule 'ad'"):
        build(make_plan(3), rule="ad")
