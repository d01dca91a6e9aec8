"""Plain networks: recurrent, convolutional, transformer. They predict the change from the last report.

Each starts as no prediction at all, the last report for every step: its last layer starts at zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from core import nd
from core.residual import Residual, ResidualChain, Rule, create_rule
from core.residual.blocks import BasicBlock, BlockSpec
from tasks.csi.config import CnnConfig, CsiModelConfig, RnnConfig, TransformerConfig
from tasks.csi.layout import from_planes, to_planes
from tasks.csi.models.encoder import Encoder, positions
from tasks.csi.models.standardise import standardised

CELLS: dict[str, Callable[..., nn.Module]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class ChangeNet(nn.Module, ABC):
    """A network that predicts the change from the last report, of standardised histories.

    Args:
        config: Has the standardisation.
    """

    def __init__(self, config: CsiModelConfig) -> None:
        super().__init__()
        self.mode = config.standardise

    def forward(self, history: Tensor) -> Tensor:
        """Maps histories ``(B, T, 2K)`` to predictions ``(B, H, 2K)``."""
        return standardised(self._predict, history, self.mode)

    def _predict(self, x: Tensor) -> Tensor:
        return x[:, -1:] + self.change(x)

    @abstractmethod
    def change(self, x: Tensor) -> Tensor:
        """Maps standardised histories ``(B, T, 2K)`` to the change ``(B, H, 2K)``."""


class RecurrentNet(ChangeNet):
    """Linear, recurrent layers with residual connections (Wu et al., arXiv:1609.08144, section 3.1), linear.

    Args:
        config: Cell, sizes and rule.
        subcarriers: Subcarriers K.
        history: Reports T; any number will do.
        horizon: Reports H that are predicted.
    """

    def __init__(self, config: RnnConfig, subcarriers: int, history: int, horizon: int) -> None:
        super().__init__(config)
        width, features = config.width, 2 * subcarriers
        make_rule = partial(create_rule, config.rule, channels=width, depth=config.layers, dims=1)
        self.embed = nn.Linear(features, width)
        self.layers = ResidualChain(
            Residual(Recurrent(config.cell, width), make_rule(index=i + 1, **config.rule_options))
            for i in range(config.layers)
        )
        self.output = zeroed(nn.Linear(width, horizon * features))
        self.horizon = horizon

    def change(self, x: Tensor) -> Tensor:
        """Reads the state after the last report."""
        states = self.layers(self.embed(x).transpose(1, 2))
        return self.output(states[..., -1]).unflatten(1, (self.horizon, -1))


class Recurrent(nn.Module):
    """One recurrent layer.

    Args:
        cell: One of ``CELLS``.
        width: Width C of its input and of its state.
    """

    def __init__(self, cell: str, width: int) -> None:
        super().__init__()
        self.cell = CELLS[cell](width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, T)`` to the states ``(B, C, T)``."""
        return self.cell(x.transpose(1, 2))[0].transpose(1, 2)


class ConvolutionalNet(ChangeNet):
    """Residual blocks of two 3x3 convolutions over reports and subcarriers, and one convolution over all reports.

    Args:
        config: Sizes and rule.
        subcarriers: Subcarriers K; any number will do.
        history: Reports T.
        horizon: Reports H that are predicted.
    """

    def __init__(self, config: CnnConfig, subcarriers: int, history: int, horizon: int) -> None:
        super().__init__(config)
        conv, width = nd.conv(2), config.width
        spec = partial(
            BlockSpec, width, width, rule=config.rule, rule_options=config.rule_options, depth=config.blocks
        )
        self.layers = ResidualChain(
            [
                conv(2, width, 3, padding=1),
                *(BasicBlock(spec(index=i + 1)) for i in range(config.blocks)),
            ]
        )
        self.output = zeroed(conv(width, 2 * horizon, (history, 1)))  # type: ignore[arg-type]
        self.horizon = horizon

    def change(self, x: Tensor) -> Tensor:
        """Convolves the images of the real and the imaginary part."""
        steps = self.output(self.layers(to_planes(x)))  # (B, 2H, 1, K)
        return from_planes(steps.flatten(1, 2).unflatten(1, (2, self.horizon)))


class TransformerNet(ChangeNet):
    """A linear layer, positions, a transformer encoder whose tokens are reports, and a linear layer on the last one.

    Args:
        config: Sizes and rule.
        subcarriers: Subcarriers K.
        history: Reports T.
        horizon: Reports H that are predicted.
    """

    positions: Tensor

    def __init__(self, config: TransformerConfig, subcarriers: int, history: int, horizon: int) -> None:
        super().__init__(config)
        c, features = config, 2 * subcarriers
        self.embed = nn.Linear(features, c.width)
        self.register_buffer("positions", positions(history, c.width), persistent=False)
        make_rule = partial(_layer_rule, config)
        self.encoder = Encoder(c.width, c.layers, c.heads, c.feedforward, c.dropout, make_rule)
        self.output = zeroed(nn.Linear(c.width, horizon * features))
        self.horizon = horizon

    def change(self, x: Tensor) -> Tensor:
        """Reads the last token."""
        tokens = self.encoder((self.embed(x) + self.positions).transpose(1, 2))
        return self.output(tokens[..., -1]).unflatten(1, (self.horizon, -1))


def _layer_rule(config: TransformerConfig, place: int) -> Rule:
    depth = 2 * config.layers
    return create_rule(
        config.rule, channels=config.width, index=place, depth=depth, dims=1, **config.rule_options
    )


def zeroed(layer: nn.Linear | nd.Conv) -> nn.Linear | nd.Conv:
    """Returns a linear layer or convolution after its weight and bias were set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
