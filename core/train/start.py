"""Starting from a trained model: fine-tuning, and the first weights of a larger relative."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from core.backbones.weights import adapt_input
from core.errors import ConfigError


@torch.no_grad()
def start_from(model: nn.Module, state: Mapping[str, Tensor], source: str) -> str:
    """Copies the tensors that fit by name and shape; the others keep their first values.

    A first convolution for another number of channels is adapted (:func:`core.backbones.weights.adapt_input`).

    Args:
        model: Network that is going to be trained; changed in place.
        state: Names and tensors of the trained one.
        source: Where it is from, for messages.

    Returns:
        What was copied and what was not, one line.

    Raises:
        ConfigError: No tensor fits.
    """
    own = model.state_dict()
    state = _for_channels(own, state)
    fitting = {name for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    # Norms and biases fit networks of any kind.
    if not any(state[name].ndim > 1 for name in fitting):
        raise ConfigError(f"--train.start_from {source}: none of its weights fits this model")
    for name in fitting:
        own[name].copy_(state[name])
    new = [name for name in own if name not in fitting]
    rest = f"; new: {', '.join(new[:3])}{' ...' if len(new) > 3 else ''}" if new else ""
    return f"starts from {source}: {len(fitting)} of {len(own)} tensors{rest}"


def for_classes(
    state: Mapping[str, Tensor], by_class: Collection[str], known: Sequence[str], classes: Sequence[str]
) -> dict[str, Tensor]:
    """Puts the weights that tell classes apart into the order of other data's classes, by name.

    They are left out unless the model knows all of these.

    Args:
        state: Trained weights.
        by_class: Names of those that have a row for each class.
        known: Classes that the model knows, in its order.
        classes: Classes of the data, in theirs.
    """
    if list(known) == list(classes):
        return dict(state)
    if not set(classes) <= set(known):
        return {name: tensor for name, tensor in state.items() if name not in by_class}
    rows = [known.index(name) for name in classes]
    return {name: tensor[rows] if name in by_class else tensor for name, tensor in state.items()}


def _for_channels(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Adapts the first convolution if nothing but its number of input channels differs."""
    first = next((name for name, weight in state.items() if weight.ndim > 2), None)
    if first is None or first not in own:
        return state
    old, new = state[first].shape, own[first].shape
    if old == new or len(old) != len(new) or (old[0], *old[2:]) != (new[0], *new[2:]):
        return state
    return adapt_input(state, new[1])
