"""Layers that never stretch a distance, and certified bounds of networks made of them.

The 1-Lipschitz residual layer SLL of "A Unified Algebraic Perspective on Lipschitz Neural Networks", Araujo et
al., arXiv:2303.03169, section 4: ``y = x - 2 W T^-1 relu(W^T x + b)`` with the diagonal
``T_i = sum_j |W^T W|_ij q_j / q_i``. ``T - W^T W`` is diagonally dominant after scaling by the positive ``q``,
hence positive semi-definite, and any larger ``T`` will do as well. From that follows ``|y - y'| <= |x - x'|``.

All bounds are for the Euclidean norm and hold up to the rounding of the weights' dtype. Under autocast the
matrix products are rounded to 8 bits or so, and a bound no longer means much.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import type_before_parametrizations

from core import nd
from core.errors import ConfigError
from core.residual.residual import Residual, ResidualChain


def absolute_gram(weight: Tensor) -> Tensor:
    """Returns how strongly the units of a layer overlap, summed over all shifts between two positions.

    Args:
        weight: ``(units, inputs)`` of a dense layer, or ``(units, inputs, *kernel)`` of a convolution.

    Returns:
        ``(units, units)``: the absolute inner products of the rows, or the absolute autocorrelation of the
        kernels (they meet at shifts up to the kernel's size, hence the padding), summed over the shifts.
    """
    if weight.ndim == 2:
        return (weight @ weight.T).abs()
    reach = [size - 1 for size in weight.shape[2:]]
    return _convolve(weight, weight, reach).abs().sum(tuple(range(2, weight.ndim)))


class SLL(Residual):
    """What the dense and the convolution layer have in common: the parameters, ``T``, and the update.

    The rule is the plain sum and cannot be chosen, since the bound holds for no other. Parameters: the weight,
    and ``2 h`` values for ``b`` and ``log q``.

    Args:
        shape: Shape of the weight, ``(h, C, *kernel)``.

    Raises:
        ConfigError: A size is below 1.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        if min(shape) < 1:
            raise ConfigError(f"SLL: channels, hidden and kernel must be 1 or more, not {shape}")
        super().__init__(None, dims=len(shape) - 2)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(shape)))
        limit = math.prod(shape[1:]) ** -0.5
        self.bias = nn.Parameter(torch.empty(shape[0]).uniform_(-limit, limit))
        self.log_q = nn.Parameter(torch.zeros(shape[0]))

    def diagonal(self) -> Tensor:
        """Returns ``T``, ``(h,)``. Units with no weight get a small positive number in place of 0."""
        q = self.log_q.exp()
        diagonal = (absolute_gram(self.weight) @ q) / q
        return diagonal.clamp_min(torch.finfo(diagonal.dtype).eps)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update ``-2 W T^-1 relu(W^T x + b)`` in the shape of ``x``."""
        factor = (-2 / self.diagonal()).reshape(-1, *(1,) * (self.weight.ndim - 1))
        return self.synthesis(self.analysis(x).relu(), factor * self.weight)

    @abstractmethod
    def analysis(self, x: Tensor) -> Tensor:
        """Returns ``W^T x + b``."""

    @abstractmethod
    def synthesis(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Returns ``W h`` for a given ``W`` in the shape of the layer's weight."""


class SLLLinear(SLL):
    """The dense 1-Lipschitz layer, for ``(..., C)``; ``C h + 2 h`` parameters.

    Args:
        features: ``C``.
        hidden: Units ``h`` of the branch.

    Raises:
        ConfigError: A size is below 1.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__((hidden, features))

    def analysis(self, x: Tensor) -> Tensor:
        """Returns ``W^T x + b``, ``(..., h)``."""
        return functional.linear(x, self.weight, self.bias)

    def synthesis(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Returns ``W h``, ``(..., C)``."""
        return functional.linear(hidden, weight.T)


class SLLConv(SLL):
    """The 1-Lipschitz convolution layer, for ``(B, C, *spatial)`` of any size; ``C h k^dims + 2 h`` parameters.

    Zeros are padded. ``T`` is formed on the infinite grid, where ``W^T W`` is the convolution with the kernels'
    autocorrelation and every row has the same sum. A zero-padded convolution extends its input by zeros,
    convolves on the infinite grid and cuts the result. With ``P`` the projection onto the image and ``R`` the
    cut, ``W^T W`` becomes ``R W^T P W R^T <= R W^T W R^T <= R T R^T``, so that the same ``T`` serves every
    image. (It would under circular padding too, where rows alias and can only get smaller; zeros need no
    minimum size and join no opposite borders.)

    Args:
        channels: ``C``.
        hidden: Channels ``h`` of the branch.
        kernel: Width ``k`` of the kernel on each axis, odd.
        dims: Spatial axes, 1 to 3.

    Raises:
        ConfigError: A size is below 1, the kernel is even, or ``dims`` is out of range.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 3, dims: int = 2) -> None:
        if kernel % 2 == 0:
            raise ConfigError(f"SLL: the kernel must be odd, so that the image keeps its size, not {kernel}")
        super().__init__((hidden, channels, *(kernel,) * nd.check_dims(dims)))
        self.padding = [kernel // 2] * dims

    def analysis(self, x: Tensor) -> Tensor:
        """Returns ``W^T x + b``, ``(B, h, *spatial)``."""
        return _convolve(x, self.weight, self.padding, self.bias)

    def synthesis(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Returns ``W h``, ``(B, C, *spatial)``: the transpose of the padded convolution."""
        return _convolve(hidden, weight, self.padding, transposed=True)


