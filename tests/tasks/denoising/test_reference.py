"""Released layouts of DnCNN and RIDNet, built here as plain layers, against what the readers make of their files."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.compress.folding import deploy
from core.errors import ConfigError, DataError
from tasks.denoising.models.reference import load_reference

WIDTH = 6


def close(model, x, expected):
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=0)


def row(channels, layers, norm, biases, eps):
    """A noise predictor as released: (conv, [norm,] ReLU) times layers - 1, conv; in evaluation mode."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(channels, WIDTH, 3, padding=1, bias=biases[0]), nn.ReLU()]
    for _ in range(layers - 2):
        parts.append(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=biases[1]))
        if norm:
            parts.append(nn.BatchNorm2d(WIDTH, eps=eps))
            for values in (parts[-1].weight, parts[-1].bias, parts[-1].running_mean):
                nn.init.normal_(values)
            nn.init.uniform_(parts[-1].running_var, 1e-4, 0.5)
        parts.append(nn.ReLU())
    parts.append(nn.Conv2d(WIDTH, channels, 3, padding=1, bias=biases[2]))
    return nn.Sequential(*parts).eval()


def saved(path, state, prefix=""):
    torch.save(OrderedDict((prefix + key, value) for key, value in state.items()), path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("prefix", "norm", "biases", "eps"),
    [
        ("model.", True, (True, True, True), 1e-4),  # KAIR
        ("model.", False, (True, True, True), 0),  # KAIR, folded
        ("dncnn.", True, (True, False, False), 1e-4),  # the authors' first PyTorch code
        ("dncnn.", True, (False, False, False), 1e-5),  # SaoYan
        ("module.dncnn.", True, (False, False, False), 1e-5),  # SaoYan, as it was saved
    ],
)
def test_dncnn_of_pytorch_files(tmp_path, channels, prefix, norm, biases, eps):
    noise = row(channels, 5, norm, biases, eps)
    model = load_reference(saved(tmp_path / "net.pth", noise.state_dict(), prefix))
    x = torch.rand(2, channels, 9, 11)
    close(model, x, x - noise(x))
    close(deploy(model), x, x - noise(x))
    assert not model.training
    assert (model.channels, model.halo) == (channels, 5)


@pytest.mark.parametrize(("layers", "channels"), [(17, 1), (20, 3)])
def test_depth_is_that_of_the_file(tmp_path, layers, channels):
    noise = row(channels, layers, False, (True, True, True), 0)
    assert load_reference(saved(tmp_path / "net.pth", noise.state_dict(), "model.")).halo == layers


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_in_matlabs_order_under_pytorch_names(tmp_path, channels):
    noise = row(channels, 4, False, (True, True, True), 0)
    state = {k: v.permute(2, 3, 1, 0) if v.ndim == 4 else v for k, v in noise.state_dict().items()}
    if channels == 1:  # axes of one that a squeeze has taken off
        state = {key: value.squeeze() if value.ndim == 4 else value for key, value in state.items()}
    x = torch.rand(1, channels, 8, 8)
    close(load_reference(saved(tmp_path / "net.pt", state, "model.")), x, x - noise(x))


def mat_file(path, noise):
    """What MATLAB has: cells of structs, filters (3, 3, I, O) without last axes of 1, moments (C, 2) with roots."""
    from scipy.io import savemat

    def cells(*values):
        cell = np.empty((1, len(values)), dtype=object)
        for i, value in enumerate(values):
            cell[0, i] = value
        return cell

    layers = []
    for layer in noise:
        if isinstance(layer, nn.Conv2d):
            filters = layer.weight.detach().permute(2, 3, 1, 0).numpy()
            filters = filters[..., 0] if filters.shape[-1] == 1 else filters
            bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
            layers.append({"type": "conv", "weights": cells(filters, bias.numpy()[None]), "pad": 1})
        elif isinstance(layer, nn.BatchNorm2d):
            moments = torch.stack([layer.running_mean, (layer.running_var + layer.eps).sqrt()], 1).numpy()
            scale, shift = layer.weight.detach().numpy()[:, None], layer.bias.detach().numpy()[:, None]
            layers.append({"type": "bnorm", "weights": cells(scale, shift, moments)})
        else:
            layers.append({"type": "relu", "leak": 0})
    savemat(path, {"net": {"layers": cells(*layers), "meta": {"trained": "here"}}})
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", [True, False])
def test_dncnn_of_matlab_files(tmp_path, channels, norm):
    noise = row(channels, 4, norm, (True, not norm, True), 1e-4)
    model = load_reference(mat_file(tmp_path / "sigma=25.mat", noise))
    x = torch.rand(1, channels, 8, 10)
    close(model, x, x - noise(x))


