"""What every backbone is built from: one frozen record a family, handed down whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from core.errors import ConfigError
from core.nd import check_dims
from core.residual.blocks.spec import BlockSpec
from core.residual.drop import drop_path_rates


@dataclass(frozen=True)
class Spec:
    """Options that every backbone has; families add their own.

    Attributes:
        dims: 1 for signals ``(B, C, L)``, 2 for images ``(B, C, H, W)``, 3 for volumes ``(B, C, D, H, W)``.
        in_channels: Channels of the input.
        num_classes: Classes of the head; ``None`` gives pooled features ``(B, C)``.
        rule: Residual rule of every block, see :func:`core.residual.list_rules`.
        rule_options: Options of the rule.
        norm: Normalisation of every layer, see :func:`core.nd.norm`.
        norm_eps: What the normalisations add to a variance; ``None`` is PyTorch's 1e-5.
        act: Activation of every layer, see :func:`core.nd.act`.
        attention: Attention at the end of every branch, see ``core.residual.attention.list_attention()``.
        attention_options: Options of the attention.
        drop_path: Probability of dropping an update in the last block; it grows linearly from 0 in the first.
        dropout: Dropout inside the blocks that have it (Wide ResNet).
        head_dropout: Dropout before the classifier.
        init: Scheme of the weights, see :func:`core.residual.init.initialise`.
        zero_init_last: Begin each block as its shortcut, wherever its rule does not do so already.

    Raises:
        ConfigError: A value is out of its range.
    """

    allowed_dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    dims: int = 2
    in_channels: int = 3
    num_classes: int | None = None
    rule: str = "add"
    rule_options: Mapping[str, Any] = field(default_factory=dict)
    norm: str = "batch"
    norm_eps: float | None = None
    act: str = "relu"
    attention: str = "none"
    attention_options: Mapping[str, Any] = field(default_factory=dict)
    drop_path: float = 0.0
    dropout: float = 0.0
    head_dropout: float = 0.0
    init: str = "kaiming"
    zero_init_last: bool = True

    def __post_init__(self) -> None:
        if check_dims(self.dims) not in self.allowed_dims:
            allowed = " or ".join(map(str, self.allowed_dims))
            raise ConfigError(f"this backbone exists for dims={allowed} alone, not {self.dims}")
        if type(self.in_channels) is not int or self.in_channels < 1:
            raise ConfigError(f"in_channels must be 1 or more, not {self.in_channels}")
        count = self.num_classes
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ConfigError(f"num_classes must be 1 or more, or None for features, not {count!r}")
        for name in ("drop_path", "dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), not {getattr(self, name)}")

    def block_spec(self, in_channels: int, out_channels: int, **place: Any) -> BlockSpec:
        """Returns the spec of a block of this backbone: what both records have in common is handed down.

        Args:
            in_channels: Channels of the stream before the block.
            out_channels: Channels after it.
            **place: Further fields of :class:`core.residual.blocks.BlockSpec`, such as ``stride`` and ``index``.
        """
        shared = {f.name for f in fields(self)} & {f.name for f in fields(BlockSpec)}
        common = {name: getattr(self, name) for name in shared - {"in_channels"}}
        return BlockSpec(in_channels, out_channels, **{**common, **place})


def check_stages(spec: Spec, layers: Sequence[int], *names: str) -> None:
    """Checks that each stage has a block, and an entry in every option that has one a stage.

    Args:
        spec: The family's spec.
        layers: Blocks in each stage.
        *names: Fields of the spec with one entry a stage.

    Raises:
        ConfigError: A stage has no block, or a field is too short.
    """
    if not layers or min(layers) < 1:
        raise ConfigError(f"layers must be 1 or more blocks for each stage, not {tuple(layers)}")
    for name in names:
        if len(getattr(spec, name)) < len(layers):
            raise ConfigError(f"{name} {getattr(spec, name)} has fewer entries than layers {tuple(layers)}")


@dataclass(frozen=True)
class Stage:
    """Blocks at one resolution.

    Attributes:
        widths: Output channels of each block.
        stride: Stride of the first block, one number or one an axis.
        dilation: Dilation of the blocks.
    """

    widths: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    dilation: int = 1


def stage_specs(spec: Spec, in_channels: int, stages: Sequence[Stage]) -> list[list[BlockSpec]]:
    """Returns the spec of every block, each with its place in the whole network.

    Args:
        spec: The backbone's.
        in_channels: Channels that the first block reads.
        stages: Stages in their order.
    """
    depth = sum(len(stage.widths) for stage in stages)
    rates = drop_path_rates(spec.drop_path, depth)
    specs: list[list[BlockSpec]] = []
    history: tuple[int, ...] = ()
    index = 0
    for stage in stages:
        specs.append([])
        for position, width in enumerate(stage.widths):
            stride = stage.stride if position == 0 else 1
            block = spec.block_spec(
                in_channels,
                width,
                stride=stride,
                dilation=stage.dilation,
                drop_path=rates[index],
                index=index + 1,
                depth=depth,
            )
            if block.changes_shape:
                history = (in_channels, *history)
            specs[-1].append(replace(block, history=history))
            in_channels = width
            index += 1
    return specs
