"""The convolutional networks of the PTB-XL benchmark: its counts, its arithmetic and its names."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from core.compress.folding import deployed
from core.errors import DataError
from core.residual import list_rules
from tasks.ecg.models.resnets import ResNet1dWang, XResNet1d, from_benchmark

BOTTLENECKS = {"bottleneck": True}


def count(model):
    return sum(p.numel() for p in model.parameters())


def randomised(model):
    """Weights and statistics that no layer can hide behind."""
    generator = torch.Generator().manual_seed(0)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator) * 0.2 + 0.1
    return model.eval()


def norm(x, state, name):
    weights = (state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, *weights)


def head(x, state, names):
    first, linear, second, output = names
    x = torch.cat([x.max(-1).values, x.mean(-1)], 1)
    x = norm(x, state, first) @ state[f"{linear}.weight"].t() + state[f"{linear}.bias"]
    x = norm(x.relu(), state, second)
    return x @ state[f"{output}.weight"].t() + state[f"{output}.bias"]


def benchmark_state(leads=3, width=4, classes=2):
    """Weights of random numbers under the names of the benchmark's code."""
    rows = {"0": (width, leads, 7), "6.4": (128, 2 * width), "6.8": (classes, 128)}
    norms = {"1": width, "6.2": 2 * width, "6.6": 128}
    for stage in (3, 4, 5):
        rows |= {f"{stage}.0.conv1": (width, width, 5), f"{stage}.0.conv2": (width, width, 3)}
        norms |= {f"{stage}.0.bn1": width, f"{stage}.0.bn2": width}
        if stage > 3:
            rows[f"{stage}.0.downsample.0"] = (width, width, 1)
            norms[f"{stage}.0.downsample.1"] = width
    generator = torch.Generator().manual_seed(1)
    state = {f"{name}.weight": torch.randn(shape, generator=generator) for name, shape in rows.items()}
    state |= {
        f"{name}.bias": torch.randn(shape[0], generator=generator)
        for name, shape in rows.items()
        if name in ("6.4", "6.8")
    }
    for name, width in norms.items():
        for leaf in ("weight", "bias", "running_mean"):
            state[f"{name}.{leaf}"] = torch.randn(width, generator=generator)
        state[f"{name}.running_var"] = torch.rand(width, generator=generator) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


def wang_by_hand(x, state):
    x = norm(functional.conv1d(x, state["0.weight"], padding=3), state, "1").relu()
    for stage, stride in ((3, 1), (4, 2), (5, 2)):
        name = f"{stage}.0"
        y = functional.conv1d(x, state[f"{name}.conv1.weight"], stride=stride, padding=2)
        y = functional.conv1d(norm(y, state, f"{name}.bn1").relu(), state[f"{name}.conv2.weight"], padding=1)
        if stride == 2:
            x = norm(
                functional.conv1d(x, state[f"{name}.downsample.0.weight"], stride=2),
                state,
                f"{name}.downsample.1",
            )
        x = (norm(y, state, f"{name}.bn2") + x).relu()
    return head(x, state, ("6.2", "6.4", "6.6", "6.8"))


