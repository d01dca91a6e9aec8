"""Weights in files and state_dicts, read without running code; what does not fit is one line."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from core.errors import DataError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which a checkpoint has the weights beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""What data parallelism and compilation put before every key."""
SHOWN = 3

Model = TypeVar("Model", bound=nn.Module)


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Reads the weights in a file of safetensors or of ``torch.save``; nothing in it is executed.

    Weights under ``state_dict``, ``model_state_dict`` or ``model`` are found, and the prefixes that data
    parallelism (``module.``) and compilation put before every key are taken off.

    Args:
        path: File; ``.safetensors`` decides for that format.

    Raises:
        DataError: The file is missing, damaged, or holds something else than weights.
    """
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return plain_weights(load_file(path), str(path))
        return plain_weights(torch.load(path, map_location="cpu", weights_only=True), str(path))
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise DataError(
            f"{path} is damaged or holds more than tensors, which could run code; save the state_dict alone"
        ) from None
    except Exception as error:  # a damaged archive raises whatever its reader stumbles over
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"{path} is no file of weights ({reason}); save a state_dict") from error


def plain_weights(content: Any, source: str) -> dict[str, Tensor]:
    """Returns the weights in a checkpoint without what is around them, see :func:`read_weights`.

    Args:
        content: Weights by name, or a mapping that has them under one of ``WRAPPERS``.
        source: Where they are from, for the message.

    Raises:
        DataError: There are no weights.
    """
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{source} has no weights by name; save model.state_dict()")
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise DataError(f"{source}: {_first(strange)} no tensors; save model.state_dict()")
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in content)), ""):
        content = {key.removeprefix(prefix): weight for key, weight in content.items()}
    return dict(content)


def load_weights(
    model: Model, weights: str | PathLike[str] | Mapping[str, Any], *, source: str | None = None
) -> Model:
    """Loads a file or a state_dict into a model, all of it and nothing less.

    To change weights first, read them: ``load_weights(model, inflate(read_weights(path), 3))``.

    Args:
        model: Any module.
        weights: A file, see :func:`read_weights`, or weights by name.
        source: Where the weights are from, for the message.

    Returns:
        The model.

    Raises:
        DataError: The weights cannot be read, or names or shapes are not the model's.
    """
    is_file = isinstance(weights, (str, PathLike))
    source = source or (str(weights) if is_file else "the state_dict")
    state = read_weights(weights) if is_file else plain_weights(weights, source)  # type: ignore[arg-type]
    mine = model.state_dict()
    wrong = [
        f"{key} {tuple(weight.shape)} for {tuple(mine[key].shape)}"
        for key, weight in state.items()
        if key in mine and mine[key].shape != weight.shape
    ]
    if wrong:
        raise DataError(f"{source} does not fit {type(model).__name__}: {_first(wrong)} of another shape")
    found = model.load_state_dict(state, strict=False)
    misfits = [
        f"{_first(keys)} {what}"
        for keys, what in ((found.missing_keys, "missing"), (found.unexpected_keys, "unexpected"))
        if keys
    ]
    if misfits:
        raise DataError(f"{source} does not fit {type(model).__name__}: {'; '.join(misfits)}")
    return model


def rename_layers(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Exchanges the names of layers in a ``state_dict``.

    Args:
        state: Names of tensors, ``layer.leaf``, to tensors.
        names: Old to new names of layers. Others stay, so that a message about them has the file's own names.
    """
    parts = {key: key.rpartition(".") for key in state}
    return {f"{names.get(layer, layer)}.{leaf}": state[key] for key, (layer, _, leaf) in parts.items()}


def _first(names: list[str]) -> str:
    """Says how many names there are and the first few: ``5 weights (a, b, c, ...) are``."""
    more = ", ..." if len(names) > SHOWN else ""
    count = "1 weight" if len(names) == 1 else f"{len(names)} weights"
    return f"{count} ({', '.join(names[:SHOWN])}{more}) {'is' if len(names) == 1 else 'are'}"
