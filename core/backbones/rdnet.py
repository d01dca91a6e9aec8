"""RDNet: densely connected networks with the parts of modern ones."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec, check_stages
from core.errors import ConfigError
from core.residual.blocks.dense import DenseBlock
from core.residual.drop import drop_path_rates


@dataclass(frozen=True)
class RDNetSpec(Spec):
    """Options of RDNet, beyond :class:`core.backbones.spec.Spec`.

    Attributes:
        growths: Channels by which each block of a stage widens the stream, for each stage.
        layers: Blocks in each stage.
        strides: Stride of the transition before each stage; the first stage has none, and 1.
        stem_width: Channels of the stem.
        patch: Edge of the patches of which the stem makes one position.
        compression: Part of the channels that a transition keeps, rounded down to a multiple of 8.
        expansion: Inner width of a block in units of its input's.
        kernel: Kernel of the depthwise convolutions.
        layer_scale: Initial value of the scale of the growth; 0 for no scale.
        plain_stages: Stages from the first on that have no attention.
    """

    norm: str = "layer"
    norm_eps: float | None = 1e-6
    act: str = "gelu"
    attention: str = "ese"
    growths: tuple[int, ...] = (64, 104, 128, 128, 128, 128, 224)
    layers: tuple[int, ...] = (3, 3, 3, 3, 3, 3, 3)
    strides: tuple[int, ...] = (1, 2, 2, 1, 1, 1, 2)
    stem_width: int = 64
    patch: int = 4
    compression: float = 0.5
    expansion: float = 4.0
    kernel: int = 7
    layer_scale: float = 1e-6
    plain_stages: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self, self.layers, "growths", "strides")
        if self.strides[0] != 1:
            raise ConfigError(
                f"no transition is before the first stage: its stride is 1, not {self.strides[0]}"
            )


class RDNet(Backbone):
    """A revived DenseNet; "DenseNets Reloaded", Kim et al., arXiv:2403.19588, section 3.

    The layers are named as in timm, which has the authors' code. A stage is a few dense blocks behind a
    transition (norm, convolution to half of the channels); features are returned where the next transition
    reduces the resolution, and at the end. Nothing is added in this network, so that it has no residual rule.

    The norm after the pooling sees one position, which ``group`` and ``instance`` would set to 0; it is ``layer``
    in place of these.

    Args:
        spec: Depths, growths and transitions.

    Raises:
        ConfigError: A rule other than ``add`` is asked for, or a value is out of range.
    """

    head_modules: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(self, spec: RDNetSpec) -> None:
        super().__init__(spec)
        make = spec.block_spec(spec.in_channels, spec.stem_width, attention="none", attention_options={})
        conv, channels, reduction = nd.conv(spec.dims), spec.stem_width, spec.patch
        self.stem = nn.Sequential(
            conv(spec.in_channels, channels, spec.patch, spec.patch), make.norm_layer(channels)
        )
        self.dense_stages = nn.ModuleList()
        self.feature_info = []
        self.ends: list[int] = []
        depth = sum(spec.layers)
        rates = iter(enumerate(drop_path_rates(spec.drop_path, depth), 1))
        for stage, count in enumerate(spec.layers):
            parts: list[nn.Module] = []
            if stage:
                stride, kept = spec.strides[stage], int(channels * spec.compression / 8) * 8
                if kept < 1:
                    raise ConfigError(
                        f"compression {spec.compression} of {channels} channels must leave 8 or more"
                    )
                parts = [make.norm_layer(channels), conv(channels, kept, stride, stride)]
                channels, reduction = kept, reduction * stride
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for position in range(count):
                index, rate = next(rates)
                none = {"attention": "none", "attention_options": {}} if stage < spec.plain_stages else {}
                place = {"drop_path": rate, "index": index, "depth": depth, **none}
                blocks[f"dense_block{position}"] = DenseBlock(
                    spec.block_spec(channels, spec.growths[stage], **place),
                    expansion=spec.expansion,
                    kernel=spec.kernel,
                    layer_scale=spec.layer_scale,
                )
                channels += spec.growths[stage]
            self.dense_stages.append(nn.Sequential(*parts, nn.Sequential(blocks)))
            if stage + 1 == len(spec.layers) or spec.strides[stage + 1] > 1:
                self.ends.append(stage)
                self.feature_info.append(FeatureInfo(channels, reduction, f"dense_stages.{stage}"))
        self.num_features = channels
        pooled = "layer" if spec.norm in ("group", "instance") else spec.norm
        head = {
            "norm": nd.norm(pooled, spec.dims, channels, spec.norm_eps),
            "flatten": nn.Flatten(1),
            "drop": nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity(),
            "fc": nn.Linear(channels, spec.num_classes) if spec.num_classes else nn.Identity(),
        }
        self.head = nn.Sequential(OrderedDict(head))
        self.initialise()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of each resolution; those of the stem are not among them."""
        x, features = self.stem(x), []
        for index, stage in enumerate(self.dense_stages):
            x = stage(x)
            if index in self.ends:
                features.append(x)
        return features

    def forward_head(self, x: Tensor) -> Tensor:
        """Averages the last features over space, normalises and classifies them."""
        return self.head(nd.spatial_mean(x, keepdim=True))


def _preset(width: int, growths: tuple[int, int, int, int], middle: int, last: int) -> RDNetSpec:
    """Four resolutions with 1, 1, ``middle`` and ``last`` stages of three blocks; growths are by resolution."""
    counts = (1, 1, middle, last)
    first = [position == 0 for count in counts for position in range(count)]
    return RDNetSpec(
        stem_width=width,
        growths=tuple(growth for growth, count in zip(growths, counts, strict=True) for _ in range(count)),
        layers=(3,) * len(first),
        strides=(1, *(2 if begins else 1 for begins in first[1:])),
    )


# Kim et al., arXiv:2403.19588, with the numbers of the authors' code.
RDNETS: dict[str, Spec] = {
    "rdnet_tiny": _preset(64, (64, 104, 128, 224), 4, 1),
    "rdnet_small": _preset(72, (64, 128, 128, 240), 7, 2),
    "rdnet_base": _preset(120, (96, 128, 168, 336), 7, 2),
    "rdnet_large": _preset(144, (128, 192, 256, 360), 8, 2),
}
register_backbones(RDNet, RDNETS)