@pytest.mark.parametrize("length", [250, 33])
def test_wang_computes_what_the_benchmark_does_with_its_weights(length):
    state, x = benchmark_state(), torch.randn(2, 3, length)
    model = from_benchmark(state)
    assert not model.training
    torch.testing.assert_close(model(x), wang_by_hand(x, state), rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused():
    with pytest.raises(DataError, match=r"file\.pth is no resnet1d_wang"):
        from_benchmark({"weight": torch.zeros(2)}, "file.pth")
    state = benchmark_state()
    del state["4.0.bn1.bias"]
    with pytest.raises(DataError, match=r"blocks\.1\.bn1\.bias"):
        from_benchmark(state)


def test_the_benchmarks_counts():
    with torch.device("meta"):
        assert count(ResNet1dWang(12, 71)) == 481_863
        assert count(XResNet1d(12, 71)) == 373_447
        assert count(XResNet1d(12, 71, layers=(3, 4, 6, 3), **BOTTLENECKS)) == 962_503
        assert count(XResNet1d(12, 71, layers=(3, 4, 23, 3), **BOTTLENECKS)) == 1_880_775


def xresnet_by_hand(x, state, layers, bottleneck):
    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return functional.conv1d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    for i in range(3):
        x = norm(conv(x, f"stem.{3 * i}", 2 if i == 0 else 1), state, f"stem.{3 * i + 1}").relu()
    x, block = functional.max_pool1d(x, 3, 2, 1), 0
    for stage, blocks in enumerate(layers):
        for position in range(blocks):
            name, stride = f"blocks.{block}", 2 if stage and not position else 1
            y = x
            for i in range(1, 4 if bottleneck else 3):
                # The stride is in the first convolution that is longer than one sample.
                step = stride if i == (2 if bottleneck else 1) else 1
                y = norm(conv(y, f"{name}.conv{i}", step), state, f"{name}.bn{i}")
                y = y if i == (3 if bottleneck else 2) else y.relu()
            if stride == 2:
                x = functional.avg_pool1d(x, 2, ceil_mode=True)
            if f"{name}.downsample.1.weight" in state:
                x = norm(conv(x, f"{name}.downsample.1"), state, f"{name}.downsample.2")
            x, block = (x + y).relu(), block + 1
    return head(x, state, ("head.norm1", "head.linear", "head.norm2", "head.output"))


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("length", [250, 39])
def test_xresnet_by_hand(length, bottleneck):
    layers = (1, 2, 1)
    model = randomised(XResNet1d(3, 2, 8, 5, layers, bottleneck))
    state = {
        name: (weight - 0.2 if "conv" in name else weight) for name, weight in model.state_dict().items()
    }
    if bottleneck:  # the first shortcut has no pooling, so that its convolution is not where the others are
        assert "blocks.0.downsample.1.weight" in state
    model.load_state_dict(state)
    x = torch.randn(2, 3, length)
    torch.testing.assert_close(model(x), xresnet_by_hand(x, state, layers, bottleneck), rtol=1e-4, atol=1e-4)


def test_xresnet_starts_as_fastais():
    torch.manual_seed(0)
    model = XResNet1d(12, 5, layers=(1, 1), rule="add")
    block = model.blocks[0]
    assert block.bn2.weight.eq(0).all() and block.bn1.weight.eq(1).all()
    assert block.bn1.bias.eq(1e-3).all() and model.stem[1].bias.eq(1e-3).all()
    expected = (2 / (64 * 5)) ** 0.5  # of 64 channels and 5 samples
    assert abs(block.conv2.weight.std().item() / expected - 1) < 0.02
    gated = XResNet1d(12, 5, layers=(1, 1), rule="skipinit").blocks[0]
    assert gated.bn2.weight.eq(1).all()  # the rule's own zero is enough


@pytest.mark.parametrize("build", [ResNet1dWang, XResNet1d])
@pytest.mark.parametrize("rule", list_rules())
def test_any_rule_reaches_every_block_and_every_weight_of_it_learns(rule, build):
    torch.manual_seed(0)
    shape = {"width": 8} | ({"layers": (1, 1, 2)} if build is XResNet1d else {})
    model = build(12, 5, rule=rule, **shape)
    blocks = list(model.blocks)
    assert [block.rule.spec.index for block in blocks] == list(range(1, len(blocks) + 1))
    assert len({type(block.rule) for block in blocks}) == 1
    assert all(block.rule.spec.depth == len(blocks) for block in blocks)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)  # nothing is at a zero that gives no gradient
    logits = model(torch.randn(4, 12, 100))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for block in blocks
        for p in (block.conv1.weight, block.conv2.weight)
    )


@pytest.mark.parametrize("build", [ResNet1dWang, XResNet1d])
def test_norms_fold_into_their_convolutions(build):
    model, x = randomised(build(12, 5, 8)), torch.randn(2, 12, 100)
    copy, done = deployed(model)
    convolutions = sum(isinstance(layer, nn.Conv1d) for layer in model.modules())
    assert done.folded == convolutions
    torch.testing.assert_close(copy(x), model(x), rtol=1e-4, atol=1e-4)
