"""An independent form of the released CSI-4CAST: functions of a state_dict with the authors' names, evaluation mode."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def random_state(c, subcarriers, history, horizon):
    """Weights by the authors' names, of the sizes of a configuration."""
    state, size = {}, 2 * subcarriers

    def conv(name, shape, bias=True):
        state[f"{name}.weight"] = torch.randn(shape) / shape[1:].numel() ** 0.5
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(shape[0])

    def batch_norm(name, width):
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(width) + 0.5, 0.1 * torch.randn(width)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(width)
        state[f"{name}.running_var"] = torch.rand(width) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    def linear(name, inputs, outputs, bias=True):
        conv(name, torch.Size((outputs, inputs)), bias)

    def layer_norm(name, width):
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(width) + 0.5, 0.1 * torch.randn(width)

    for i in range(c.denoiser - 1):
        conv(f"denoiser.encoder.{i}.0", torch.Size((2 ** (i + 2), 2 ** (i + 1), 3, 3)))
        batch_norm(f"denoiser.encoder.{i}.1", 2 ** (i + 2))
        back = c.denoiser - 1 - i
        conv(f"denoiser.decoder.{i}.0", torch.Size((2**back, 2 ** (back + 1), 3, 3)))
        batch_norm(f"denoiser.decoder.{i}.1", 2**back)
    perceptrons = [("temporal", history, c.time_layers, c.time_hidden)]
    perceptrons += [("subcarrier", size, c.band_layers, c.band_hidden)] if c.band_layers else []
    for domain in ("freq", "delay"):
        for axis, n, layers, hidden in perceptrons:
            widths = [n, *[hidden] * (layers - 1), n]
            for i in range(layers):
                linear(f"arl.{axis}_proj_{domain}.mlp.mlp.{3 * i}", widths[i], widths[i + 1])
            layer_norm(f"arl.{axis}_proj_{domain}.layernorm", n)
        row, w = f"embedding.RB_{domain}", c.channels
        conv(f"{row}.0", torch.Size((w, 2, 3, 3)))
        for i in range(1, c.blocks + 1):
            for layer, inputs, kernel in (
                ("g_pw_conv_in", w // c.groups, 1),
                ("dw_conv", 1, 3),
                ("g_pw_conv_out", w // c.groups, 1),
            ):
                conv(f"{row}.{i}.{layer}", torch.Size((w, inputs, kernel, kernel)), bias=False)
                batch_norm(f"{row}.{i}.{layer}_bn", w)
            first, second = ("fc1", "fc2") if c.attention == "avg_max" else ("se.1", "se.3")
            conv(f"{row}.{i}.ca.{first}", torch.Size((w // c.reduction, w, 1, 1)), bias=False)
            conv(f"{row}.{i}.ca.{second}", torch.Size((w, w // c.reduction, 1, 1)), bias=False)
        conv(f"{row}.{c.blocks + 1}", torch.Size((2, w, 3, 3)))
    conv("embedding.embedding.value_embedding.tokenConv", torch.Size((c.width, size, 3)))
    state["embedding.embedding.position_embedding.pe"] = torch.zeros(1, 50, c.width)
    linear("embedding.embedding.temporal_embedding.embed", 4, c.width, bias=False)
    linear("embedding.predict_linear_pre", history, history)
    for key, value in encoder(c).state_dict().items():
        state[f"transformer.transformer.{key}"] = value + 0.05 * torch.randn(value.shape)
    linear("mlp.pred_to_data", c.width, size)
    linear("mlp.hist_to_pred", history, horizon)
    return state


def encoder(c):
    layer = nn.TransformerEncoderLayer(c.width, c.heads, c.feedforward, c.dropout, batch_first=True)
    return nn.TransformerEncoder(layer, c.layers, enable_nested_tensor=False).eval()


def predict(state, c, x):
    """What the released code gives for ``(B, T, 2K)``."""

    def norm(name, y):
        s = {leaf: state[f"{name}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var")}
        return F.batch_norm(y, s["running_mean"], s["running_var"], s["weight"], s["bias"])

    def conv(name, y, padding, groups=1):
        return F.conv2d(y, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding, groups=groups)

    def linear(name, y):
        return F.linear(y, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def adaptive(name, y, layers, operation, act):
        out = y
        for i in range(layers):
            out = linear(f"{name}.mlp.mlp.{3 * i}", out)
            out = F.relu(out) if i < layers - 1 or act else out
        out = {"none": out, "add": out + y, "multiply": out * y}[operation]
        weight, bias = state[f"{name}.layernorm.weight"], state[f"{name}.layernorm.bias"]
        return F.layer_norm(out, out.shape[-1:], weight, bias)

    def branch(domain, y, operation):
        y = adaptive(f"arl.temporal_proj_{domain}", y.mT, c.time_layers, c.time_residual, False).mT
        if c.band_layers:
            y = adaptive(f"arl.subcarrier_proj_{domain}", y, c.band_layers, operation, True)
        y = torch.stack([y[..., ::2], y[..., 1::2]], 1)
        y = conv(f"embedding.RB_{domain}.0", y, 1)
        for i in range(1, c.blocks + 1):
            y = shuffle_block(f"embedding.RB_{domain}.{i}", y)
        return conv(f"embedding.RB_{domain}.{c.blocks + 1}", y, 1)

    def shuffle_block(name, y):
        u = F.relu(norm(f"{name}.g_pw_conv_in_bn", conv(f"{name}.g_pw_conv_in", y, 0, c.groups)))
        per = c.channels // c.groups
        u = u[:, [g * per + j for j in range(per) for g in range(c.groups)]]
        u = norm(f"{name}.dw_conv_bn", conv(f"{name}.dw_conv", u, 1, c.channels))
        u = norm(f"{name}.g_pw_conv_out_bn", conv(f"{name}.g_pw_conv_out", u, 0, c.groups))
        both = c.attention == "avg_max"
        first, second = ("fc1", "fc2") if both else ("se.1", "se.3")
        pooled = [F.adaptive_avg_pool2d(u, 1)] + ([F.adaptive_max_pool2d(u, 1)] if both else [])
        gates = [conv(f"{name}.ca.{second}", F.relu(conv(f"{name}.ca.{first}", p, 0)), 0) for p in pooled]
        return F.relu(y + u * torch.sigmoid(sum(gates)))

    noise = torch.stack([x[..., ::2], x[..., 1::2]], 1)
    for part in ("encoder", "decoder"):
        for i in range(c.denoiser - 1):
            noise = F.relu(norm(f"denoiser.{part}.{i}.1", conv(f"denoiser.{part}.{i}.0", noise, 1)))
    x = x - torch.stack([noise[:, 0], noise[:, 1]], -1).flatten(2)
    mean, std = x.mean(), x.std(correction=0)
    x = (x - mean) / std
    delays = torch.fft.ifft(torch.complex(x[..., ::2], x[..., 1::2]), dim=2)
    delays = torch.stack([delays.real, delays.imag], -1).flatten(2)
    images = branch("freq", x, c.band_residual) + branch("delay", delays, c.delay_residual)
    x = torch.stack([images[:, 0], images[:, 1]], -1).flatten(2)
    name = "embedding.embedding.value_embedding.tokenConv"
    around = F.pad(x.mT, (1, 1), mode="circular")
    x = F.conv1d(around, state[f"{name}.weight"], state[f"{name}.bias"]).mT
    place, pair = torch.arange(x.shape[1]).float()[:, None], torch.arange(0, c.width, 2).float()
    angle = place / 10000 ** (pair / c.width)
    sinusoid = torch.empty(x.shape[1:])
    sinusoid[:, ::2], sinusoid[:, 1::2] = angle.sin(), angle.cos()
    x = linear("embedding.predict_linear_pre", (x + sinusoid).mT).mT
    model, prefix = encoder(c), "transformer.transformer."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    x = linear("mlp.hist_to_pred", linear("mlp.pred_to_data", model(x)).mT).mT
    return x * std + mean
