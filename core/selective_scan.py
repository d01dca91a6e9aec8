"""The recurrence of selective state-space models in plain PyTorch: exact, and linear in the length.

"Mamba: Linear-Time Sequence Modeling with Selective State Spaces", Gu and Dao, arXiv:2312.00752, section 3.2. Automatic
differentiation of a loop over time is quadratic in the length, since the gradient of every slice is as large as the
whole; sums of logarithms (two ``cumsum``) are not exact. Here the gradient is written by hand, and states live in
stretches of time that fit into a processor's cache: all that is kept for the backward pass is one state a stretch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

Recurrence = Callable[[Tensor, Tensor, bool], Tensor]

CACHED = {"cpu": 2**18}
"""Numbers in the states of a stretch: one MiB stays in a core's cache."""
CACHED_ELSEWHERE = 2**25
"""Likewise on other devices, where few and large operations are faster."""
SHORTEST = 16
"""Steps of a stretch at least, if need be of fewer samples at a time: one state in so many is kept."""


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None
) -> Tensor:
    """Runs ``h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t`` and returns ``y_t = C_t h_t + D u_t``.

    The discretisation is Mamba's: zero-order hold of ``A``, and its first order of ``B`` (arXiv:2312.00752, eq. 4 and
    the authors' code). It is computed in float32 or better, also under autocast. Steps follow each other on a CPU; on
    other devices blocks of steps run side by side. ``torch.export`` and ``torch.compile`` get the second form without
    the hand-written gradient, for a length that is fixed.

    Args:
        u: Input ``(B, D, L)``.
        delta: Step sizes ``(B, D, L)``, positive.
        A: ``(D, N)``, negative.
        B: ``(B, N, L)``.
        C: ``(B, N, L)``.
        D: Weight of the input in the output ``(D,)``; ``None`` is 0.

    Returns:
        ``(B, D, L)`` in the dtype of ``u``. The gradient can be taken once.
    """
    parts = (u, delta, B, C)
    if torch.compiler.is_compiling():
        return _scanned(parallel_scan, parts, A, D)
    groups = zip(*(part.split(_rows(A)) for part in parts), strict=True)
    return torch.cat([_scanned(SelectiveScan.apply, group, A, D) for group in groups])


def parallel_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Computes all states in blocks that run side by side, with the memory of a few times all of them.

    Args:
        u: Input ``(L, B, D)``.
        delta: ``(L, B, D)``.
        A: ``(N, D)``.
        B: ``(L, B, N)``.
        C: ``(L, B, N)``.

    Returns:
        ``(L, B, D)``, without what ``D`` adds.
    """
    decay = torch.exp(delta.unsqueeze(2) * A)
    states = blockwise(decay[1:], (delta * u).unsqueeze(2) * B.unsqueeze(3), False)
    # Not as a matrix product, which autocast would round.
    return (C.unsqueeze(3) * states).sum(2)


def stepwise(decay: Tensor, x: Tensor, reverse: bool) -> Tensor:
    """Adds ``decay[t] * x[t]`` to ``x[t + 1]``, in place and in the order of time.

    Args:
        decay: What leads from each step to the next, ``(T - 1, ...)``.
        x: ``(T, ...)``; it is overwritten.
        reverse: Go backwards: add ``decay[t] * x[t + 1]`` to ``x[t]``.

    Returns:
        ``x``.
    """
    links, steps = decay.unbind(0), x.unbind(0)
    if reverse:
        links, steps = links[::-1], steps[::-1]
    for link, before, now in zip(links, steps, steps[1:], strict=False):  # there is one link fewer
        now.addcmul_(link, before)
    return x


def blockwise(decay: Tensor, x: Tensor, reverse: bool) -> Tensor:
    """Does what :func:`stepwise` does, but not in place, and with ``2 sqrt(T)`` operations in place of ``T``.

    Time is cut into blocks of about ``sqrt(T)`` steps, which run side by side from zero; then their last states run
    from block to block. It is exact: products of decays alone, no quotients.
    """
    if reverse:
        return blockwise(decay.flip(0), x.flip(0), False).flip(0)
    length, others = x.shape[0], (0,) * 2 * (x.ndim - 1)
    steps = math.isqrt(length - 1) + 1
    blocks = -(-length // steps)
    end = blocks * steps - length
    values = functional.pad(x, (*others, 0, end)).unflatten(0, (blocks, steps)).unbind(1)
    # What leads to the first step of all is never multiplied with anything but zero.
    links = functional.pad(decay, (*others, 1, end)).unflatten(0, (blocks, steps)).unbind(1)
    within, reach = [values[0]], [links[0]]
    for link, value in zip(links[1:], values[1:], strict=True):
        within.append(torch.addcmul(value, link, within[-1]))
        reach.append(link * reach[-1])
    before = [torch.zeros_like(x[0])]
    for last, product in zip(within[-1][:-1].unbind(0), reach[-1][:-1].unbind(0), strict=True):
        before.append(torch.addcmul(last, product, before[-1]))
    carried = torch.stack(before).unsqueeze(1)
    return torch.addcmul(torch.stack(within, 1), torch.stack(reach, 1), carried).flatten(0, 1)[:length]


class SelectiveScan(torch.autograd.Function):
    """:func:`parallel_scan` in stretches of time, with a gradient that is linear in the length.

    The backward pass computes the states of a stretch again from the one before it. With ``g_t`` the gradient of
    ``h_t``, which runs backwards as ``g_t = C_t dy_t + exp(delta_(t+1) A) g_(t+1)``, and ``p_t = g_t h_(t-1)
    exp(delta_t A)``: ``d(delta_t u_t) = B_t g_t``, ``dB_t = g_t delta_t u_t``, ``dC_t = h_t dy_t``, ``dA = sum p_t
    delta_t``, and ``p_t A`` is what ``delta_t`` gets beside its share of the product.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """As :func:`parallel_scan`."""
        y = torch.empty_like(u)
        state = u.new_zeros(u.shape[1], *A.shape)
        ctx.stretch, ctx.recurrence, borders = _stretch(state), _recurrence(u), []
        with _full_precision(u):
            for start in range(0, len(u), ctx.stretch):
                part = slice(start, start + ctx.stretch)
                borders.append(state)
                _, states = _states(delta[part], delta[part] * u[part], A, B[part], state, ctx.recurrence)
                y[part] = (C[part].unsqueeze(2) @ states).squeeze(2)
                state = states[-1].clone()  # a view would keep the whole stretch
        ctx.save_for_backward(u, delta, A, B, C, torch.stack(borders))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        """Returns the gradients of all five arguments."""
        with _full_precision(dy):
            return _gradients(dy.contiguous(), ctx.saved_tensors, ctx.stretch, ctx.recurrence)


