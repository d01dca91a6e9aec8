"""RTMDet-Ins: boxes, and a small network for each place that draws the mask of its object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.residual.blocks.conv_norm import conv_norm
from tasks.detection.models.head import (
    decode_boxes,
    initialise,
    join_levels,
    make_priors,
    make_towers,
    share_convs,
    through,
)
from tasks.detection.models.neck import LAYERS
from tasks.detection.models.rtmdet import RTMDetBase

PROTOTYPES = 8
MASK_CONVS = 4
MASK_LAYERS = ((PROTOTYPES, PROTOTYPES + 2), (PROTOTYPES, PROTOTYPES), (1, PROTOTYPES))
"""Outputs and inputs of the 1x1 convolutions that draw a mask; the first also reads where a pixel lies."""
WEIGHTS = [outputs * inputs for outputs, inputs in MASK_LAYERS]
BIASES = [outputs for outputs, _ in MASK_LAYERS]
KERNEL = sum(WEIGHTS) + sum(BIASES)
"""Numbers that a place gives for its mask, 169: the weights of all layers, then their biases."""


class InsOutputs(NamedTuple):
    """What RTMDet-Ins gives; all but the prototypes are a tensor for each level.

    Attributes:
        cls: Logits of the classes ``(B, classes, h, w)``.
        reg: Distances ``(B, 4, h, w)`` from a place to the left, top, right and bottom of its box, pixels.
        kernels: Numbers that draw the mask ``(B, 169, h, w)``.
        prototypes: What masks are drawn from, ``(B, 8, H / 8, W / 8)``.
    """

    cls: list[Tensor]
    reg: list[Tensor]
    kernels: list[Tensor]
    prototypes: Tensor


class MaskFeatures(nn.Module):
    """Joins all levels at the finest one and makes prototypes of masks.

    Args:
        channels: C of every level.
        levels: Number of levels.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.fusion_conv = nn.Conv2d(levels * channels, channels, 1)
        self.stacked_convs = nn.Sequential(
            *(conv_norm(LAYERS, channels, channels, 3) for _ in range(MASK_CONVS))
        )
        self.projection = nn.Conv2d(channels, PROTOTYPES, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps ``(B, C, h, w)`` of each level, the finest first, to ``(B, 8, h, w)`` of the finest."""
        finest, *coarser = features
        size = finest.shape[-2:]
        enlarged = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in coarser]
        return self.projection(self.stacked_convs(self.fusion_conv(torch.cat([finest, *enlarged], 1))))


class InsSepBNHead(nn.Module):
    """Classes, boxes and kernels of masks of every place, and the prototypes of masks.

    Layers are named as in mmdetection, whose published weights were trained with one tower for classes and boxes:
    ``reg_convs`` is ``cls_convs``. The convolutions of kernels are not shared by the levels.

    Args:
        channels: C of every level.
        classes: Number of classes.
        strides: Pixels from one cell to the next, of each level.
    """

    def __init__(self, channels: int, classes: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        levels = len(self.strides)
        self.cls_convs = make_towers(channels, levels)
        share_convs(self.cls_convs)
        self.reg_convs = self.cls_convs
        self.kernel_convs = make_towers(channels, levels)
        self.rtm_cls = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _ in range(levels))
        self.rtm_reg = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in range(levels))
        self.rtm_kernel = nn.ModuleList(nn.Conv2d(channels, KERNEL, 1) for _ in range(levels))
        self.mask_head = MaskFeatures(channels, levels)
        initialise(self)
        for layer in self.rtm_reg:
            nn.init.ones_(layer.bias)  # type: ignore[arg-type]  # boxes of two cells, as ReLU has no slope at 0

    def forward(self, features: list[Tensor]) -> InsOutputs:
        """Maps features ``(B, C, h, w)`` of each level to outputs."""
        logits, distances, kernels = [], [], []
        for level, x in enumerate(features):
            common = through(self.cls_convs[level], x)  # type: ignore[arg-type]
            logits.append(self.rtm_cls[level](common))
            distances.append(self.rtm_reg[level](common).relu() * self.strides[level])
            kernels.append(self.rtm_kernel[level](through(self.kernel_convs[level], x)))  # type: ignore[arg-type]
        return InsOutputs(logits, distances, kernels, self.mask_head(features))


class RTMDetIns(RTMDetBase):
    """RTMDet-Ins, Lyu et al., arXiv:2212.07784, section 3.4.

    Layers are named as in mmdetection, so that its checkpoints load.

    Args:
        size: One of ``tasks.detection.models.rtmdet.SIZES``.
        classes: Number of classes.
        backbone: See :class:`tasks.detection.models.rtmdet.RTMDetBase`, as for all that follow.
        backbone_options: Options of the backbone.
        rule: Residual rule of the backbone.
        rule_options: Options of the rule.
        pixels: Order of the colours of the input, bgr or rgb.

    Attributes:
        mask_stride: Pixels of the input from one value of a mask to the next.

    Raises:
        ConfigError: The backbone or an option is unknown, or it has no features of these strides.
    """

    mask_stride = RTMDetBase.strides[0]

    def __init__(
        self,
        size: str,
        classes: int,
        *,
        backbone: str | None = None,
        backbone_options: Mapping[str, Any] | None = None,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
        pixels: str = "bgr",
    ) -> None:
        super().__init__(
            size,
            backbone=backbone,
            backbone_options=backbone_options,
            rule=rule,
            rule_options=rule_options,
            pixels=pixels,
        )
        self.bbox_head = InsSepBNHead(self.channels, classes, self.strides)

    def forward(self, x: Tensor) -> InsOutputs:
        """Maps normalised images ``(B, 3, H, W)`` to outputs; H and W are multiples of ``size_multiple``."""
        return self.bbox_head(self.features(x))

    def flatten(self, outputs: InsOutputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns float32 logits ``(B, P, classes)``, boxes ``(B, P, 4)``, places ``(P, 3)`` and kernels ``(B, P, 169)``.

        Boxes are left, top, right and bottom, places x, y and stride, in pixels of the input.
        """  # noqa: E501
        priors = make_priors(outputs.cls, self.strides)
        boxes = decode_boxes(priors, join_levels(outputs.reg))
        return join_levels(outputs.cls), boxes, priors, join_levels(outputs.kernels)

    def mask_logits(self, prototypes: Tensor, kernels: Tensor, priors: Tensor) -> Tensor:
        """Draws masks in one image ("CondInst", Tian et al., arXiv:2003.05664, section 3.1).

        A place reads the prototypes, and where a pixel lies from it in units of 8 of its strides.

        Args:
            prototypes: ``(8, h, w)``.
            kernels: Of some places, ``(N, 169)``.
            priors: These places, ``(N, 3)``: x, y and stride, pixels of the input.

        Returns:
            Logits ``(N, h, w)``, one for every ``mask_stride`` pixels of the input.
        """
        height, width = prototypes.shape[-2:]
        weights, biases = kernels.split([sum(WEIGHTS), sum(BIASES)], 1)
        layers = [
            (weight.reshape(-1, *shape), bias[..., None])
            for weight, bias, shape in zip(
                weights.split(WEIGHTS, 1), biases.split(BIASES, 1), MASK_LAYERS, strict=True
            )
        ]
        places = make_priors([prototypes], [self.mask_stride])[:, :2]
        offsets = (priors[:, None, :2] - places) / (8 * priors[:, None, 2:])
        (first, bias), *others = layers
        # The product with the prototypes needs no copy of them for each place.
        x = first[:, :, :2] @ offsets.transpose(1, 2) + first[:, :, 2:] @ prototypes.flatten(1) + bias
        for weight, bias in others:
            x = weight @ x.relu() + bias
        return x.reshape(-1, height, width)
