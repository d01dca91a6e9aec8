"""Low-rank storage: fine-tuned weights as their base plus a truncated difference.

"Efficient Storage of Fine-Tuned Models via Low-Rank Approximation of Weight Residuals", Ryu et al.,
arXiv:2305.18425: the difference of fine-tuned and base weights has a low effective rank, so that its largest
singular values keep most of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from core.errors import ConfigError, PackageError

LEFT, RIGHT, WHOLE = "left/", "right/", "whole/"
"""What a stored tensor is: a factor of its weight's difference, or the tensor itself."""


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Returns the bytes that the values of tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def encode(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    rank: int | None = None,
    energy: float | None = None,
) -> dict[str, Tensor]:
    """Stores fine-tuned weights as their difference from a base.

    A floating-point weight with two axes or more becomes two factors, ``left/NAME`` of m x r and
    ``right/NAME`` of r x n in the weight's dtype, if they are smaller than the weight. Everything else that
    differs is stored as it is, ``whole/NAME``: vectors, integers, weights of another shape. Equal tensors are
    not stored. A weight is taken as a matrix where its axes split most evenly (the smallest m + n): an
    ``(out, in, k, k)`` convolution at ``out``, stacked ``(members, out, in)`` weights at ``in``.

    Args:
        base: Weights that the tuned ones started from.
        tuned: Weights to store.
        rank: Largest rank r; ``None`` for as many singular values as are above rounding.
        energy: Keeps the fewest singular values whose squares make up this share of the sum, in (0, 1].

    Returns:
        The stored tensors, on the CPU; :func:`decode` gives the weights back. The squared error of a factored
        weight is the sum of the squares of the singular values left out (Eckart and Young, 1936).

    Raises:
        ConfigError: An option is out of range, or one side has tensors that the other lacks.
    """
    if rank is not None and rank < 1:
        raise ConfigError(f"rank of a low-rank difference must be 1 or more, not {rank}")
    if energy is not None and not 0 < energy <= 1:
        raise ConfigError(f"energy of a low-rank difference must be in (0, 1], not {energy}")
    _same_names(base, tuned)
    stored: dict[str, Tensor] = {}
    for name, weight in tuned.items():
        origin, weight = base[name].detach().cpu(), weight.detach().cpu()
        same_shape = origin.shape == weight.shape
        if same_shape and origin.dtype == weight.dtype and torch.equal(origin, weight):
            continue
        factors = None
        if (
            same_shape
            and weight.ndim > 1
            and weight.numel()
            and weight.is_floating_point()
            and origin.is_floating_point()
        ):
            # What rounding has done to the weights themselves is no part of the difference.
            rounding = max(torch.finfo(w.dtype).eps * w.abs().max().item() for w in (origin, weight))
            factors = _factorise(_wide(weight) - _wide(origin), rank, energy, rounding)
        if factors is not None:
            stored[LEFT + name], stored[RIGHT + name] = (
                factor.to(weight.dtype).contiguous() for factor in factors
            )
        else:
            stored[WHOLE + name] = weight.clone()
    return stored


def decode(base: Mapping[str, Tensor], delta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Restores the weights that :func:`encode` has stored.

    Args:
        base: The same weights that were given to :func:`encode`.
        delta: What it returned.

    Raises:
        PackageError: The two do not belong together, or ``delta`` is not of this format.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in base.items()}
    for key, tensor in delta.items():
        kind, _, name = key.partition("/")
        if kind + "/" not in (LEFT, RIGHT, WHOLE) or name not in weights:
            raise PackageError(f"{key!r} is no stored difference of a weight of this base")
        if kind + "/" == WHOLE:
            weights[name] = tensor
        elif kind + "/" == LEFT:
            right = delta.get(RIGHT + name)
            if right is None or tensor.shape[1:] != right.shape[:1]:
                raise PackageError(f"the factors of {name!r} do not fit each other")
            if len(tensor) * right.shape[1] != weights[name].numel():
                raise PackageError(
                    f"the factors of {name!r} do not fit the base's {tuple(weights[name].shape)}"
                )
            difference = (_wide(tensor) @ _wide(right)).reshape(weights[name].shape)
            weights[name] = (_wide(weights[name]) + difference).to(tensor.dtype)
    return weights


def _same_names(base: Iterable[str], tuned: Iterable[str]) -> None:
    missing, extra = sorted(set(base) - set(tuned)), sorted(set(tuned) - set(base))
    if missing or extra:
        name, owner = (missing[0], "base") if missing else (extra[0], "tuned")
        raise ConfigError(
            f"base and tuned weights are not of one architecture: {len(missing) + len(extra)} tensors are in one "
            f"of them alone, such as {name!r} in the {owner} weights; give the base that the model started from"
        )


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _split(shape: torch.Size) -> tuple[int, int]:
    """Returns rows and columns of the most even matrix that a weight of this shape can be read as."""
    rows = [math.prod(shape[:axis]) for axis in range(1, len(shape))]
    count = math.prod(shape)
    best = min(rows, key=lambda m: m + count // max(m, 1))
    return best, count // max(best, 1)


def _factorise(
    difference: Tensor, rank: int | None, energy: float | None, rounding: float
) -> tuple[Tensor, Tensor] | None:
    """Returns ``U sqrt(S)`` and ``sqrt(S) V^T`` of the rank asked for; None if they are not smaller.

    ``rounding`` is the size of the noise in each entry: singular values that it explains are left out.
    """
    m, n = _split(difference.shape)
    if not torch.isfinite(difference).all():
        return None
    left, values, right = torch.linalg.svd(difference.reshape(m, n), full_matrices=False)
    # The spectral norm of a random matrix with entries of that size, and the rounding of the decomposition.
    noise = max(rounding * (m**0.5 + n**0.5), torch.finfo(values.dtype).eps * max(m, n) * values[0].item())
    keep = max(int((values > noise).sum()), 1)
    if rank is not None:
        keep = min(keep, rank)
    if energy is not None:
        share = values.double().square().cumsum(0)
        keep = min(keep, int((share < energy * share[-1]).sum()) + 1)
    if keep * (m + n) >= m * n:
        return None
    root = values[:keep].sqrt()  # half on each side, so that neither leaves the range of a short dtype
    return left[:, :keep] * root, root[:, None] * right[:keep]
