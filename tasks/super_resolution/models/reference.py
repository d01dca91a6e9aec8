"""Weights that the authors of RCAN and CARN have released, read into our networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from os import PathLike

from torch import Tensor, nn

from core.backbones.load import load_weights, read_weights, rename_layers
from core.errors import DataError
from core.registry import Registry
from tasks.super_resolution.models.carn import BLOCKS, CARN, UNITS
from tasks.super_resolution.models.rcan import RCAN, STEPS

State = dict[str, Tensor]

LAYOUTS: Registry[Callable[[State, str], nn.Module]] = Registry("layout of released weights")
MARKS = {"rcan": "tail.0.0.weight", "carn": "entry.weight"}
"""Layout to a weight that only it has."""


def load_reference(path: str | PathLike[str], layout: str | None = None) -> nn.Module:
    """Reads released weights of RCAN, CARN or CARN-M; size, scales and groups are what the file has.

    Args:
        path: File of ``torch.save`` or safetensors.
        layout: Whose file it is; ``None`` finds out by the names in it:

            * ``rcan``: ``body.0.body.0.body.0.weight``, ... (``RCAN_BIX2.pt`` and the others).
            * ``carn``: ``b1.b1.body.0.weight``, ... (``carn.pth``, ``carn_m.pth``; of one scale or of 2, 3 and 4).

    Returns:
        An :class:`RCAN` or a :class:`CARN` in evaluation mode.

    Raises:
        ConfigError: There is no such layout.
        DataError: The file cannot be read, or does not fit the layout.
    """
    source = str(path)
    state = read_weights(path)
    layout = layout or next((name for name, mark in MARKS.items() if mark in state), None)
    if layout is None:
        raise DataError(
            f"{source} has weights of no released RCAN or CARN: it has none of {', '.join(MARKS.values())}"
        )
    build = LAYOUTS[layout]
    try:
        return build(state, source).eval()
    except KeyError as missing:
        raise DataError(f"{source} is no {layout.upper()}: it has no {missing.args[0]}") from None


@LAYOUTS.register("rcan")
def _rcan(state: State, source: str) -> nn.Module:
    width, channels = state["head.0.weight"].shape[:2]
    groups = _count(state, r"body\.(\d+)\.body\.")
    blocks = _count(state, r"body\.0\.body\.(\d+)\.body\.")
    squeezed = len(state["body.0.body.0.body.3.conv_du.0.weight"])
    growth = len(state["tail.0.0.weight"]) // width
    scale = _scale(growth, _count(state, r"tail\.0\.(\d+)\."), source)
    model = RCAN(scale, channels, width, groups, blocks, width // squeezed)

    names = {"head.0": "head", f"body.{groups}": "body.0.branch.1", "tail.1": "tail"}
    for g in range(groups):
        theirs, ours = f"body.{g}.body", f"body.0.branch.0.{g}.branch"
        names[f"{theirs}.{blocks}"] = f"{ours}.1"
        for b in range(blocks):
            parts = {
                "0": "conv1",
                "2": "conv2",
                "3.conv_du.0": "attention.fc1",
                "3.conv_du.2": "attention.fc2",
            }
            names |= {f"{theirs}.{b}.body.{part}": f"{ours}.0.{b}.{own}" for part, own in parts.items()}
    names |= {f"tail.0.{n}": f"upsample.{n}" for n in range(0, 2 * len(STEPS[scale]), 2)}
    return load_weights(model, rename_layers(state, names), source=source)


@LAYOUTS.register("carn")
def _carn(state: State, source: str) -> nn.Module:
    width, channels = state["entry.weight"].shape[:2]
    groups = width // state["b1.b1.body.0.weight"].shape[1]
    recursive = "b1.b2.body.0.weight" not in state
    branches: dict[str, int] = {}
    for name in sorted({found[1] for key in state if (found := re.match(r"upsample\.(up\d?)\.", key))}):
        growth = len(state[f"upsample.{name}.body.0.weight"]) // width
        branches[name] = _scale(growth, _count(state, rf"upsample\.{name}\.body\.(\d+)\."), source)
    if not branches:
        raise KeyError("upsample.up2.body.0.weight")
    model = CARN(tuple(branches.values()), channels, width, groups, recursive)

    names = {"sub_mean.shifter": "sub_mean", "add_mean.shifter": "add_mean"}
    for b in range(BLOCKS):
        names[f"c{b + 1}.body.0"] = f"body.fuse.{b}"
        for u in range(UNITS):
            names[f"b{b + 1}.c{u + 1}.body.0"] = f"body.steps.{b}.fuse.{u}"
            for n in (0, 2, 4):
                names[f"b{b + 1}.b{u + 1}.body.{n}"] = f"body.steps.{b}.steps.{u}.0.branch.{n}"
    for name, scale in branches.items():
        for n in range(0, 3 * len(STEPS[scale]), 3):
            names[f"upsample.{name}.body.{n}"] = f"upsample.{scale}.{n}"
    return load_weights(model, rename_layers(state, names), source=source)


def _count(state: State, pattern: str) -> int:
    """Number of different indices that a pattern finds at the start of the names."""
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def _scale(growth: int, convolutions: int, source: str) -> int:
    """The scale that so many convolutions reach, each of which makes so many times more channels."""
    for scale, steps in STEPS.items():
        if (growth, convolutions) == (steps[0] ** 2, len(steps)):
            return scale
    raise DataError(
        f"{source}: {convolutions} convolutions to {growth} times the channels are no upsampling by "
        f"{', '.join(map(str, STEPS))}"
    )
