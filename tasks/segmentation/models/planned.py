"""nnU-Net's U-Nets, whose depth, strides, kernels and widths a plan gives."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from core import nd
from core.backbones.resenc import PlainConv, PlainConvSpec, ResEnc, ResEncSpec, StagedEncoder
from core.residual.blocks import BlockSpec
from core.residual.blocks.conv_norm import conv_norm
from core.residual.init import initialise
from tasks.segmentation.models.padding import crop_to_size, pad_to_multiple
from tasks.segmentation.planning.plan import Plan


class UpStage(nn.Module):
    """Transposed convolution, the skip connection behind it, convolutions with norm and activation.

    Args:
        make: What the layers are made of.
        below: Channels of the coarser stage.
        width: Channels of this stage and of its skip connection.
        stride: Factor between the two, one number an axis.
        kernel: Kernel of the convolutions.
        convs: Number of convolutions.
    """

    def __init__(
        self,
        make: BlockSpec,
        below: int,
        width: int,
        stride: tuple[int, ...],
        kernel: tuple[int, ...],
        convs: int,
    ) -> None:
        super().__init__()
        self.up = nd.conv_transpose(make.dims)(below, width, stride, stride)  # type: ignore[arg-type]
        self.convs = nn.Sequential(
            *(conv_norm(make, width if i else 2 * width, width, kernel, bias=True) for i in range(convs))
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps ``(B, below, *spatial)`` and the skip connection to ``(B, width, *(spatial * stride))``."""
        return self.convs(torch.cat((self.up(x), skip), dim=1))


class PlannedUNet(nn.Module):
    """An encoder of the core, plain or residual, and nnU-Net's decoder.

    Isensee et al., Nature Methods 18, 2021, and "nnU-Net Revisited", arXiv:2404.09556, with the numbers of the authors'
    code. Sizes that are no multiples of the strides are padded inside, and the output is cropped.

    Every stage of the decoder has a layer of outputs, whether the coarser ones are learned from or not, so that weights
    fit either way.

    Args:
        plan: Strides, kernels, widths and numbers of blocks; whether the encoder is residual.
        in_channels: Channels of the input, those of a coarser model's output among them.
        outputs: Channels of the output.
        rule: Residual rule of every block of a residual encoder.
        rule_options: Options of the rule.
        deep_supervision: Whether the coarser stages are learned from, too.

    Attributes:
        deep_supervision: Whether training gives a list of logits, the finest first.

    Raises:
        ConfigError: The rule is unknown, or one is given for an encoder without residual connections.
    """

    def __init__(
        self,
        plan: Plan,
        in_channels: int,
        outputs: int,
        *,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        family, kind = (ResEnc, ResEncSpec) if plan.residual else (PlainConv, PlainConvSpec)
        spec = kind(
            dims=plan.dims,
            in_channels=in_channels,
            rule=rule,
            rule_options=rule_options or {},
            layers=plan.blocks,
            widths=plan.widths,
            strides=plan.strides,
            kernels=plan.kernels,
        )
        self.encoder: StagedEncoder = family(spec)  # type: ignore[arg-type]  # the spec is the family's
        self.encoder.remove_head()
        make = spec.block_spec(plan.widths[0], plan.widths[0])
        self.decoder = nn.ModuleList(
            UpStage(
                make,
                plan.widths[i + 1],
                plan.widths[i],
                plan.strides[i + 1],
                plan.kernels[i],
                plan.decoder_convs[i],
            )
            for i in reversed(range(len(plan.widths) - 1))
        )
        self.segment = nn.ModuleList(
            nd.conv(plan.dims)(width, outputs, 1) for width in reversed(plan.widths[:-1])
        )
        for layers in (self.decoder, self.segment):
            initialise(layers, spec.init)
        self.deep_supervision = deep_supervision
        # Otherwise data parallelism would wait for gradients that never come.
        self.segment[:-1].requires_grad_(deep_supervision)
        self.reductions = [
            tuple(prod(axis) for axis in zip(*plan.strides[: i + 1], strict=True))
            for i in range(len(plan.strides))
        ]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Maps ``(B, in_channels, *spatial)`` to logits ``(B, outputs, *spatial)``.

        In training with deep supervision: a list of the logits of every stage of the decoder, the finest first.
        """
        size = x.shape[2:]
        features = self.encoder.forward_features(pad_to_multiple(x, self.reductions[-1]))
        x = features.pop()
        if not (self.deep_supervision and self.training):
            for stage in self.decoder:
                x = stage(x, features.pop())
            return crop_to_size(self.segment[-1](x), size)
        logits: list[Tensor] = []
        for stage, segment in zip(self.decoder, self.segment, strict=True):
            x = stage(x, features.pop())
            factors = self.reductions[len(features)]
            coarse = [-(-length // factor) for length, factor in zip(size, factors, strict=True)]
            logits.insert(0, crop_to_size(segment(x), coarse))
        return logits