def ridnet_state(channels, width, blocks, squeezed):
    """Random weights under the names and in the shapes of ridnet.pt."""
    torch.manual_seed(1)
    state = {}

    def layer(name, outputs, inputs, kernel):
        state[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs)

    layer("sub_mean", channels, channels, 1)
    layer("add_mean", channels, channels, 1)
    layer("head.body.0", width, channels, 3)
    for b in range(1, blocks + 1):
        for name in ("r1.body1.0", "r1.body1.2", "r1.body2.0", "r1.body2.2"):
            layer(f"b{b}.{name}", width, width, 3)
        layer(f"b{b}.r1.body3.0", width, 2 * width, 3)
        for name in ("r2.body.0", "r2.body.2", "r3.body.0", "r3.body.2"):
            layer(f"b{b}.{name}", width, width, 3)
        layer(f"b{b}.r3.body.4", width, width, 1)
        layer(f"b{b}.ca.c1.body.0", squeezed, width, 1)
        layer(f"b{b}.ca.c2.body.0", width, squeezed, 1)
    layer("tail", channels, width, 3)
    return state


def ridnet(state, x, blocks):
    """The released network in functions, for images in [0, 255]."""

    def conv(name, x, dilation=1):
        weight = state[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=padding, dilation=dilation)

    h = conv("head.body.0", conv("sub_mean", x)).relu()
    for b in (f"b{i}" for i in range(1, blocks + 1)):
        near = conv(f"{b}.r1.body1.2", conv(f"{b}.r1.body1.0", h).relu(), 2).relu()
        far = conv(f"{b}.r1.body2.2", conv(f"{b}.r1.body2.0", h, 3).relu(), 4).relu()
        h = conv(f"{b}.r1.body3.0", torch.cat([near, far], 1)).relu() + h
        h = (conv(f"{b}.r2.body.2", conv(f"{b}.r2.body.0", h).relu()) + h).relu()
        inner = conv(f"{b}.r3.body.2", conv(f"{b}.r3.body.0", h).relu()).relu()
        h = (conv(f"{b}.r3.body.4", inner) + h).relu()
        gate = conv(f"{b}.ca.c2.body.0", conv(f"{b}.ca.c1.body.0", h.mean((2, 3), True)).relu()).sigmoid()
        h = h * gate
    return conv("add_mean", conv("tail", h)) + x


@pytest.mark.parametrize(("channels", "width", "blocks", "squeezed"), [(3, 8, 2, 2), (1, 6, 1, 3)])
def test_ridnet(tmp_path, channels, width, blocks, squeezed):
    state = ridnet_state(channels, width, blocks, squeezed)
    model = load_reference(saved(tmp_path / "ridnet.pt", state))
    x = torch.rand(2, channels, 12, 13)
    close(model, x, ridnet(state, 255 * x, blocks) / 255)


def test_ridnet_of_the_released_size(tmp_path):
    state = ridnet_state(3, 64, 4, 4)
    assert sum(weight.numel() for weight in state.values()) == 1_499_371
    model = load_reference(saved(tmp_path / "ridnet.pt", state))
    assert sum(weight.numel() for weight in model.parameters()) == 1_499_371


def one_line(call, *patterns):
    with pytest.raises((ConfigError, DataError)) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for pattern in patterns:
        assert pattern in message


def test_what_does_not_fit_is_one_line(tmp_path):
    net = tmp_path / "net.pth"
    plain = row(1, 4, True, (False, False, False), 1e-5).state_dict()
    one_line(lambda: load_reference(tmp_path / "none.pth"), "none.pth", "cannot be read")
    one_line(lambda: load_reference(tmp_path / "none.mat"), "none.mat", "cannot be read")
    one_line(lambda: load_reference(saved(net, plain, "dncnn."), "keras"), "keras", "layout")
    one_line(lambda: load_reference(saved(net, plain, "dncnn."), "ridnet"), "is no RIDNet")
    one_line(
        lambda: load_reference(saved(net, {"fc.weight": torch.ones(2, 2)})), "fc.weight", "layout", "kair"
    )
    one_line(lambda: load_reference(saved(net, {"fc.weight": torch.ones(2, 2)}), "kair"), "fc.weight")

    state = ridnet_state(3, 8, 1, 2)
    state.pop("b1.r2.body.2.weight")
    one_line(lambda: load_reference(saved(net, state)), "net.pth", "1 weight", "missing")

    kair = row(1, 4, True, (True, True, True), 1e-4).state_dict()
    one_line(lambda: load_reference(saved(net, kair, "dncnn.")), "convolution 2 has a bias", "kair")
    half = {key: value for key, value in kair.items() if not key.startswith("3.")}
    one_line(lambda: load_reference(saved(net, half, "model.")), "half folded")
    half = {key: value for key, value in kair.items() if key != "3.running_mean"}
    one_line(lambda: load_reference(saved(net, half, "model.")), "lacks its running_mean")
    noise_map = kair | {"0.weight": torch.zeros(WIDTH, 2, 3, 3)}
    one_line(lambda: load_reference(saved(net, noise_map, "model.")), "noise map")
    one_line(lambda: load_reference(saved(net, {"0.weight": kair["0.weight"]}, "model.")), "3 or more")


def test_damaged_matlab_files_are_one_line(tmp_path):
    from scipy.io import savemat

    damaged, other = tmp_path / "damaged.mat", tmp_path / "other.mat"
    damaged.write_bytes(b"no MATLAB file at all" * 20)
    savemat(other, {"image": np.zeros((4, 4))})
    one_line(lambda: load_reference(damaged), "damaged.mat", "net.layers")
    one_line(lambda: load_reference(other), "other.mat", "net.layers")
