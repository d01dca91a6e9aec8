"""Weights that other implementations of DnCNN and RIDNet have released, read into our networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.backbones.load import load_weights, read_weights, rename_layers
from core.errors import DataError
from core.registry import Registry
from tasks.denoising.models.dncnn import VARIANTS, DnCNN, Variant
from tasks.denoising.models.ridnet import RIDNet

MAT_EPS = 1e-4  # what MatConvNet adds to a variance before it keeps the root
KERNEL = (3, 3)


@dataclass(frozen=True)
class Layer:
    """One convolution of a DnCNN and what follows it.

    Attributes:
        weight: ``(O, I, 3, 3)``.
        bias: ``(O,)``, or ``None``.
        norm: Scale, shift, mean and variance of the batch norm after it, each ``(O,)``, or ``None``.
    """

    weight: Tensor
    bias: Tensor | None = None
    norm: tuple[Tensor, Tensor, Tensor, Tensor] | None = None


LAYOUTS: Registry[Callable[[str], nn.Module]] = Registry("layout of released weights")


def load_reference(path: str | PathLike[str], layout: str | None = None) -> nn.Module:
    """Reads released weights of DnCNN or RIDNet into a network that gives the restored image.

    Depth, width, channels and norms are what the file has. All DnCNNs predict the noise; in some of the releases the
    network returns it and in some it returns the image without it, here it is always the image.

    Args:
        path: File of ``torch.save`` or safetensors, or a ``.mat`` file of the authors' (MatConvNet, not v7.3).
        layout: Whose file it is; ``None`` finds out by the names in it:

            * ``kair``: ``model.0.weight``, ..., with batch norms or folded (the authors' PyTorch models).
            * ``matconvnet``: ``net.layers`` of a ``.mat`` file, or its filters ``(3, 3, I, O)`` under numbered names.
            * ``pytorch``: ``dncnn.0.weight``, ..., first bias alone (the authors' first PyTorch code).
            * ``plain``: the same names without any bias (a widely used PyTorch port).
            * ``ridnet``: ``b1.r1.body1.0.weight``, ... (the authors' RIDNet; the paper's skips are not in it).

    Returns:
        A :class:`DnCNN` or :class:`RIDNet` in evaluation mode.

    Raises:
        ConfigError: There is no such layout.
        DataError: The file cannot be read, or does not fit the layout.
    """
    source = str(path)
    return LAYOUTS[layout or _guess(source)](source).eval()


def _guess(source: str) -> str:
    if Path(source).suffix == ".mat":
        return "matconvnet"
    state = read_weights(source)
    if "head.body.0.weight" in state and "b1.r1.body1.0.weight" in state:
        return "ridnet"
    if "dncnn.0.weight" in state:
        return "pytorch" if "dncnn.0.bias" in state else "plain"
    if _is_hwio([weight for weight in state.values() if weight.ndim > 2]):
        return "matconvnet"
    if "model.0.weight" in state:
        return "kair"
    raise DataError(
        f"{source} has weights of no known DnCNN or RIDNet (its first is {next(iter(state))}); "
        f"give the layout, one of {', '.join(LAYOUTS)}"
    )


@LAYOUTS.register("kair")
def _kair(source: str) -> nn.Module:
    return _dncnn(_numbered(source), "kair", source)


@LAYOUTS.register("matconvnet")
def _matconvnet(source: str) -> nn.Module:
    layers = _mat_layers(source) if Path(source).suffix == ".mat" else _numbered(source)
    return _dncnn(layers, "matconvnet", source)


@LAYOUTS.register("pytorch")
def _pytorch(source: str) -> nn.Module:
    return _dncnn(_numbered(source), "pytorch", source)


@LAYOUTS.register("plain")
def _plain(source: str) -> nn.Module:
    return _dncnn(_numbered(source), "plain", source)


@LAYOUTS.register("ridnet")
def _ridnet(source: str) -> nn.Module:
    state = read_weights(source)
    try:
        width, channels = state["head.body.0.weight"].shape[:2]
        squeezed = len(state["b1.ca.c1.body.0.weight"])
    except (KeyError, ValueError):
        raise DataError(
            f"{source} is no RIDNet: it has no head.body.0.weight and b1.ca.c1.body.0.weight"
        ) from None
    blocks = len({key.split(".")[0] for key in state if re.match(r"b\d+\.", key)})
    model = RIDNet(channels, width, blocks, width // squeezed)
    names = {"head.body.0": "head"}
    for i in range(blocks):
        theirs, ours = f"b{i + 1}", f"body.{i}"
        names |= {f"{theirs}.r1.body1.{n}": f"{ours}.blocks.0.near.{n}" for n in (0, 2)}
        names |= {f"{theirs}.r1.body2.{n}": f"{ours}.blocks.0.far.{n}" for n in (0, 2)}
        names |= {f"{theirs}.r1.body3.0": f"{ours}.blocks.0.join.0"}
        names |= {f"{theirs}.r2.body.{n}": f"{ours}.blocks.1.branch.{n}" for n in (0, 2)}
        names |= {f"{theirs}.r3.body.{n}": f"{ours}.blocks.2.branch.{n}" for n in (0, 2, 4)}
        names |= {f"{theirs}.ca.c{n}.body.0": f"{ours}.attention.fc{n}" for n in (1, 2)}
    update: nn.Module = model.stream[0].branch  # type: ignore[assignment]
    load_weights(update, rename_layers(state, names), source=source)
    return model


def _dncnn(layers: list[Layer], layout: str, source: str) -> DnCNN:
    """Builds the network that the layers are from; convolutions without a bias get 0 where ours have one."""
    has_norm = any(layer.norm is not None for layer in layers)
    variant = layout if has_norm else "folded"
    channels, width = _sizes(layers, VARIANTS[variant], source)
    model = DnCNN(channels, len(layers), width, variant)
    row = iter(model.layers)
    with torch.no_grad():
        for i, layer in enumerate(layers):
            conv = next(module for module in row if isinstance(module, nn.Conv2d))
            conv.weight.copy_(layer.weight)
            if conv.bias is not None:
                conv.bias.copy_(torch.zeros_like(conv.bias) if layer.bias is None else layer.bias)
            elif layer.bias is not None and layer.bias.any():
                raise DataError(
                    f"{source}: convolution {i + 1} has a bias, which the layout {layout} has not; try the layout kair"
                )
            if layer.norm is not None:
                norm = next(row)
                for own, value in zip(_norm_tensors(norm), layer.norm, strict=True):
                    own.copy_(value)
    return model


def _norm_tensors(norm: nn.Module) -> tuple[Tensor, ...]:
    return norm.weight, norm.bias, norm.running_mean, norm.running_var  # type: ignore[return-value]


def _sizes(layers: list[Layer], form: Variant, source: str) -> tuple[int, int]:
    """Returns channels and width after a check that the layers make a DnCNN."""
    if len(layers) < 3:
        raise DataError(f"{source} has {len(layers)} convolutions in a row, a DnCNN has 3 or more")
    width, channels = layers[0].weight.shape[:2]
    inner = len(layers) - 2
    expected = [(width, channels), *[(width, width)] * inner, (channels, width)]
    for i, (layer, shape) in enumerate(zip(layers, expected, strict=True)):
        if tuple(layer.weight.shape) != (*shape, *KERNEL):
            raise DataError(
                f"{source}: convolution {i + 1} has weights {tuple(layer.weight.shape)} where a DnCNN of {channels} "
                f"channels has {(*shape, *KERNEL)}; networks with a noise map as input cannot be read"
            )
    norms = [layer.norm is not None for layer in layers]
    if norms != [False, *[form.norm != "none"] * inner, False]:
        raise DataError(
            f"{source}: not all convolutions but the first and last have a batch norm; is it half folded?"
        )
    return channels, width


def _numbered(source: str) -> list[Layer]:
    """Reads the layers of an ``nn.Sequential`` in the order of their numbers."""
    state = read_weights(source)
    modules: dict[int, dict[str, Tensor]] = {}
    for key, weight in state.items():
        found = re.fullmatch(r"(?:.*\.)?(\d+)\.(\w+)", key)
        if not found:
            raise DataError(f"{source} is no row of layers: {key} has no number; give the layout that it has")
        modules.setdefault(int(found[1]), {})[found[2]] = weight
    rows = [modules[number] for number in sorted(modules)]
    transposed = _is_hwio([row["weight"] for row in rows if "weight" in row and row["weight"].ndim > 2])
    layers: list[Layer] = []
    for row in rows:
        if "running_var" in row and layers:
            try:
                norm = row["weight"], row["bias"], row["running_mean"], row["running_var"]
            except KeyError as missing:
                raise DataError(f"{source}: a batch norm lacks its {missing.args[0]}") from None
            layers[-1] = replace(layers[-1], norm=norm)
        elif "weight" in row:
            weight = _from_hwio(row["weight"], not layers) if transposed else row["weight"]
            layers.append(Layer(weight, row.get("bias")))
    return layers


def _is_hwio(weights: Iterable[Tensor]) -> bool:
    """Whether filters are ``(3, 3, I, O)``, MATLAB's order, of which a last axis of 1 may be missing."""
    shapes = [tuple(weight.shape) for weight in weights]
    return (
        bool(shapes) and all(shape[:2] == KERNEL for shape in shapes) and any(s[2:] != KERNEL for s in shapes)
    )


def _from_hwio(weight: Tensor, first: bool) -> Tensor:
    if (
        weight.ndim == 3
    ):  # one channel, whose axis was dropped: of the input in the first layer, else of the output
        weight = weight.unsqueeze(2 if first else 3)
    return weight.permute(3, 2, 0, 1)


def _mat_layers(source: str) -> list[Layer]:
    """Reads ``net.layers`` of MatConvNet's simple networks: ``{filters, biases}``, ``{scale, shift, moments}``."""
    from scipy.io import loadmat

    layers: list[Layer] = []
    try:
        for cell in loadmat(source)["net"][0, 0]["layers"].ravel():
            kind = cell["type"][0, 0].item()
            if kind not in ("conv", "bnorm"):
                continue
            weights = [_tensor(part) for part in cell["weights"][0, 0].ravel()]
            if kind == "conv":
                # A first layer of one channel has its axis: MATLAB drops those at the end alone.
                layers.append(Layer(_from_hwio(weights[0], first=False), weights[1].flatten()))
            else:
                mean, root = weights[2].T
                norm = weights[0].flatten(), weights[1].flatten(), mean, root**2 - MAT_EPS
                layers[-1] = replace(layers[-1], norm=norm)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}") from None
    except NotImplementedError:
        raise DataError(f"{source} is of MATLAB v7.3; save it in MATLAB with -v7") from None
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{source} has no net.layers as the authors' DnCNN files do ({reason})") from error
    return layers


def _tensor(values: Any) -> Tensor:
    # In double, so that the variance does not lose digits when eps is taken off.
    return torch.from_numpy(np.array(values, dtype=np.float64))
