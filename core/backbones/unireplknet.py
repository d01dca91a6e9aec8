"""UniRepLKNet: few large kernels that are merged from dilated ones, small kernels between them.

Counts of parameters for 1000 classes are tested in ``tests/core/backbones/test_large_kernels.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec
from core.backbones.stages import level_specs
from core.errors import ConfigError
from core.residual.blocks.unireplk import UniRepLKBlock
from core.residual.residual import ResidualChain


@dataclass(frozen=True)
class UniRepLKNetSpec(Spec):
    """Options of UniRepLKNet, beyond :class:`core.backbones.spec.Spec`.

    ``norm`` is that of the blocks and ``attention`` stands inside them, behind the depthwise convolution.

    Attributes:
        layers: Blocks in each stage.
        widths: Channels of each stage.
        kernels: Depthwise kernels of each stage's blocks, repeated to its end: ``(13, 3, 3)``.
        ffn_ratio: Inner channels of the feed-forward networks as a multiple of the stage's.
        stem_norm: Norm of the stem and of the layers between the stages. Unless it is ``none``, the pooled
            features go through a layer normalisation.
        stem_norm_eps: What it adds to a variance.
    """

    act: str = "gelu"
    rule: str = "layer_scale"
    attention: str = "se"
    attention_options: Mapping[str, Any] = field(default_factory=lambda: {"ratio": 0.25, "divisor": 1})
    init: str = "trunc_normal"
    zero_init_last: bool = False
    layers: tuple[int, ...] = (3, 3, 27, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    kernels: tuple[tuple[int, ...], ...] = ((3,), (13,), (13, 3, 3), (13,))
    ffn_ratio: float = 4.0
    stem_norm: str = "layer"
    stem_norm_eps: float | None = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.kernels) < len(self.layers) or not all(self.kernels):
            raise ConfigError(
                f"kernels {self.kernels} must name one or more for each stage of layers {self.layers}"
            )


class UniRepLKNet(Backbone):
    """Depthwise convolutions of 13 and 3 with feed-forward networks behind each.

    "UniRepLKNet: A Universal Perception Large-Kernel ConvNet for Audio, Video, Point Cloud, Time-Series and Image
    Recognition", Ding et al., arXiv:2311.15599, section 3 and table 5. In dims 1 and 3 a kernel K is K positions
    along each axis. As in the authors' code the stem's convolutions have biases before their norms, and
    weights start from a normal distribution of deviation 0.02.

    Args:
        spec: What distinguishes one from another.

    Raises:
        ConfigError: A value is out of range.
    """

    head_modules: ClassVar[tuple[str, ...]] = ("norm", "dropout", "head")

    def __init__(self, spec: UniRepLKNetSpec) -> None:
        super().__init__(spec)
        specs = level_specs(spec, spec.widths, spec.layers)
        first = spec.widths[0]
        stem = nn.Sequential(
            *_strided(spec, spec.in_channels, first // 2),
            nd.act(spec.act, inplace=spec.stem_norm != "none"),
            *_strided(spec, first // 2, first),
        )
        between = [_strided(spec, *pair) for pair in zip(spec.widths, spec.widths[1:], strict=False)]
        self.downsample_layers = nn.ModuleList([stem, *(nn.Sequential(*layers) for layers in between)])
        self.stages = nn.ModuleList(
            ResidualChain(
                UniRepLKBlock(block, kernel=kernels[j % len(kernels)], ratio=spec.ffn_ratio)
                for j, block in enumerate(blocks)
            )
            for blocks, kernels in zip(specs, spec.kernels, strict=False)
        )
        self.stem_info = FeatureInfo(first // 2, 2, "downsample_layers.0.2")
        self.feature_info = [
            FeatureInfo(channels, 4 * 2**i, f"stages.{i}") for i, channels in enumerate(spec.widths)
        ]
        self.num_features = spec.widths[-1]
        last = "none" if spec.stem_norm == "none" else "layer"
        self.norm = nd.norm(last, spec.dims, self.num_features, spec.stem_norm_eps)
        self.dropout = nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity()
        self.head = nn.Linear(self.num_features, spec.num_classes) if spec.num_classes else nn.Identity()
        self.initialise()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every stage, after those of the stem at half the size if asked."""
        first, *others = self.downsample_layers
        x = first[:3](x)  # type: ignore[index]  # a Sequential
        features = [x] if stem else []
        x = self.stages[0](first[3:](x))  # type: ignore[index]
        features.append(x)
        for downsample, stage in zip(others, self.stages[1:], strict=True):
            x = stage(downsample(x))
            features.append(x)
        return features

    def forward_head(self, x: Tensor) -> Tensor:
        """Averages the last features over space, normalises and classifies them."""
        pooled = self.norm(nd.spatial_mean(x, keepdim=True)).flatten(1)
        return self.head(self.dropout(pooled))


def _strided(spec: UniRepLKNetSpec, in_channels: int, out_channels: int) -> list[nn.Module]:
    """Halves the resolution: a 3x3 convolution of stride 2 with a bias, and a norm."""
    return [
        nd.conv(spec.dims)(in_channels, out_channels, 3, stride=2, padding=1),
        nd.norm(spec.stem_norm, spec.dims, out_channels, spec.stem_norm_eps),
    ]


SMALL = ((3,), (13,), (13,), (13,))
# Ding et al., arXiv:2311.15599, table 5; T alternates large and small kernels in the third stage, S to XL take
# two small ones after each large one.
UNIREPLKNET: dict[str, Spec] = {
    "unireplknet_a": UniRepLKNetSpec(layers=(2, 2, 6, 2), widths=(40, 80, 160, 320), kernels=SMALL),
    "unireplknet_f": UniRepLKNetSpec(layers=(2, 2, 6, 2), widths=(48, 96, 192, 384), kernels=SMALL),
    "unireplknet_p": UniRepLKNetSpec(layers=(2, 2, 6, 2), widths=(64, 128, 256, 512), kernels=SMALL),
    "unireplknet_n": UniRepLKNetSpec(layers=(2, 2, 8, 2), widths=(80, 160, 320, 640), kernels=SMALL),
    "unireplknet_t": UniRepLKNetSpec(
        layers=(3, 3, 18, 3), widths=(80, 160, 320, 640), kernels=((3,), (13,), (13, 3), (13,))
    ),
    "unireplknet_s": UniRepLKNetSpec(),
    "unireplknet_b": UniRepLKNetSpec(widths=(128, 256, 512, 1024)),
    "unireplknet_l": UniRepLKNetSpec(widths=(192, 384, 768, 1536)),
    "unireplknet_xl": UniRepLKNetSpec(widths=(256, 512, 1024, 2048)),
}
register_backbones(UniRepLKNet, UNIREPLKNET)