def _scanned(scan: Callable[..., Tensor], parts: tuple[Tensor, ...], A: Tensor, D: Tensor | None) -> Tensor:
    """Brings ``u, delta, B, C`` into the order in which both forms have them, and the output back."""
    dtype = parts[0].dtype
    exact = torch.promote_types(dtype, torch.float32)
    # Time first, and channels last, where they are contiguous in every product.
    u, delta, B, C = (part.to(exact).permute(2, 0, 1).contiguous() for part in parts)
    y = scan(u, delta, A.to(exact).t().contiguous(), B, C)
    y = y if D is None else torch.addcmul(y, u, D.to(exact))
    return y.permute(1, 2, 0).to(dtype)


def _gradients(
    dy: Tensor, saved: tuple[Tensor, ...], stretch: int, recurrence: Recurrence
) -> tuple[Tensor, ...]:
    u, delta, A, B, C, borders = saved
    du, ddelta, dA, dB, dC = (torch.empty_like(x) for x in (u, delta, A, B, C))
    dA.zero_()
    later = torch.zeros_like(borders[0])
    for border, start in reversed(list(zip(borders, range(0, len(u), stretch), strict=True))):
        part = slice(start, start + stretch)
        step, weighted = delta[part], delta[part] * u[part]
        decay, h = _states(step, weighted, A, B[part], border, recurrence)
        g = dy[part].unsqueeze(2) * C[part].unsqueeze(3)
        g[-1] += later
        g = recurrence(decay[1:], g, True)
        later = decay[0] * g[0]
        dC[part] = (h @ dy[part].unsqueeze(3)).squeeze(3)
        dB[part] = (g @ weighted.unsqueeze(3)).squeeze(3)
        dweighted = (B[part].unsqueeze(2) @ g).squeeze(2)
        p = decay.mul_(g)
        p[0] *= border
        p[1:] *= h[:-1]
        torch.mul(dweighted, step, out=du[part])
        ddelta[part] = torch.mul(p, A, out=h).sum(2).addcmul_(dweighted, u[part])
        dA += p.mul_(step.unsqueeze(2)).sum((0, 1))
    return du, ddelta, dA, dB, dC


def _states(
    delta: Tensor, weighted: Tensor, A: Tensor, B: Tensor, state: Tensor, recurrence: Recurrence
) -> tuple[Tensor, Tensor]:
    """Returns the decays and the states of a stretch, ``(T, B, N, D)``, from the state before it ``(B, N, D)``."""
    decay = (delta.unsqueeze(2) * A).exp_()
    x = weighted.unsqueeze(2) * B.unsqueeze(3)
    x[0].addcmul_(decay[0], state)
    return decay, recurrence(decay[1:], x, False)


def _full_precision(x: Tensor) -> AbstractContextManager[object]:
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _cached(x: Tensor) -> int:
    return CACHED.get(x.device.type, CACHED_ELSEWHERE)


def _rows(A: Tensor) -> int:
    """Samples that are scanned together."""
    return max(1, _cached(A) // (SHORTEST * A.numel()))


def _stretch(state: Tensor) -> int:
    return max(SHORTEST, _cached(state) // state.numel())


def _recurrence(x: Tensor) -> Recurrence:
    return stepwise if x.device.type == "cpu" else blockwise
