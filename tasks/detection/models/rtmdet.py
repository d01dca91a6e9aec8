"""RTMDet, and what it shares with RTMDet-Ins: sizes, backbone, adapters and neck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from core.backbones import Backbone, backbone_options, create_backbone
from core.errors import ConfigError
from core.registry import check_options
from core.residual.blocks.conv_norm import conv_norm
from tasks.detection.models.head import SepBNHead, decode_boxes, join_levels, make_priors
from tasks.detection.models.neck import LAYERS, CSPNeXtPAFPN

STRIDES = (8, 16, 32)
WIDTHS = (256, 512, 1024)
"""Channels of the features of size l."""
BLOCKS = 3
"""Blocks in each layer of the neck of size l."""
MEAN = (103.53, 116.28, 123.675)
STD = (57.375, 57.12, 58.395)
"""What published weights take off the values 0 to 255 of blue, green and red, and divide by."""
OF_THE_NETWORK = {
    "dims": "the images",
    "in_channels": "the images",
    "num_classes": "the data",
    "rule": "--model.rule",
    "rule_options": "--model.rule_options",
}
"""Options of backbones that are not given among the others, and what decides them."""


@dataclass(frozen=True)
class Size:
    """How large a network is (Lyu et al., arXiv:2212.07784, table 1).

    Attributes:
        widen: Factor on the widths of size l.
        deepen: Factor on the numbers of blocks of size l.
        exp: Whether published weights of boxes give the logarithm of distances.
    """

    widen: float
    deepen: float
    exp: bool

    @property
    def widths(self) -> list[int]:
        """Channels of the features at strides 8, 16 and 32."""
        return [int(width * self.widen) for width in WIDTHS]

    @property
    def blocks(self) -> int:
        """Blocks in each layer of the neck."""
        return max(round(BLOCKS * self.deepen), 1)


SIZES = {
    "nano": Size(0.25, 0.167, exp=True),
    "tiny": Size(0.375, 0.167, exp=False),
    "s": Size(0.5, 0.33, exp=False),
    "m": Size(0.75, 0.67, exp=True),
    "l": Size(1.0, 1.0, exp=True),
    "x": Size(1.25, 1.33, exp=True),
}


class Outputs(NamedTuple):
    """What RTMDet gives, a tensor for each level.

    Attributes:
        cls: Logits of the classes ``(B, classes, h, w)``.
        reg: Distances ``(B, 4, h, w)`` from a place to the left, top, right and bottom of its box, pixels.
    """

    cls: list[Tensor]
    reg: list[Tensor]


class RTMDetBase(nn.Module):
    """Backbone and neck.

    Args:
        size: One of ``SIZES``.
        backbone: Backbone of the core; ``None`` is the size's CSPNeXt. 1x1 convolutions bring its features to the
            widths of the size where they differ.
        backbone_options: Options of the backbone.
        rule: Residual rule of the backbone.
        rule_options: Options of the rule.
        pixels: Order of the colours of the input, bgr or rgb.

    Attributes:
        strides: Pixels from one place to the next, of each level.
        size_multiple: What height and width of the input are multiples of.
        pixels: Order of the colours of the input.
        mean: What the input's values, 0 to 255, have been reduced by, in that order.
        std: What they have then been divided by.
        channels: Channels of each level after the neck.

    Raises:
        ConfigError: The backbone or an option is unknown, or it has no features of these strides.
    """

    strides = STRIDES
    size_multiple = STRIDES[-1]

    def __init__(
        self,
        size: str,
        *,
        backbone: str | None = None,
        backbone_options: Mapping[str, Any] | None = None,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
        pixels: str = "bgr",
    ) -> None:
        super().__init__()
        chosen = SIZES[size]
        order = 1 if pixels == "bgr" else -1
        self.pixels, self.mean, self.std = pixels, MEAN[::order], STD[::order]
        self.channels = chosen.widths[0]
        joined = {"rule": rule, "rule_options": dict(rule_options or {})}
        self.backbone = make_backbone(chosen, backbone, backbone_options or {}, joined)
        self.indices = feature_indices(self.backbone, backbone or "cspnext")
        widths = [self.backbone.feature_info[i].channels for i in self.indices]
        self.adapters = nn.ModuleList(
            nn.Identity() if have == want else conv_norm(LAYERS, have, want)
            for have, want in zip(widths, chosen.widths, strict=True)
        )
        self.neck = CSPNeXtPAFPN(chosen.widths, self.channels, chosen.blocks)

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps images ``(B, 3, H, W)`` to ``(B, channels, H / stride, W / stride)`` for each stride."""
        stages = self.backbone.forward_features(x)
        return self.neck([adapt(stages[i]) for adapt, i in zip(self.adapters, self.indices, strict=True)])

    def flatten(self, outputs: Any) -> tuple[Tensor, ...]:
        """Returns logits ``(B, P, classes)`` and boxes ``(B, P, 4)`` of all levels, and what more a network gives."""
        raise NotImplementedError

    def decode(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Returns boxes ``(B, P, 4)`` in pixels of the input, not clipped to it, and scores ``(B, P, classes)``."""
        logits, boxes, *_ = self.flatten(outputs)
        return boxes, logits.sigmoid()


class RTMDet(RTMDetBase):
    """RTMDet, "An Empirical Study of Designing Real-Time Object Detectors", Lyu et al., arXiv:2212.07784.

    Layers are named as in mmdetection, so that its checkpoints load.

    Args:
        size: One of ``SIZES``.
        classes: Number of classes.
        exp_on_reg: Whether distances are the exponential of the outputs; ``None`` is as published.
        backbone: See :class:`RTMDetBase`, as for all that follow.
        backbone_options: Options of the backbone.
        rule: Residual rule of the backbone.
        rule_options: Options of the rule.
        pixels: Order of the colours of the input, bgr or rgb.

    Raises:
        ConfigError: The backbone or an option is unknown, or it has no features of these strides.
    """

    def __init__(
        self,
        size: str,
        classes: int,
        *,
        exp_on_reg: bool | None = None,
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
        exp = SIZES[size].exp if exp_on_reg is None else exp_on_reg
        self.bbox_head = SepBNHead(self.channels, classes, self.strides, exp=exp)

    def forward(self, x: Tensor) -> Outputs:
        """Maps normalised images ``(B, 3, H, W)`` to outputs; H and W are multiples of ``size_multiple``."""
        return Outputs(*self.bbox_head(self.features(x)))

    def flatten(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Returns float32 logits ``(B, P, classes)``, boxes ``(B, P, 4)`` and places ``(P, 3)`` of all levels.

        Boxes are left, top, right and bottom, places x, y and stride, in pixels of the input.
        """
        priors = make_priors(outputs.cls, self.strides)
        return join_levels(outputs.cls), decode_boxes(priors, join_levels(outputs.reg)), priors


def make_backbone(
    size: Size, name: str | None, options: Mapping[str, Any], joined: Mapping[str, Any]
) -> Backbone:
    """Returns a backbone of the core without its head.

    Args:
        size: Factors of CSPNeXt.
        name: Name of the backbone; ``None`` is CSPNeXt.
        options: Options that the user gave.
        joined: Rule and its options.

    Raises:
        ConfigError: The name or an option is unknown.
    """
    for option in options:
        if option in OF_THE_NETWORK:
            raise ConfigError(
                f"--model.backbone_options: {option} is decided by {OF_THE_NETWORK[option]}; leave it off"
            )
    factors: dict[str, Any] = {"widen": size.widen, "deepen": size.deepen} if name is None else {}
    name = name or "cspnext_l"
    given = check_options(f"backbone {name!r}", backbone_options(name), options)
    # A backbone with a rule of its own keeps it where none is asked for.
    rule = {} if joined["rule"] == "add" and not joined["rule_options"] else joined
    backbone = create_backbone(name, **{**factors, **given, **rule})
    backbone.remove_head()
    return backbone


def feature_indices(backbone: Backbone, name: str) -> list[int]:
    """Returns which features have the strides of the pyramid, the last of each.

    Raises:
        ConfigError: One is missing.
    """
    found = {info.reduction: i for i, info in enumerate(backbone.feature_info)}
    if missing := [stride for stride in STRIDES if stride not in found]:
        raise ConfigError(
            f"--model.backbone {name} has no features reduced by {missing[0]}; a detector reads those reduced by 8, 16 "
            "and 32: take another, such as resnet18"
        )
    return [found[stride] for stride in STRIDES]
