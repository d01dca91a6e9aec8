"""Hyper-connections: several copies of the features, mixed by learned weights around every block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual.rule import Rule, RuleSpec
from core.residual.rules.gated import per_sample

EPS = 1e-6


class Hyper(Rule):
    """The branch reads ``sum_j a_j x_j``; the next streams are ``x_k' = b_k f + sum_j A_jk x_j``.

    "Hyper-Connections", Zhu et al., arXiv:2409.19606, section 2. Each of the ``n`` streams has the
    shape of the features. At the start the branch of block ``l`` reads stream ``(l - 1) mod n``, ``A`` is the
    identity and every ``b`` is 1, so that a chain is the plain residual network.

    A chain ends with the mean of its streams, where the paper has the sum: the network begins as the plain one
    and not as ``n`` times it. For the dynamic weights see :class:`ConnectionWeights`.

    Args:
        spec: Where the rule stands in its network; gives ``l``, and ``channels`` if ``dynamic``.
        streams: ``n``.
        dynamic: Let the weights depend on the features; otherwise they are learned constants.

    Raises:
        ConfigError: ``streams`` is below 1.
    """

    plain_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, streams: int = 2, dynamic: bool = True) -> None:
        super().__init__(spec)
        if streams < 1:
            raise ConfigError(f"hyper: streams must be 1 or more, not {streams}")
        self.streams = streams
        first = torch.eye(streams)[:, [(spec.index - 1) % streams]]
        self.weights = ConnectionWeights(first, spec.width if dynamic else None)

    def open(self, x: Tensor) -> list[Tensor]:
        """Copies the features into every stream."""
        return [x] * self.streams

    def close(self, stream: list[Tensor]) -> Tensor:
        """Returns the mean of the streams."""
        first, *others = stream
        # Not sum / n: of n equal streams that is not always the stream itself, three thirds being rounded.
        differences = [other - first for other in others]
        return sum(differences, torch.zeros_like(first)) / self.streams + first

    def prepare(self, stream: list[Tensor]) -> tuple[Tensor, tuple[list[Tensor], Tensor]]:
        """Mixes what the branch reads, and the streams that its update will be added to."""
        width, depth = self.weights(stream)
        read, *mixed = (weighted_sum(column, stream) for column in width.unbind(-1))
        return read, (mixed, depth)

    def merge(self, update: Tensor, state: tuple[list[Tensor], Tensor]) -> list[Tensor]:
        """Adds the weighted update to every mixed stream."""
        mixed, depth = state
        return add_weighted(depth, [update] * self.streams, mixed)

    def activate(self, act: Callable[[Tensor], Tensor], stream: list[Tensor]) -> list[Tensor]:
        """Activates every stream: each block makes them all."""
        return [act(part) for part in stream]

    def parameter_formula(self) -> int:
        """``n (n + 1) + n`` constants; if dynamic ``C (n + 1) + C`` and the two scales besides."""
        return self.weights.count()


class ConnectionWeights(nn.Module):
    """Weights of the connections between ``n`` parts of the stream, and how they follow the features.

    ``width = W + s_w tanh(h P_w)`` and ``depth = 1 + s_d tanh(h P_d)``, where row ``j`` of ``h`` holds the
    features of part ``j``, normalised by their root mean square without learned scale. ``P`` starts at 0 and
    ``s`` at 0.01 (arXiv:2409.19606, section 2.2; its layer norm also takes the mean off). A transformer
    computes weights for every position; here ``h`` is averaged over space first, so that a sample has one set
    of weights, as in channel attention, and a convolution's neighbours are mixed alike.

    Args:
        reads: First weights of what the branch reads, ``(n, r)``; the identity ``(n, n)`` of the next parts
            is put beside it to give ``W``.
        channels: Channels of one part; ``None`` for constant weights.
    """

    def __init__(self, reads: Tensor, channels: int | None) -> None:
        super().__init__()
        parts = len(reads)
        self.width = nn.Parameter(torch.cat([reads, torch.eye(parts)], dim=1))
        self.depth = nn.Parameter(torch.ones(parts))
        self.channels = channels
        if channels is not None:
            self.mean = nd.SpatialMean()
            self.width_projection = nn.Parameter(torch.zeros(channels, self.width.shape[1]))
            self.depth_projection = nn.Parameter(torch.zeros(channels, 1))
            self.width_scale = nn.Parameter(torch.full((1,), 0.01))
            self.depth_scale = nn.Parameter(torch.full((1,), 0.01))

    def forward(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns weights ``(B, n, r + n)`` and ``(B, n)``, without batch axis where they are constant."""
        if self.channels is None:
            return self.width, self.depth
        features = torch.stack([self.mean(part) for part in parts], dim=1)
        features = nn.functional.rms_norm(features, (self.channels,), eps=EPS)
        width = torch.tanh(features @ self.width_projection) * self.width_scale
        depth = torch.tanh(features @ self.depth_projection).squeeze(-1) * self.depth_scale
        return self.width + width, self.depth + depth

    def count(self) -> int:
        """The number of weights by formula: ``n (r + n) + n``, and if dynamic ``c (r + n) + c + 2``."""
        parts, columns = self.width.shape
        dynamic = 0 if self.channels is None else self.channels * (columns + 1) + 2
        return parts * columns + parts + dynamic


# Both sums are written out: a matrix product would be rounded to bfloat16 under autocast, and to TF32 on a GPU.


def weighted_sum(weights: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Returns ``sum_j w_j x_j`` in the dtype of ``x``; weights ``(n,)``, or ``(B, n)`` a sample."""
    products = [
        per_sample(weight, part) * part for weight, part in zip(weights.unbind(-1), parts, strict=True)
    ]
    return sum(products[1:], products[0]).to(parts[0].dtype)


def add_weighted(weights: Tensor, updates: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """Returns every ``x_j + w_j f_j``; weights ``(n,)``, or ``(B, n)`` a sample."""
    return [
        part + (per_sample(weight, update) * update).to(update.dtype)
        for weight, update, part in zip(weights.unbind(-1), updates, parts, strict=True)
    ]
