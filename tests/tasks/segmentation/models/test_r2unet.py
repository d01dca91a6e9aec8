"""The U-Nets of five levels: released counts, any size, any rule, two and three axes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError
from core.residual import Residual, create_rule, list_rules
from tasks.segmentation.models.r2unet import VARIANTS, AttentionGate, FixedUNet
from tasks.segmentation.models.r2unet import ResConvBlock as Pair

RESIDUAL = [name for name in VARIANTS if VARIANTS[name].residual]
every_variant = pytest.mark.parametrize("variant", list(VARIANTS))
EXPORTED = (("r2attunet", 2), ("resunet", 3))
"""Between them they have all that the others have."""
SIZE = {2: (32, 16), 3: (16, 16, 32)}


def build(variant, in_channels=2, outputs=3, **options):
    torch.manual_seed(0)
    return FixedUNet(variant, in_channels, outputs, **{"base_width": 4, **options})


def images(dims=2, batch=2, channels=2, size=None):
    return torch.randn(batch, channels, *(size or SIZE[dims]), generator=torch.Generator().manual_seed(1))


def count(variant, in_channels=3, outputs=1, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in FixedUNet(variant, in_channels, outputs, **options).parameters())


@pytest.mark.parametrize(
    ("variant", "channels", "expected"),
    [
        ("unet", (3, 1), 34_527_041),
        ("resunet", (3, 1), 35_922_817),
        ("runet", (3, 1), 39_091_393),
        ("r2unet", (3, 1), 39_091_393),
        ("r2unet", (1, 1), 39_091_265),
        ("r2unet", (3, 20), 39_092_628),
        ("attunet", (3, 1), 34_878_573),
        ("r2attunet", (3, 1), 39_442_925),
    ],
)
def test_released_counts(variant, channels, expected):
    assert count(variant, *channels) == expected


@pytest.mark.parametrize("variant", ["runet", "r2unet", "r2attunet"])
def test_recurrences_have_no_weights(variant):
    assert len({count(variant, steps=steps) for steps in (0, 1, 2, 5)}) == 1


@pytest.mark.parametrize("dims", [2, 3])
@every_variant
def test_logits_have_the_size_of_the_image(variant, dims):
    network = build(variant, dims=dims).eval()
    assert network.deep_supervision is False
    for size in (SIZE[dims], (19, 5, 33)[:dims], (1,) * dims):
        assert network(images(dims, size=size)).shape == (2, 3, *size)


@every_variant
def test_padding_repeats_the_last_positions(variant):
    network = build(variant).eval()
    x = images(size=(20, 16))
    rows = torch.arange(32).clamp(max=19)
    torch.testing.assert_close(network(x), network(x[:, :, rows])[:, :, :20])


@pytest.mark.parametrize("dims", [2, 3])
@every_variant
def test_they_stand_what_networks_have_to(variant, dims, shake, stands):
    network = shake(build(variant, dims=dims, base_width=2, steps=1))
    stands(network, images(dims, size=(20, 17, 16)[:dims]), export=(variant, dims) in EXPORTED)


@pytest.mark.parametrize(
    ("variant", "rule"),
    [*(("r2unet", rule) for rule in list_rules()), ("resunet", "hires"), ("r2attunet", "hyper")],
)
def test_every_rule_trains(variant, rule):
    network = build(variant, rule=rule, steps=1)
    blocks = [m for m in network.modules() if isinstance(m, Residual)]
    assert [block.rule.spec.index for block in blocks] == list(range(1, 10))
    assert {type(block.rule) for block in blocks} == {type(create_rule(rule, channels=4))}
    touched = set()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(images(size=(16, 32))), torch.zeros(2, 16, 32, dtype=torch.long)).backward()
        optimizer.step()
        touched |= {key for key, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    # A batch norm takes off whatever the convolution before it adds.
    missed = {
        k for k, _ in network.named_parameters() if "rule" not in k and not k.endswith("conv.bias")
    } - touched
    assert not {key for key in missed if not key.endswith(("conv1.bias", "conv2.bias"))}


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in RESIDUAL])
@pytest.mark.parametrize("options", [{"rule": "scaled"}, {"rule_options": {"scale": 2}}])
def test_a_rule_without_residual_connections_is_one_line(variant, options):
    with pytest.raises(
        ConfigError, match=f"{variant} has no residual connections; take one of resunet, r2unet"
    ):
        build(variant, **options)


def test_a_wrong_option_is_one_line():
    with pytest.raises(ConfigError, match=r"unknown U-Net of five levels 'r2net'\. Did you mean 'r2unet'"):
        build("r2net")
    with pytest.raises(ConfigError, match=r"--model\.base_width must be 1 or more, not 0"):
        build("unet", base_width=0)
    with pytest.raises(ConfigError, match="steps of a recurrent block must be 0 or more, not -1"):
        build("r2unet", steps=-1)


def test_runet_is_r2unet_without_the_sum():
    with_sum, without = build("r2unet").eval(), build("runet").eval()
    without.load_state_dict(with_sum.state_dict())
    x = images()
    ours, theirs = with_sum.down[0][0], without.down[0][0]
    torch.testing.assert_close(ours(x), theirs(x) + ours.projection(x))


def test_the_block_of_resunet_by_hand():
    block = build("resunet").eval().down[0][0]
    assert isinstance(block, Pair)
    x = images()
    update = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
    projected = F.conv2d(x, block.downsample.weight, block.downsample.bias)
    torch.testing.assert_close(block(x), update + projected)
    assert (block(x) < 0).any(), "nothing is activated after the sum"
    block.zero_init_last()
    torch.testing.assert_close(block(x), projected, atol=1e-5, rtol=0)


def test_a_gate_weights_positions_between_0_and_1():
    gate = build("attunet").eval().gates[0]
    assert isinstance(gate, AttentionGate)
    g, x = images(channels=32), images(channels=32).abs() + 0.1
    weight = gate(g, x) / x
    assert ((weight > 0) & (weight < 1)).all()
    torch.testing.assert_close(weight, weight[:, :1].expand_as(weight), rtol=1e-4, atol=1e-5)


def test_norm_and_activation_are_those_asked_for():
    network = build("r2attunet", norm="instance", act="silu")
    kinds = {type(m).__name__ for m in network.modules()}
    assert {"InstanceNorm2d", "SiLU"} <= kinds and not {"BatchNorm2d", "ReLU"} & kinds
