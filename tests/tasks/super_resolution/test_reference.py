"""Released layouts of RCAN and CARN, written here in functions, against what the readers make of their files."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError, DataError
from tasks.super_resolution.models.reference import load_reference

STEPS = {2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}


class Weights(dict):
    """Random weights by the names of a released file, and the convolutions that they are for."""

    def add(self, name, outputs, inputs, kernel=3, groups=1):
        size = inputs // groups * kernel**2
        self[f"{name}.weight"] = torch.randn(outputs, inputs // groups, kernel, kernel) / size**0.5
        self[f"{name}.bias"] = 0.1 * torch.randn(outputs)

    def conv(self, name, x):
        weight = self[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, self[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=groups)

    def saved(self, path, prefix=""):
        torch.save({prefix + key: value for key, value in self.items()}, path)
        return path


def rcan_weights(scale, channels, width, groups, blocks, squeezed):
    torch.manual_seed(2)
    w = Weights()
    w.add("sub_mean", channels, channels, 1)
    w.add("head.0", width, channels)
    for g in range(groups):
        for b in range(blocks):
            w.add(f"body.{g}.body.{b}.body.0", width, width)
            w.add(f"body.{g}.body.{b}.body.2", width, width)
            w.add(f"body.{g}.body.{b}.body.3.conv_du.0", squeezed, width, 1)
            w.add(f"body.{g}.body.{b}.body.3.conv_du.2", width, squeezed, 1)
        w.add(f"body.{g}.body.{blocks}", width, width)
    w.add(f"body.{groups}", width, width)
    for i, factor in enumerate(STEPS[scale]):
        w.add(f"tail.0.{2 * i}", factor**2 * width, width)
    w.add("tail.1", channels, width)
    w.add("add_mean", channels, channels, 1)
    return w


def rcan(w, x, scale, groups, blocks):
    """The released network, for images in [0, 255]."""
    head = y = w.conv("head.0", w.conv("sub_mean", x))
    for g in range(groups):
        start = y
        for b in range(blocks):
            name = f"body.{g}.body.{b}.body"
            update = w.conv(f"{name}.2", w.conv(f"{name}.0", y).relu())
            squeezed = w.conv(f"{name}.3.conv_du.0", update.mean((2, 3), True)).relu()
            y = y + update * w.conv(f"{name}.3.conv_du.2", squeezed).sigmoid()
        y = start + w.conv(f"body.{g}.body.{blocks}", y)
    y = head + w.conv(f"body.{groups}", y)
    for i, factor in enumerate(STEPS[scale]):
        y = F.pixel_shuffle(w.conv(f"tail.0.{2 * i}", y), factor)
    return w.conv("add_mean", w.conv("tail.1", y))


@pytest.mark.parametrize(("scale", "channels"), [(2, 3), (3, 1), (4, 3), (8, 3)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_rcan(tmp_path, scale, channels, prefix):
    w = rcan_weights(scale, channels, 8, 2, 3, 2)
    model = load_reference(w.saved(tmp_path / f"RCAN_BIX{scale}.pt", prefix))
    assert (model.scale, model.channels, model.training) == (scale, channels, False)
    x = torch.rand(2, channels, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(model(x), rcan(w, 255 * x, scale, 2, 3) / 255, atol=1e-5, rtol=1e-5)


def carn_weights(scales, width, groups, mobile):
    torch.manual_seed(3)
    w = Weights()
    w.add("sub_mean.shifter", 3, 3, 1)
    w.add("add_mean.shifter", 3, 3, 1)
    w.add("entry", width, 3)
    for b in "123":
        for u in "1" if mobile else "123":
            w.add(f"b{b}.b{u}.body.0", width, width, 3, groups)
            w.add(f"b{b}.b{u}.body.2", width, width, 3, groups)
            if mobile:
                w.add(f"b{b}.b{u}.body.4", width, width, 1)
        for u in "123":
            w.add(f"b{b}.c{u}.body.0", width, (int(u) + 1) * width, 1)
        w.add(f"c{b}.body.0", width, (int(b) + 1) * width, 1)
    for scale in scales:
        name = f"upsample.up{scale}" if len(scales) > 1 else "upsample.up"
        for i, factor in enumerate(STEPS[scale]):
            w.add(f"{name}.body.{3 * i}", factor**2 * width, width, 3, groups)
    w.add("exit", 3, width)
    return w


def carn(w, x, scale, mobile, single):
    def cascade(prefix, step, x):
        seen = x
        for i in "123":
            seen = torch.cat([seen, step(i, x)], 1)
            x = w.conv(f"{prefix}c{i}.body.0", seen).relu()
        return x

    def unit(name, x):
        y = w.conv(f"{name}.body.2", w.conv(f"{name}.body.0", x).relu())
        y = w.conv(f"{name}.body.4", y.relu()) if mobile else y
        return (y + x).relu()

    def block(b, x):
        return cascade(f"b{b}.", lambda u, x: unit(f"b{b}.b{'1' if mobile else u}", x), x)

    y = cascade("", block, w.conv("entry", w.conv("sub_mean.shifter", x)))
    for i, factor in enumerate(STEPS[scale]):
        name = "upsample.up" if single else f"upsample.up{scale}"
        y = F.pixel_shuffle(w.conv(f"{name}.body.{3 * i}", y).relu(), factor)
    return w.conv("add_mean.shifter", w.conv("exit", y))


@pytest.mark.parametrize(("groups", "mobile"), [(1, False), (4, True), (1, True)])
@pytest.mark.parametrize("scales", [(2, 3, 4), (2,), (3,), (4,)])
def test_carn(tmp_path, scales, groups, mobile):
    w = carn_weights(scales, 8, groups, mobile)
    model = load_reference(w.saved(tmp_path / "carn.pth"))
    assert model.scales == scales
    x = torch.rand(2, 3, 6, 5)
    with torch.no_grad():
        for scale in scales:
            expected = carn(w, x, scale, mobile, single=len(scales) == 1)
            torch.testing.assert_close(model(x, scale), expected, atol=1e-5, rtol=1e-5)


def test_sizes_are_the_released_ones():
    assert sum(w.numel() for w in carn_weights((2, 3, 4), 64, 1, False).values()) == 1_591_963
    assert sum(w.numel() for w in carn_weights((2, 3, 4), 64, 4, True).values()) == 414_811


def one_line(call, *patterns):
    with pytest.raises((ConfigError, DataError)) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for pattern in patterns:
        assert pattern in message


def test_what_does_not_fit_is_one_line(tmp_path):
    path = tmp_path / "net.pt"
    good = rcan_weights(2, 3, 8, 1, 1, 2)
    one_line(lambda: load_reference(tmp_path / "none.pt"), "none.pt", "cannot be read")
    one_line(lambda: load_reference(good.saved(path), "edsr"), "edsr", "layout")
    one_line(lambda: load_reference(good.saved(path), "carn"), "net.pt is no CARN: it has no entry.weight")
    one_line(
        lambda: load_reference(Weights({"conv.weight": torch.ones(1)}).saved(path)),
        "no released RCAN or CARN",
    )

    less = Weights({key: value for key, value in good.items() if key != "body.0.body.1.bias"})
    one_line(lambda: load_reference(less.saved(path)), "net.pt", "1 weight", "missing")
    more = Weights({**good, "tail.9.weight": torch.ones(1)})
    one_line(lambda: load_reference(more.saved(path)), "tail.9.weight", "unexpected")
    strange = Weights({**good, "tail.0.0.weight": torch.ones(40, 8, 3, 3)})
    one_line(lambda: load_reference(strange.saved(path)), "5 times the channels")
