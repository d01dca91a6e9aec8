"""DnCNN: a plain row of convolutions that predicts the noise of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.registry import Registry
from core.residual import Residual, ResidualChain, create_rule

SMALLEST_SCALE = 0.025  # of a new batch norm, as in the authors' initialisation


@dataclass(frozen=True)
class Variant:
    """What released implementations of "the same" network differ in.

    Attributes:
        head_bias: The first convolution has a bias.
        body_bias: The convolutions before norms have biases.
        tail_bias: The last convolution has a bias.
        norm: Normalisation of the body.
        eps: What the norms add to a variance.
    """

    head_bias: bool
    body_bias: bool
    tail_bias: bool
    norm: str = "batch"
    eps: float = 1e-4


VARIANTS: Registry[Variant] = Registry("variant of DnCNN")
VARIANTS.register("matconvnet")(Variant(True, False, True))  # the authors' training code, v1.1
VARIANTS.register("kair")(Variant(True, True, True))  # the authors' PyTorch models, with norms
VARIANTS.register("folded")(Variant(True, True, True, norm="none"))  # the released weights; also deepinv
VARIANTS.register("pytorch")(Variant(True, False, False))  # the authors' first PyTorch code
VARIANTS.register("plain")(Variant(False, False, False, eps=1e-5))  # a widely used PyTorch port


class DnCNN(nn.Module):
    """``y - R(y)``: ``R`` is conv 3, ReLU; (layers - 2) times conv 3, batch norm, ReLU; conv 3.

    "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising", Zhang et al., TIP 2017,
    arXiv:1608.03981, section III. The receptive field is ``2 layers + 1`` pixels; zero padding of 1 in every layer.
    DnCNN-S has 17 layers, DnCNN-B, CDnCNN-B and DnCNN-3 have 20. The sum with the noisy image is a residual
    connection, so that any rule can take its place.

    Weights start as in the authors' code: convolutions from N(0, 2 / (9 width)), scales of the norms from the same
    distribution and pushed away from 0. Differences: running statistics are averaged with ``momentum`` (the
    authors keep those of the last batch, which makes PSNR jump between epochs).

    Args:
        channels: Channels C of the image, 1 for gray.
        layers: Number of convolutions, 3 or more.
        width: Channels between them.
        variant: Which biases and norms there are, one of ``VARIANTS``.
        momentum: Share of a batch in the running statistics.
        rule: Residual rule that joins the image and the predicted noise.
        rule_options: Options of the rule.

    Raises:
        ConfigError: The variant or the rule is unknown, or there are fewer than 3 layers.
    """

    scale = 1

    def __init__(
        self,
        channels: int = 1,
        layers: int = 17,
        width: int = 64,
        variant: str = "matconvnet",
        momentum: float = 0.1,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if layers < 3:
            raise ConfigError(
                f"--model.layers {layers} is too few for DnCNN: a first layer, a last and one between; use 3 or more"
            )
        form = VARIANTS[variant]
        self.channels, self.halo = channels, layers
        joined = create_rule(rule, channels=channels, index=1, depth=1, dims=2, **(rule_options or {}))
        self.stream = ResidualChain([Residual(MinusNoise(channels, layers, width, form), joined)])
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        """Denoises ``(B, C, H, W)`` in [0, 1]; the result is not clipped."""
        return self.stream(x)

    @property
    def layers(self) -> nn.Sequential:
        """The convolutions, norms and activations in a row, which predict the noise."""
        return self.stream[0].branch.layers  # type: ignore[union-attr, return-value]


class MinusNoise(nn.Module):
    """``-R(y)``, the update of the image."""

    def __init__(self, channels: int, layers: int, width: int, form: Variant) -> None:
        super().__init__()
        conv = nd.conv(2)
        row: list[nn.Module] = [
            conv(channels, width, 3, padding=1, bias=form.head_bias),
            nn.ReLU(inplace=True),
        ]
        for _ in range(layers - 2):
            row.append(conv(width, width, 3, padding=1, bias=form.body_bias))
            if form.norm != "none":
                row.append(nd.norm(form.norm, 2, width, form.eps))
            row.append(nn.ReLU(inplace=True))
        row.append(conv(width, channels, 3, padding=1, bias=form.tail_bias))
        self.layers = nn.Sequential(*row)
        deviation = math.sqrt(2 / (9 * width))
        for layer in row:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, deviation)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 0.0, deviation)
                with torch.no_grad():
                    away = layer.weight.abs().clamp_min(SMALLEST_SCALE)
                    layer.weight.copy_(torch.where(layer.weight < 0, -away, away))

    def forward(self, x: Tensor) -> Tensor:
        """Maps the noisy image ``(B, C, H, W)`` to minus the predicted noise."""
        return -self.layers(x)
