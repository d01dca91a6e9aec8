"""``python -m core.backbones`` and its counts, against hand formulas and published numbers."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from benchmarks.backbones import EDGE, KINDS, check_alike, networks, paired, row
from core import nd
from core.backbones import BACKBONES, create_backbone, list_backbones
from core.backbones.__main__ import SELECTION, choose, main, markdown, table
from core.backbones.cost import count_cost, count_macs, default_size, forward_seconds
from core.errors import ConfigError


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_convolution_costs_what_the_formula_says(dims, groups):
    conv = nd.conv(dims)(6, 12, 3, stride=2, padding=1, groups=groups).to("meta")
    forward = 4**dims * 12 * (6 // groups) * 3**dims  # outputs, channels, what each is a sum of
    x = torch.empty(5, 6, *(8,) * dims, device="meta")
    assert count_macs(lambda: conv(x)) == 5 * forward
    if groups > 1:
        return
    # The gradients of weights and of the input are as many products again, each.
    assert count_macs(lambda: conv(x).sum().backward()) == 5 * 2 * forward
    x.requires_grad_()
    assert count_macs(lambda: conv(x).sum().backward()) == 5 * 3 * forward


def test_a_linear_layer_is_counted_and_a_norm_is_not():
    model = nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 11), nn.ReLU()).to("meta")
    assert count_macs(lambda: model(torch.empty(3, 7, device="meta"))) == 3 * 7 * 11


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnet152", "wide_resnet50_2", "resnext50_32x4d", "resnext101_64x4d"]
)
def test_images_cost_what_torchvision_publishes(name):
    """Its figures are with the classifier of 1000 classes: GMACs rounded to 3 digits after the point."""
    published = next(iter(torchvision.models.get_model_weights(name))).meta
    cost = count_cost(name, 2, 224)
    channels = cost.features[-1][0]
    assert cost.macs + 1000 * channels == pytest.approx(1e9 * published["_ops"], abs=0.6e6)
    assert cost.parameters + 1000 * (channels + 1) == published["num_params"]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_basic_blocks_cost_what_the_formula_says(dims):
    """ResNet-20: a stem of 16 channels and three stages of 6 convolutions at 1, 1/2 and 1/4 of the resolution."""
    taps, places = 3**dims, 32**dims
    macs = places * taps * (3 * 16 + 6 * 16 * 16)
    for stage, width in ((1, 32), (2, 64)):
        macs += places // 2 ** (stage * dims) * taps * (width // 2 * width + 5 * width * width)
    cost = count_cost("resnet20_cifar", dims, 32)
    assert cost.macs == macs
    assert cost.features == ((16, 1), (32, 2), (64, 4))


@pytest.mark.parametrize(
    "name", ["resnet18", "fixup_resnet20_cifar", "mobilenetv2_100", "p3d63", "tcn", "dpn68"]
)
def test_counts_are_those_of_a_real_pass(name):
    dims = BACKBONES[name].spec.allowed_dims[0]
    model = create_backbone(name, dims=dims, in_channels=2).eval()
    cost = count_cost(name, dims, 32, in_channels=2)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert cost.macs == count_macs(lambda: model(torch.zeros(1, 2, *(32,) * dims)))


def test_every_family_is_in_the_selection():
    families = {BACKBONES[name].model for name in list_backbones()}
    assert {BACKBONES[name].model for name in SELECTION} == families
    assert choose(None, False) == list(SELECTION)
    assert choose(None, True) == list_backbones()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("resnet18", (1024, 224, 64)), ("wrn28_10", (1024, 32, 32)), ("rdnet_tiny", (1024, 224, 64))],
)
def test_sizes(name, sizes):
    assert tuple(default_size(name, dims) for dims in (1, 2, 3)) == sizes


def test_the_table():
    rows = table(["resnet18", "tcn"], [1, 2], features=True)
    assert rows[0] == [
        "backbone",
        "input",
        "params 1-D, M",
        "params 2-D, M",
        "MACs 1-D, G",
        "MACs 2-D, G",
        "channels / reduction",
    ]
    assert rows[1][:2] == ["resnet18", "1024, 224"] and rows[1][3:6:2] == ["11.177", "1.814"]
    assert rows[1][-1] == "64/4 128/8 256/16 512/32"
    assert rows[2][1] == "1024" and rows[2][3] == rows[2][5] == "-"
    assert len(table(["resnet18", "tcn"], [3])) == 2  # there is no TCN for volumes


def test_times_are_positive_and_leave_torch_as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    rows = table(["resnet20_cifar", "p3d63"], [1, 2], size=32, timed=True)
    assert rows[0][-2:] == ["CPU 1-D, s", "CPU 2-D, s"]
    assert len(rows) == 2 and all(0 < float(seconds) < 10 for seconds in rows[1][-2:])
    assert forward_seconds("resnet20_cifar", 3, 8, repeats=1) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_command(capsys):
    assert main(["--pattern", "resnet18*", "--dims", "2", "--markdown", "--time", "--size", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| backbone | input | params 2-D, M | MACs 2-D, G | CPU 2-D, s |"
    assert lines[1] == "|---|---:|---:|---:|---:|"
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| resnet18", "| resnet18d"]
    assert "torch" in lines[-1] and "seed 0" in lines[-1]
    assert main(["--pattern", "resnet18", "--dims", "2"]) == 0
    assert "1.814" in capsys.readouterr().out


def test_a_wrong_argument_is_one_line(capsys):
    with pytest.raises(
        ConfigError, match=r"--pattern 'rsnet18' matches no backbone\. Did you mean 'resnet18'"
    ):
        choose("rsnet18", False)
    assert main(["--pattern", "rsnet18"]) == 2
    assert capsys.readouterr().err.startswith("error: --pattern 'rsnet18'")
    with pytest.raises(SystemExit):
        main(["--size", "8"])
    assert "'8' is not a whole number of 32 or more" in capsys.readouterr().err


def test_markdown():
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n|---|---:|\n| 1 | 2 |"


@pytest.mark.parametrize("kind", KINDS)
def test_the_benchmark_compares_like_with_like(kind):
    """Same outputs or losses after the same weights, and as many multiplications, or it does not run."""
    x, target = torch.randn(2, 3, 32, 32), torch.tensor([3, 5])
    runs = {name: KINDS[kind](net, x, target) for name, net in networks("resnet18").items()}
    assert list(runs) == ["core", "timm", "torchvision"]
    forward = 2 * (count_cost("resnet18", 2, 32).macs + 1000 * 512)
    stem = 2 * 16**2 * 64 * 3 * 7**2  # nobody needs the gradient of the image
    assert check_alike(runs) == (forward if kind == "forward" else 3 * forward - stem)
    with pytest.raises(AssertionError):
        check_alike({**runs, "timm": lambda: torch.zeros(())})


def test_ratios_are_taken_within_a_round():
    """A round at half speed hits all alike; the ratio of the median CPU times would be 1.25."""
    times = {
        "core": [(1.0, 2.0), (2.0, 4.0), (4.0, 8.0)],
        "timm": [(1.0, 1.0), (1.6, 2.0), (4.0, 4.0)],
        "torchvision": [(9.0, 9.0)] * 3,
        "matmul": [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)],
    }
    assert paired(times, "core", "timm", 0) == pytest.approx((1.0, 1.0, 1.125))
    assert row(times, macs=EDGE**3) == [
        "4000.0",
        "2000.0",
        "9000.0",
        "50%",
        "1.000 (1.00-1.12) timm",
        "2.000 (2.00-2.00) timm",
    ]
