"""Terms that are added to every task's loss: what the weights should be like, whatever the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from core.config import TrainConfig
from core.errors import ConfigError
from core.residual.gating import gate_cost
from core.train.stacked import owned_parameters


def matrices(model: nn.Module) -> Iterator[Tensor]:
    """Yields the weight of each convolution and linear layer that is trained as ``(E, outputs, inputs)``.

    Spatial axes count as inputs; E is the number of stacked members, 1 outside of a stack.
    """
    for owner, name, parameter, axes in owned_parameters(model):
        if name == "weight" and isinstance(owner, nn.Linear | _ConvNd) and parameter.requires_grad:
            members = parameter if axes else parameter[None]
            yield members.flatten(2)


def orthonormality(model: nn.Module) -> Tensor:
    """Returns ``1/2 sum ||W W^T - I||_F^2`` over the model's weight matrices (scalar, float32).

    "All You Need is Beyond a Good Init", Xie et al., arXiv:1703.01827, without its factor lambda.
    Rows are the filters; where there are more filters than inputs they cannot be orthonormal, and the columns
    are asked to be. It is 0 for orthonormal weights. Members of a stack add up, as their losses do.

    Raises:
        ConfigError: The model has no convolution and no linear layer.
    """
    terms = []
    for weight in matrices(model):
        rows = weight if weight.shape[1] <= weight.shape[2] else weight.transpose(1, 2)
        gram = rows.float() @ rows.float().transpose(1, 2)
        terms.append((gram - torch.eye(gram.shape[1], device=gram.device)).square().sum())
    if not terms:
        raise ConfigError("--train.orthonormal: this model has no convolution and no linear layer; use 0")
    return 0.5 * torch.stack(terms).sum()


Terms = Callable[[], dict[str, Tensor]]
"""Returns what is added to the loss of the forward pass just made, by its name in the curves."""


@contextmanager
def penalties(model: nn.Module, config: TrainConfig) -> Iterator[Terms]:
    """Surrounds a forward pass; what it yields is called afterwards and gives the terms of ``config``.

    The cost of gates is ``alpha`` times the mean probability that a gate is open ("SkipNet", Wang et al.,
    arXiv:1711.09485, whose blocks all cost the same), see :func:`core.residual.gating.gate_cost`.

    Raises:
        ConfigError: The model has nothing that a term applies to.
    """

    def terms() -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if config.orthonormal:
            found["orthonormal"] = config.orthonormal * orthonormality(model)
        if gates is not None:
            found["gate_cost"] = config.gate_cost * gates.mean().float()
        return found

    with gate_cost(model) if config.gate_cost else nullcontext() as gates:
        yield terms
