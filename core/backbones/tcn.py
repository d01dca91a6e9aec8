"""Temporal convolutional networks: residual blocks of causal convolutions whose dilation grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec, Stage, stage_specs
from core.errors import ConfigError
from core.residual.blocks.tcn import CausalConv, TCNBlock
from core.residual.init import initialise
from core.residual.residual import ResidualChain


@dataclass(frozen=True)
class TCNSpec(Spec):
    """Options of temporal convolutional networks, beyond :class:`core.backbones.spec.Spec`.

    ``norm="none"`` means weight normalisation, see :class:`core.residual.blocks.tcn.TCNBlock`. Branches end in an
    activation, behind which a ReLU that begins at 0 may stay there: ``zero_init_last`` is off.

    Attributes:
        widths: Channels of each level; a level is one block.
        kernel: Kernel of all convolutions.
        dilation_base: Level i, from 0, has the dilation ``dilation_base ** i``.
        causal: Whether no output depends on a later input; the head then reads the last time, else the mean.
        weight_norm: Whether the weights are normalised where no other norm is asked for.
    """

    allowed_dims: ClassVar[tuple[int, ...]] = (1,)

    dims: int = 1
    norm: str = "none"
    zero_init_last: bool = False
    widths: tuple[int, ...] = (25,) * 8
    kernel: int = 7
    dilation_base: int = 2
    causal: bool = True
    weight_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"widths must be 1 or more channels for each level, not {self.widths}")
        if self.dilation_base < 1 or self.kernel < 1:
            raise ConfigError(
                f"kernel and dilation_base must be 1 or more, not {self.kernel} and {self.dilation_base}"
            )

    def receptive_field(self) -> int:
        """Returns how many inputs an output depends on: ``1 + 2 (k - 1) (2^n - 1)`` for n levels of base 2."""
        return 1 + 2 * (self.kernel - 1) * sum(self.dilation_base**i for i in range(len(self.widths)))


class TCN(Backbone):
    """Dilated causal residual blocks; Bai et al., arXiv:1803.01271, section 3.

    The features are those of every level, all at the resolution of the input. What a rule adds is not checked:
    ``gated`` decides by a mean over all times.

    Args:
        spec: Widths, kernel and dilations.

    Raises:
        ConfigError: A value is out of range, or a norm or an attention reads later times.
    """

    def __init__(self, spec: TCNSpec) -> None:
        super().__init__(spec)
        stages = [Stage((width,), dilation=spec.dilation_base**i) for i, width in enumerate(spec.widths)]
        self.levels = nn.ModuleList(
            ResidualChain(
                TCNBlock(block, kernel=spec.kernel, causal=spec.causal, weight_norm=spec.weight_norm)
                for block in blocks
            )
            for blocks in stage_specs(spec, spec.in_channels, stages)
        )
        self.causal = spec.causal
        self.feature_info = [FeatureInfo(width, 1, f"levels.{i}") for i, width in enumerate(spec.widths)]
        self.num_features = spec.widths[-1]
        self.dropout = nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity()
        self.fc = nn.Linear(self.num_features, spec.num_classes) if spec.num_classes else nn.Identity()
        self.initialise()

    def initialise(self) -> None:
        """Sets the weights as the spec says, their lengths after their directions."""
        initialise(self, self.spec.init, zero_init_last=False)
        for module in self.modules():
            if isinstance(module, CausalConv):
                module.reset_length()
        initialise(self, "default", self.spec.zero_init_last)

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every level, ``(B, widths[i], L)``; there is no stem."""
        stream, rule, features = x, None, []
        for level in self.levels:
            stream, rule, _ = level.run(stream, rule)  # type: ignore[operator]  # a chain in a ModuleList
            features.append(stream if rule is None else rule.close(stream))
        return features

    def forward_head(self, x: Tensor) -> Tensor:
        """Classifies the last time of a causal network, or the mean over time."""
        return self.fc(self.dropout(x[..., -1] if self.causal else x.mean(-1)))


# Bai et al., arXiv:1803.01271, table 2 of the appendix: sequential MNIST.
TCNS: dict[str, Spec] = {"tcn": TCNSpec(dropout=0.05)}
register_backbones(TCN, TCNS)