def _convolve(
    x: Tensor, weight: Tensor, padding: list[int], bias: Tensor | None = None, transposed: bool = False
) -> Tensor:
    """The one convolution of torch that takes any number of axes."""
    ones, zeros = [1] * len(padding), [0] * len(padding)
    return torch.convolution(x, weight, bias, ones, padding, ones, transposed, zeros, 1)


def lipschitz_bound(module: nn.Module) -> float:
    """Returns a certified Lipschitz constant of a module with the weights that it has now.

    SLL layers and ReLU have 1. A dense layer has the largest singular value of its weight from a full
    decomposition in float64; power iteration, which approaches that value from below, certifies nothing. A
    convolution has the bound of :func:`convolution_bound`. A sequence has the product. Weights may be
    parametrised (``torch.nn.utils.parametrizations.orthogonal``).

    Raises:
        ConfigError: A part has no bound that is known here. Subclasses count as unknown, as they may compute
            something else.
    """
    bound = _BOUNDS.get(type_before_parametrizations(module))
    if bound is None:
        known = ", ".join(sorted(kind.__name__ for kind in _BOUNDS))
        raise ConfigError(f"no certified Lipschitz bound for {type(module).__name__}. Known: {known}")
    return bound(module)


def convolution_bound(conv: nd.Conv) -> float:
    """Returns a certified spectral norm of a zero-padded convolution on images of any size.

    As for ``T`` above, ``|W|^2 <= max_i sum_j |W^T W|_ij q_j / q_i`` for every positive ``q``, seen from the
    outputs or from the inputs. The best ``q`` is the leading eigenvector of the summed absolute
    autocorrelation; stopping its iteration early makes the bound looser but never wrong. Strides and dilation
    drop or spread entries and cannot increase it.

    Raises:
        ConfigError: Padding is not with zeros.
    """
    if conv.padding_mode != "zeros":
        raise ConfigError(f"no certified Lipschitz bound for padding {conv.padding_mode!r}; pad with zeros")
    weight = conv.weight.detach().double()
    return max(
        min(_largest_row(absolute_gram(part)), _largest_row(absolute_gram(part.transpose(0, 1)))) ** 0.5
        for part in weight.chunk(conv.groups)
    )


def _largest_row(gram: Tensor, steps: int = 100) -> float:
    q = gram.new_ones(len(gram))
    for _ in range(steps):
        step = gram @ q
        q = (step / step.max().clamp_min(1e-300)).clamp_min(1e-9)
    return float(((gram @ q) / q).max())


def _dense_bound(linear: nn.Linear) -> float:
    return float(torch.linalg.matrix_norm(linear.weight.detach().double(), 2))


def _sequence_bound(sequence: nn.Sequential | ResidualChain) -> float:
    return math.prod(lipschitz_bound(part) for part in sequence)


def _one(module: nn.Module) -> float:
    return 1.0


# By exact type: what a subclass computes is not known.
_BOUNDS: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.Sequential: _sequence_bound,
    ResidualChain: _sequence_bound,
    nn.Linear: _dense_bound,
    **{nd.conv(dims): convolution_bound for dims in (1, 2, 3)},
    **dict.fromkeys((SLLLinear, SLLConv, nn.ReLU, nn.Tanh, nn.Identity, nn.Flatten), _one),
}


def certified_radius(logits: Tensor, bound: float) -> Tensor:
    """Returns how far an input may move before the predicted class can change: ``margin / (sqrt(2) L)``.

    The margin is the largest logit minus the next. A difference of two logits is a product of the outputs with
    a vector of length ``sqrt(2)``, hence the root (Tsuzuku et al., arXiv:1802.04034, section 4). Whether the
    prediction is right is the caller's affair.

    Args:
        logits: ``(B, classes)`` of at least two classes.
        bound: Lipschitz constant ``L`` of the network that made them, from :func:`lipschitz_bound`.

    Returns:
        Euclidean distances ``(B,)`` in units of the input.

    Raises:
        ConfigError: There is one class, or the bound is not positive.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ConfigError(f"certified_radius takes logits (B, 2 or more classes), not {tuple(logits.shape)}")
    if not bound > 0:
        raise ConfigError(f"certified_radius takes a positive Lipschitz bound, not {bound}")
    best, second = logits.topk(2, dim=1).values.unbind(1)
    return (best - second) / (math.sqrt(2) * bound)
