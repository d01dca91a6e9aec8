"""Faster forms compute the same and are taken only where they do."""

from __future__ import annotations

import pytest
import torch
from tiled_nets import Enlarging
from torch import nn

from core.infer import fast
from core.infer.fast import Winograd3x3, fastest, suits_winograd, with_channels_last, with_winograd


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(4)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Shared(nn.Module):
    """A network that uses one layer twice and has layers that do not suit."""

    channels, scale, halo = 2, 1, 4

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(2, 16, 3, padding=1)
        self.first = self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.dilated = nn.Conv2d(16, 16, 3, padding=2, dilation=2)
        self.tail = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        return self.tail(self.dilated(self.again(self.first(self.head(x)).relu())).relu())


@pytest.mark.parametrize(
    ("options", "suits"),
    [
        ({}, True),
        ({"padding": "same"}, False),
        ({"stride": 2}, False),
        ({"dilation": 2}, False),
        ({"groups": 2}, False),
        ({"kernel_size": 5}, False),
        ({"padding": 1, "padding_mode": "reflect"}, False),
        ({"in_channels": 8}, False),
    ],
)
def test_which_layers_suit(options, suits):
    conv = nn.Conv2d(**{"in_channels": 16, "out_channels": 16, "kernel_size": 3} | options)
    assert suits_winograd(conv) == suits


needs_nnpack = pytest.mark.skipif(
    not torch._nnpack_available(), reason="this PyTorch has no NNPACK for this CPU"
)


@needs_nnpack
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_winograd_is_the_convolution(one_thread, monkeypatch, padding, bias):
    conv = nn.Conv2d(16, 20, 3, padding=padding, bias=bias)
    x = torch.randn(2, 16, 13, 10)
    calls, run = [], torch._nnpack_spatial_convolution
    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", lambda *args: calls.append(1) or run(*args))
    winograd = Winograd3x3.of(conv)
    with torch.no_grad():
        torch.testing.assert_close(winograd(x), conv(x), atol=1e-4, rtol=1e-5)
    assert calls
    # Where gradients are wanted it is the plain one, exactly.
    calls.clear()
    assert torch.equal(winograd(x), conv(x))
    assert not calls


def test_winograd_can_be_exported():
    winograd = Winograd3x3.of(nn.Conv2d(16, 16, 3, padding=1)).eval()
    x = torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        program = torch.export.export(winograd, (x,))
        assert not any("nnpack" in str(node.target) for node in program.graph.nodes)
        torch.testing.assert_close(program.module()(x), winograd(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", [with_winograd, with_channels_last])
def test_forms_leave_the_model_as_it_is(one_thread, change):
    model = Shared().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    form = change(model)
    assert (form.channels, form.scale, form.halo) == (2, 1, 4)
    assert form.first is form.again
    assert type(model.first) is nn.Conv2d
    x = torch.randn(1, 2, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(form(x), model(x), atol=1e-5, rtol=1e-5)
    assert list(form.state_dict()) == list(before)
    assert all(torch.equal(value, form.state_dict()[name]) for name, value in before.items())


def timings(monkeypatch, seconds, wrong=()):
    """Makes the clock return ``seconds`` by form, and some forms compute something else."""
    timed = fast._timed

    def kind(model):
        if any(isinstance(module, Winograd3x3) for module in model.modules()):
            return "winograd"
        weight = model.head.weight
        return "plain" if weight.is_contiguous() else "channels_last"

    def measured(model, x, scale):
        name = kind(model)
        if seconds[name] is None:
            raise RuntimeError("not on this machine")
        return timed(model, x, scale)[0] + (1e-3 if name in wrong else 0), seconds[name]

    monkeypatch.setattr(fast, "_timed", measured)


@needs_nnpack
@pytest.mark.parametrize(
    ("seconds", "wrong", "name"),
    [
        ({"plain": 0.3, "channels_last": 0.2, "winograd": 0.1}, (), "winograd, 3.0x"),
        ({"plain": 0.3, "channels_last": 0.2, "winograd": 0.1}, ("winograd",), "channels_last, 1.5x"),
        ({"plain": 0.3, "channels_last": 0.2, "winograd": None}, (), "channels_last, 1.5x"),
        ({"plain": 0.3, "channels_last": 0.299, "winograd": 0.4}, (), "plain"),
        ({"plain": None, "channels_last": 0.2, "winograd": 0.4}, (), "plain"),
    ],
)
def test_the_fastest_safe_form_is_taken(one_thread, monkeypatch, seconds, wrong, name):
    timings(monkeypatch, seconds, wrong)
    model = Shared().eval()
    form, chosen = fastest(model, torch.zeros(1, 2, 16, 16))
    assert chosen == name
    assert (form is model) == (name == "plain")


def test_winograd_is_not_tried_with_several_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    timings(monkeypatch, {"plain": 0.3, "channels_last": 0.2, "winograd": 0.1})
    assert fastest(Shared().eval(), torch.zeros(1, 2, 16, 16))[1] == "channels_last, 1.5x"


def test_it_runs_for_networks_of_several_scales():
    model = Enlarging().eval()
    form, name = fastest(model, torch.zeros(1, 3, 64, 64), scale=3)
    x = torch.rand(1, 3, 10, 10)
    torch.testing.assert_close(form(x, 3), model(x, 3), atol=1e-5, rtol=1e-5)
    assert name
