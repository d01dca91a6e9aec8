"""Small networks of residual blocks, and weights that are known to be dead."""

from __future__ import annotations

import torch
from torch import nn

from core import nd
from core.residual import Residual, ResidualChain, create_rule


def branch(dims, inner, outer, hidden):
    return nn.Sequential(
        nd.conv(dims)(inner, hidden, 3, padding=1, bias=False),
        nd.norm("batch", dims, hidden),
        nd.act("relu"),
        nd.conv(dims)(hidden, outer, 3, padding=1, bias=False),
        nd.norm("batch", dims, outer),
    )


class Net(nn.Module):
    """Stem of 8 channels, a block of 8, a block that widens to 12, a block of 12, five classes."""

    def __init__(self, rule="add", dims=2, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        rules = [
            create_rule(rule, channels=c, index=i, depth=3, dims=dims) for i, c in ((1, 8), (2, 12), (3, 12))
        ]
        self.stem = nd.conv(dims)(3, 8, 3, padding=1)
        self.chain = ResidualChain(
            [
                Residual(branch(dims, 8, 8, 16), rules[0], act=nd.act("relu")),
                Residual(
                    branch(dims, 8, 12, 16), rules[1], nd.conv(dims)(8, 12, 1, bias=False), nd.act("relu")
                ),
                Residual(branch(dims, 12, 12, 16), rules[2], act=nd.act("relu")),
            ]
        )
        self.pool = nd.pool("adaptive_avg", dims)(1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        return self.fc(self.pool(self.chain(self.stem(x))).flatten(1))


def scramble(model, seed=1):
    """Gives every parameter and statistic a random value, so that no rule is at its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + (0.5 if "var" in name else 0))
    return model.eval()


def silence(layers, channels):
    """Zeroes what layers put out in some channels: convolution, bias, norm and its running mean."""
    with torch.no_grad():
        for layer in layers:
            layer.weight[channels] = 0
            for name in ("bias", "running_mean"):
                if getattr(layer, name, None) is not None:
                    getattr(layer, name)[channels] = 0


def deafen(layers, channels):
    """Zeroes what layers read from some channels."""
    with torch.no_grad():
        for layer in layers:
            layer.weight[:, channels] = 0
