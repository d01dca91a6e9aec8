"""RepLKNet: depthwise kernels of up to 31 x 31, each beside a 5 x 5 one that is merged into it for inference.

Counts of parameters for 1000 classes are tested in ``tests/core/backbones/test_large_kernels.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec, check_stages
from core.backbones.stages import level_specs
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.replk import ConvFFN, RepLKBlock
from core.residual.blocks.spec import BlockSpec
from core.residual.residual import ResidualChain


@dataclass(frozen=True)
class RepLKNetSpec(Spec):
    """Options of RepLKNet, beyond :class:`core.backbones.spec.Spec`.

    Attributes:
        layers: Pairs of a large-kernel block and a feed-forward network in each stage.
        widths: Channels of each stage.
        kernels: Large kernel of each stage.
        small_kernel: Kernel beside it; 0 for none.
        dw_ratio: Channels of the large kernels as a multiple of the stage's.
        ffn_ratio: Inner channels of the feed-forward networks as a multiple of the stage's.
        ffn_act: Activation of the feed-forward networks; ``act`` is that of all other layers.
    """

    init: str = "default"
    zero_init_last: bool = False
    layers: tuple[int, ...] = (2, 2, 18, 2)
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    kernels: tuple[int, ...] = (31, 29, 27, 13)
    small_kernel: int = 5
    dw_ratio: float = 1.0
    ffn_ratio: float = 4.0
    ffn_act: str = "gelu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self, self.layers, "kernels")


class RepLKNet(Backbone):
    """Large depthwise kernels and feed-forward networks in turn.

    "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in CNNs", Ding et al., arXiv:2203.06717,
    fig. 4. In dims 1 and 3 a kernel K is K positions along each axis. Layers are named as in the authors' code,
    so that their weights load, but for the norms that RepLKNet-XL has behind each stage in dense prediction.

    Args:
        spec: What distinguishes one from another.

    Raises:
        ConfigError: A value is out of range.
    """

    head_modules: ClassVar[tuple[str, ...]] = ("norm", "dropout", "head")

    def __init__(self, spec: RepLKNetSpec) -> None:
        super().__init__(spec)
        counts = [2 * count for count in spec.layers]
        specs = level_specs(spec, spec.widths, counts, blocks_per_rate=2)
        width = spec.widths[0]
        make = spec.block_spec(spec.in_channels, width)
        self.stem = nn.ModuleList(
            [
                conv_norm(make, spec.in_channels, width, 3, stride=2),
                conv_norm(make, width, width, 3, groups=width),
                conv_norm(make, width, width),
                conv_norm(make, width, width, 3, stride=2, groups=width),
            ]
        )
        self.stages = nn.ModuleList(
            nn.ModuleDict({"blocks": _stage(spec, blocks, kernel)})
            for blocks, kernel in zip(specs, spec.kernels, strict=False)
        )
        self.transitions = nn.ModuleList(
            nn.Sequential(
                conv_norm(make, before, after), conv_norm(make, after, after, 3, stride=2, groups=after)
            )
            for before, after in zip(spec.widths, spec.widths[1:], strict=False)
        )
        self.stem_info = FeatureInfo(width, 2, "stem.2")
        self.feature_info = [
            FeatureInfo(channels, 4 * 2**i, f"stages.{i}.blocks") for i, channels in enumerate(spec.widths)
        ]
        self.num_features = spec.widths[-1]
        self.norm = make.norm_layer(self.num_features)
        self.dropout = nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity()
        self.head = nn.Linear(self.num_features, spec.num_classes) if spec.num_classes else nn.Identity()
        self.initialise()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every stage, after those of the stem at half the size if asked."""
        for layer in self.stem[:3]:
            x = layer(x)
        features = [x] if stem else []
        x = self.stem[3](x)
        for i, stage in enumerate(self.stages):
            x = stage["blocks"](x)  # type: ignore[index]  # a ModuleDict
            features.append(x)
            if i < len(self.transitions):
                x = self.transitions[i](x)
        return features

    def forward_head(self, x: Tensor) -> Tensor:
        """Normalises the last features, averages them over space and classifies them."""
        return self.head(self.dropout(nd.spatial_mean(self.norm(x))))


def _stage(spec: RepLKNetSpec, blocks: list[BlockSpec], kernel: int) -> ResidualChain:
    chain: list[nn.Module] = []
    for large, ffn in zip(blocks[::2], blocks[1::2], strict=True):
        chain.append(RepLKBlock(large, kernel=kernel, small_kernel=spec.small_kernel, dw_ratio=spec.dw_ratio))
        chain.append(ConvFFN(replace(ffn, act=spec.ffn_act), ratio=spec.ffn_ratio))
    return ResidualChain(chain)


# Ding et al., arXiv:2203.06717, table 5 and section 4.1.
REPLKNET: dict[str, Spec] = {
    "replknet_31b": RepLKNetSpec(),
    "replknet_31l": RepLKNetSpec(widths=(192, 384, 768, 1536)),
    "replknet_xl": RepLKNetSpec(
        widths=(256, 512, 1024, 2048), kernels=(27, 27, 27, 13), small_kernel=0, dw_ratio=1.5
    ),
}
register_backbones(RepLKNet, REPLKNET)
