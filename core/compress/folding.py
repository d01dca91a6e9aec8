"""A trained model in its form for inference: parallel convolutions merged, norms folded into the layer before.

The result computes the same as the model in evaluation mode, to rounding, with fewer layers and parameters.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from core import nd
from core.residual.reparam import Reparameterised, can_fold, fuse_conv_norm

CONVS = tuple(make(dims) for make in (nd.conv, nd.conv_transpose) for dims in (1, 2, 3))


@dataclass(frozen=True)
class Deployed:
    """What :func:`deploy` has done.

    Attributes:
        merged: Modules that became one convolution.
        folded: Norms that became part of the convolution before them.
    """

    merged: int
    folded: int


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a layer stands."""

    parent: nn.Module
    name: str

    @property
    def layer(self) -> nn.Module:
        return getattr(self.parent, self.name)

    def put(self, layer: nn.Module) -> None:
        setattr(self.parent, self.name, layer)


def deploy(model: nn.Module) -> nn.Module:
    """Returns a copy of a model for inference, with the output that the model has in evaluation mode.

    Every :class:`core.residual.reparam.Reparameterised` module becomes its ``merged()`` one ("RepVGG", Ding et al.,
    arXiv:2101.03697, section 3.3), and a batch normalisation with running statistics becomes part of the
    convolution before it. Which convolution that is, classes say by an attribute ``folds``, pairs of (dotted)
    names, where a row of layers stands for its last one; in an ``nn.Sequential`` it is the one directly before.
    The norm's place is taken by ``nn.Identity``.

    Left as they are: norms that depend on their input (group, layer, instance), norms that follow no convolution,
    norms and convolutions with a further use in the model or with hooks, and convolutions of a derived class,
    such as parametrised ones.

    Args:
        model: Any module; it is not changed.

    Returns:
        The copy, in evaluation mode.
    """
    return deployed(model)[0]


def deployed(model: nn.Module) -> tuple[nn.Module, Deployed]:
    """Does what :func:`deploy` does, and also returns how much."""
    result = copy.deepcopy(model).eval()
    result, merged = _merge(result)
    uses = Counter(id(module) for _, module in result.named_modules(remove_duplicate=False))
    pairs = {
        (id(conv.layer), id(norm.layer)): (owner, conv, norm)
        for owner in result.modules()
        for conv, norm in _pairs(owner)
    }
    named = Counter(layer for pair in pairs for layer in pair)
    folded = 0
    for owner, conv, norm in pairs.values():
        layers = (conv.layer, norm.layer)
        # Every way to the two leads through the module that says they follow each other, and no other pair has them.
        alone = all(uses[id(layer)] == uses[id(owner)] and named[id(layer)] == 1 for layer in layers)
        if alone and _fits(*layers) and not any(map(_hooked, layers)):
            conv.put(fuse_conv_norm(*layers))  # type: ignore[arg-type]  # a convolution, as it fits
            norm.put(nn.Identity())
            folded += 1
    return result, Deployed(merged, folded)


def _merge(model: nn.Module) -> tuple[nn.Module, int]:
    """Replaces the re-parameterised modules, inner ones first; one that is used twice stays one."""
    done: dict[int, nn.Module] = {}

    def visit(module: nn.Module) -> nn.Module:
        if id(module) in done:
            return done[id(module)]
        result = module
        if isinstance(module, Reparameterised) and module.can_merge() and not _hooked(module):
            result = module.merged().eval()
        else:
            for name, child in list(module._modules.items()):
                new = child if child is None else visit(child)
                if new is not child:
                    setattr(module, name, new)
        done[id(module)] = result
        return result

    result = visit(model)
    return result, sum(id(new) != key for key, new in done.items())


def _pairs(owner: nn.Module) -> Iterator[tuple[_Place, _Place]]:
    """Convolutions and norms that a module's class names, or that follow each other in a plain row of layers."""
    for conv, norm in getattr(owner, "folds", ()):
        yield _last(_place(owner, conv)), _place(owner, norm)
    if _is_row(owner):
        for conv, norm in pairwise(owner._modules):
            if _fits(getattr(owner, conv), getattr(owner, norm)):
                yield _Place(owner, conv), _Place(owner, norm)


def _place(owner: nn.Module, path: str) -> _Place:
    parent, _, name = path.rpartition(".")
    return _Place(owner.get_submodule(parent), name)


def _last(place: _Place) -> _Place:
    """What the layer after a row of layers reads is the row's last."""
    row = place.layer
    return _last(_Place(row, list(row._modules)[-1])) if _is_row(row) and row._modules else place


def _is_row(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _fits(conv: nn.Module, norm: nn.Module) -> bool:
    return type(conv) in CONVS and can_fold(norm) and conv.out_channels == norm.num_features


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
