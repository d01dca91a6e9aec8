"""Many models of one shape trained as one: their layers become batched matrix products.

The model is written for one member and knows nothing of this; ``torch.func`` adds the member axis. So any
network with any residual rule can be an ensemble, and training members together equals training each alone,
up to the random numbers that are drawn inside a step (stochastic depth).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap


class Stacked(nn.Module):
    """E models of one architecture with a leading member axis on every parameter, input and output.

    Args:
        members: Models that differ in their weights only. They must hold no buffers that training changes.
        batched: Run members as batched products, or (False) one after the other, which needs less memory.
    """

    def __init__(self, members: Sequence[nn.Module], batched: bool = True) -> None:
        super().__init__()
        self.num_members = len(members)
        base = copy.deepcopy(members[0])
        names = [name for name, _ in base.named_parameters()]
        self.stacked = nn.ParameterDict()
        for name in names:
            value = torch.stack([m.get_parameter(name).detach() for m in members])
            parameter = nn.Parameter(value, requires_grad=base.get_parameter(name).requires_grad)
            self.stacked[name.replace(".", "/")] = parameter
            base.get_parameter(name).data = torch.empty(0)  # the shape lives in `stacked`
        # Each place that holds a parameter, once. `functional_call` would find a module that stands under two
        # names twice, and leave the weights of its second visit behind.
        first = {id(p): name for name, p in base.named_parameters()}
        self._places = {
            f"{path}.{name}" if path else name: first[id(p)]
            for path, module in base.named_modules()
            for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
        }
        # In a list, so that the weightless template is not registered as a child.
        self._base = [base]
        self.batched = batched

    def forward(self, *inputs: Tensor) -> Any:
        """Runs member ``e`` on ``inputs[i][e]``; outputs are stacked along a first axis of size E."""
        weights = {name.replace("/", "."): p for name, p in self.stacked.items()}
        if self.num_members > 1 and self.batched:
            return vmap(self._call, randomness="different")(weights, *inputs)
        # `unbind` has a cheap backward; indexing would fill a full-size gradient for each member.
        parts = {name: p.unbind(0) for name, p in weights.items()}
        outputs = [
            self._call({name: p[e] for name, p in parts.items()}, *(x[e] for x in inputs))
            for e in range(self.num_members)
        ]
        return torch.stack(outputs)

    def _call(self, weights: dict[str, Tensor], *inputs: Tensor) -> Any:
        placed = {place: weights[name] for place, name in self._places.items()}
        return functional_call(self._base[0], placed, inputs, tie_weights=False)

    def member(self, index: int) -> nn.Module:
        """Returns one member as an ordinary module with its own copy of the weights."""
        model = copy.deepcopy(self._base[0])
        for name, parameter in self.stacked.items():
            model.get_parameter(name.replace("/", ".")).data = parameter[index].detach().clone()
        return model

    def clip_grad_norm(self, limit: float) -> Tensor:
        """Clips the gradient of each member to norm ``limit`` by itself; returns the norms (E,)."""
        grads = [p.grad for p in self.stacked.values() if p.grad is not None]
        if not grads:  # of a stack that is frozen
            return next(iter(self.stacked.values())).new_zeros(self.num_members)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)
        scale = (limit / (norms + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
        for grad in grads:
            grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))
        return norms

    def train(self, mode: bool = True) -> Self:
        """Switches the members between training and evaluation."""
        self._base[0].train(mode)
        return super().train(mode)

    def template_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yields path and module of the network that stands for every member; it holds no weights."""
        yield from self._base[0].named_modules()

    def parameter_at(self, place: str) -> nn.Parameter:
        """Returns the parameter ``(E, ...)`` of all members that stands at a place of the template."""
        return self.stacked[self._places[place].replace(".", "/")]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._base[0]._apply(fn, recurse)  # constant buffers move with the parameters
        return super()._apply(fn, recurse)


class Owned(NamedTuple):
    """A parameter and the module that holds it.

    Attributes:
        owner: The module.
        name: The parameter's name in it: ``weight``.
        parameter: The parameter; for a stack that of all members.
        axes: Member axes that stand before the axes that the owner knows, 0 or 1.
    """

    owner: nn.Module
    name: str
    parameter: nn.Parameter
    axes: int


def all_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the modules of a model, and the templates in its stacks, which ``modules()`` does not see."""
    for module in model.modules():
        yield module
        if isinstance(module, Stacked):
            yield from (inner for _, inner in module.template_modules())


def owned_parameters(model: nn.Module) -> Iterator[Owned]:
    """Yields each parameter of a model once, with the module that it belongs to, also inside of stacks.

    What a module's class says about its parameters therefore holds for stacked members too, and for copies
    of the model: attributes of a parameter would be lost by ``copy.deepcopy``.
    """
    seen: set[int] = set()
    stacks = [module for module in model.modules() if isinstance(module, Stacked)]
    inside = [
        Owned(inner, name, stack.parameter_at(f"{path}.{name}" if path else name), 1)
        for stack in stacks
        for path, inner in stack.template_modules()
        for name, _ in inner.named_parameters(recurse=False, remove_duplicate=False)
    ]
    plain = [
        Owned(module, name, parameter, 0)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
    ]
    for owned in [*inside, *plain]:
        if id(owned.parameter) not in seen:
            seen.add(id(owned.parameter))
            yield owned
