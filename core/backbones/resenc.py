"""Encoders of nnU-Net's U-Nets, whose stages say themselves along which axes they reduce: residual, and plain."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec, Stage, check_stages, stage_specs
from core.errors import ConfigError
from core.residual.blocks import create_block
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.spec import BlockSpec, same_along_axes
from core.residual.residual import ResidualChain


@dataclass(frozen=True)
class StagedSpec(Spec):
    """Options of nnU-Net's encoders, beyond :class:`core.backbones.spec.Spec`.

    Strides and kernels are tuples: of one number for all axes, or of one for each.

    Attributes:
        layers: Residual blocks in each stage, or convolutions.
        widths: Output channels of each stage.
        strides: Stride of each stage, which its first convolution has.
        kernels: Kernel of each stage.
    """

    norm: str = "instance"
    act: str = "leaky_relu"
    init: str = "he_leaky"
    layers: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    widths: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    strides: tuple[tuple[int, ...], ...] = ((1,), (2,), (2,), (2,), (2,), (2,))
    kernels: tuple[tuple[int, ...], ...] = ((3,),) * 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self, self.layers, "widths", "strides", "kernels")
        for name in ("strides", "kernels"):
            for entry in getattr(self, name):
                if len(entry) not in (1, self.dims):
                    raise ConfigError(
                        f"{name}: {entry} must be one number, or one for each of {self.dims} axes"
                    )

    def stages(self) -> list[Stage]:
        """Returns width and stride of the layers, by stage."""
        return [
            Stage((self.widths[i],) * count, same_along_axes(self.strides[i]))
            for i, count in enumerate(self.layers)
        ]


@dataclass(frozen=True)
class ResEncSpec(StagedSpec):
    """Options of the residual encoder, those of :class:`StagedSpec` and the shortcut.

    Attributes:
        shortcut: What the shortcut is where the shape changes, see :mod:`core.residual.blocks.shortcuts`.
    """

    shortcut: str = "resenc"


@dataclass(frozen=True)
class PlainConvSpec(StagedSpec):
    """Options of the encoder without residual connections; what belongs to their branches is refused.

    Raises:
        ConfigError: A rule, an attention or dropout is asked for.
    """

    layers: tuple[int, ...] = (2,) * 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule != "add" or self.rule_options:
            raise ConfigError("plain convolutions are not added and have no residual rule: leave it 'add'")
        if self.attention != "none" or self.dropout:
            raise ConfigError(
                "plain convolutions have no attention and no dropout; take resenc6 or head_dropout"
            )


class StagedEncoder(Backbone):
    """What both encoders share: features of every stage, of which the first has the size of the input.

    Args:
        spec: Depths, widths, strides and kernels.
    """

    def __init__(self, spec: StagedSpec) -> None:
        super().__init__(spec)
        self.feature_info = []
        factors = (1,) * spec.dims
        for i, stage in enumerate(spec.stages()):
            strides = stage.stride if isinstance(stage.stride, tuple) else (stage.stride,) * spec.dims
            factors = tuple(factor * stride for factor, stride in zip(factors, strides, strict=True))
            self.feature_info.append(FeatureInfo(spec.widths[i], same_along_axes(factors), f"stages.{i}"))
        self.num_features = self.feature_info[-1].channels

    def add_head(self) -> None:
        """Ends the network, and sets all weights."""
        self.dropout = nn.Dropout(self.spec.head_dropout) if self.spec.head_dropout else nn.Identity()
        classes = self.spec.num_classes
        self.fc = nn.Linear(self.num_features, classes) if classes else nn.Identity()
        self.initialise()

    def forward_head(self, x: Tensor) -> Tensor:
        """Averages the last features over space and classifies them."""
        return self.fc(self.dropout(nd.spatial_mean(x)))


class ResEnc(StagedEncoder):
    """A stem of one convolution, and stages of residual blocks: the encoder of nnU-Net's ResEnc presets.

    "nnU-Net Revisited", Isensee et al., arXiv:2404.09556, section 3, with the numbers of the authors' code: shortcuts
    are averaged where a stage reduces and have a 1x1 convolution and norm where it widens; convolutions have biases
    although norms follow; instance norms, leaky ReLUs of slope 0.01.

    Args:
        spec: Depths, widths, strides and kernels.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(self, spec: ResEncSpec) -> None:
        super().__init__(spec)
        width = spec.widths[0]
        make = spec.block_spec(spec.in_channels, width)
        self.stem = conv_norm(make, spec.in_channels, width, spec.kernels[0], bias=True)
        self.stem_info = FeatureInfo(width, 1, "stem")
        self.stages = nn.ModuleList(
            ResidualChain(create_block("basic", block, kernel=kernel, bias=True) for block in blocks)
            for blocks, kernel in zip(stage_specs(spec, width, spec.stages()), spec.kernels, strict=False)
        )
        self.add_head()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every stage, after those of the stem if asked."""
        stream, rule = self.stem(x), None
        features = [stream] if stem else []
        for chain in self.stages:
            stream, rule, _ = chain.run(stream, rule)  # type: ignore[operator]  # a chain in a ModuleList
            features.append(stream if rule is None else rule.close(stream))
        return features


class PlainConv(StagedEncoder):
    """Stages of convolutions with norm and activation, the first of each strided: the encoder of nnU-Net's U-Net.

    Isensee et al., Nature Methods 18, 2021, with the numbers of the authors' code. Nothing is added in this network, so
    that it has no residual rule.

    Args:
        spec: Depths, widths, strides and kernels.

    Raises:
        ConfigError: A rule other than ``add`` is asked for, or a value is out of range.
    """

    def __init__(self, spec: PlainConvSpec) -> None:
        super().__init__(spec)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_plain(block, kernel) for block in blocks))
            for blocks, kernel in zip(
                stage_specs(spec, spec.in_channels, spec.stages()), spec.kernels, strict=False
            )
        )
        self.add_head()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every stage; there is no stem."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _plain(spec: BlockSpec, kernel: tuple[int, ...]) -> nn.Module:
    return conv_norm(spec, spec.in_channels, spec.out_channels, kernel, stride=spec.stride, bias=True)


# The topology of the presets M, L and XL in volumes: arXiv:2404.09556, and the plain one beside it.
RESENC: dict[str, Spec] = {"resenc6": ResEncSpec()}
PLAINCONV: dict[str, Spec] = {"plainconv6": PlainConvSpec()}
register_backbones(ResEnc, RESENC)
register_backbones(PlainConv, PLAINCONV)
