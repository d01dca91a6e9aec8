"""Weights that the authors of the residual networks for keyword spotting have released, read into our networks."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from core.backbones.load import load_weights, plain_weights, read_weights, rename_layers
from core.config import to_dict
from core.errors import ConfigError, DataError, PackageError, SkipwayError
from core.task import Packaged
from core.track.package import save_package
from tasks.speech.config import (
    SILENCE,
    UNKNOWN,
    DataConfig,
    FeatureConfig,
    Res8Config,
    Res8NarrowConfig,
    Res15Config,
    Res15NarrowConfig,
    Res26Config,
    Res26NarrowConfig,
    ResConfig,
    words_of,
)
from tasks.speech.models.resnets import ResNet

CLASSES = (SILENCE, UNKNOWN, "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
"""Classes of the released weights, in the order of their logits."""

FORMS: tuple[ResConfig, ...] = (
    Res8Config(),
    Res8NarrowConfig(),
    Res15Config(),
    Res15NarrowConfig(),
    Res26Config(),
    Res26NarrowConfig(),
)


SCALE = re.compile(r"scale(\d+)")


def load_reference(path: str | PathLike[str]) -> ResNet:
    """Reads weights of res8, res15 or res26 in the layout of the authors' code; nothing in the file is executed.

    They are made for the default features of the task, and give logits of :data:`CLASSES`.

    Args:
        path: File of ``torch.save`` or safetensors with the weights by name, or with them under ``state_dict``.

    Returns:
        The network in evaluation mode.

    Raises:
        DataError: The file cannot be read, or is of another network.
        PackageError: The weights are pruned.
    """
    return load_state(read_weights(path), str(path))


def load_state(state: Mapping[str, Tensor], source: str = "the state_dict") -> ResNet:
    """Builds the network that weights in the authors' layout are of.

    Args:
        state: ``conv0.weight``, ..., ``bn1.running_mean``, ..., ``output.bias``; and in some files ``scale1``,
            ``scale3``, ... or names that begin so, of n numbers each, which are multiplied to the output of that norm.
        source: Where they are from, for messages.

    Returns:
        The network in evaluation mode.

    Raises:
        DataError: They are of another network.
        PackageError: They are pruned.
    """
    weights = plain_weights(state, source)
    form = describe(weights, source)
    classes = len(weights["output.weight"])
    network = ResNet(classes, form.width, form.layers, form.pool, form.dilated, form.scales)
    return load_weights(network, _renamed(weights, form.layers), source=source).eval()


def describe(weights: Mapping[str, Tensor], source: str) -> ResConfig:
    """Returns the configuration of the network that weights in the authors' layout are of; see :func:`load_state`."""
    if any(key.endswith("_indices") for key in weights):
        raise PackageError(
            f"{source} is pruned: its layers leave out channels (keep_indices), which this network cannot; take the "
            "file without a percentage in its name"
        )
    layers = sum(re.fullmatch(r"conv[1-9]\d*\.weight", key) is not None for key in weights)
    forms = [form for form in FORMS if form.layers == layers]
    if not forms or not {"conv0.weight", "output.weight"} <= weights.keys():
        raise DataError(
            f"{source} is no res8, res15 or res26: it needs conv0.weight, output.weight and 6, 13 or 24 convolutions "
            f"conv1.weight, ... after the first, and has {layers}"
        )
    width = len(weights["conv0.weight"])
    form = next((form for form in forms if form.width == width), forms[0])
    return replace(form, width=width, scales=any(map(SCALE.match, weights)))


def _renamed(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Gives the weights our names. Layer ``2b + 1`` is the first and ``2b + 2`` the second of block ``b``."""
    blocks, alone = divmod(layers, 2)
    names = {"conv0": "conv", f"bn{2 * blocks}": "norm"}
    for b in range(blocks):
        first, second = 2 * b + 1, 2 * b + 2
        names |= {f"conv{first}": f"blocks.{b}.conv1", f"bn{first}": f"blocks.{b}.norm1"}
        names |= {f"conv{second}": f"blocks.{b}.conv2"}
        # The norm of a sum stands at the end of a layer there, and here at the beginning of the next block.
        names |= {f"bn{second}": f"blocks.{b + 1}.norm"} if b + 1 < blocks else {}
    if alone:
        names |= {f"conv{layers}": "last.0", f"bn{layers}": "last.2"}
    renamed = rename_layers({key: weight for key, weight in weights.items() if not SCALE.match(key)}, names)
    for key in filter(SCALE.match, weights):
        layer = int(SCALE.match(key)[1])  # type: ignore[index]  # it matches
        ours = f"blocks.{layer // 2}.scale"
        if layer % 2 and ours not in renamed:
            renamed[ours] = weights[key].reshape(-1, 1, 1)
        else:
            renamed[key] = weights[key]  # none of ours: the message will name it
    # Before torch 0.4.1 norms did not count their batches.
    for norm in [key.removesuffix(".running_mean") for key in renamed if key.endswith(".running_mean")]:
        renamed.setdefault(f"{norm}.num_batches_tracked", torch.tensor(0))
    return renamed


def package_reference(path: str | PathLike[str], classes: Sequence[str] = CLASSES) -> Packaged:
    """Returns the package of released weights, which predict, evaluate and export take as any other.

    The features are those of the released code, which takes the logarithm of positive energies alone. What a threshold
    costs is not known.

    Args:
        path: As for :func:`load_reference`.
        classes: Names in the order of the logits; those that are neither silence nor unknown are the words.

    Raises:
        ConfigError: There are more or fewer classes than logits.
        DataError: The file cannot be read, or is of another network.
        PackageError: The weights are pruned.
    """
    weights = read_weights(path)
    network, form = load_state(weights, str(path)), describe(weights, str(path))
    if len(set(classes)) != network.output.out_features:
        raise ConfigError(
            f"{path} has {network.output.out_features} classes and not {len(set(classes))}: give all names in the "
            "order of its outputs"
        )
    data = DataConfig(words=words_of(classes))
    samples = round(data.rate * data.duration)
    settings = {
        "model": to_dict(form),
        "stages": [len(classes)],
        "features": to_dict(FeatureConfig(floor=0.0)),
        "rate": data.rate,
        "samples": samples,
        "classes": list(classes),
        "folds": [],
    }
    metadata = {
        "data": {"name": f"the data of {Path(path).name}", "config": to_dict(data)},
        "classes": list(classes),
        "rate": data.rate,
        "duration": data.duration,
        "input": f"waveform (B, {samples}) in [-1, 1], {data.rate} Hz, one channel",
        "output": "probabilities (B, classes)",
        "provenance": {"weights": Path(path).name},
    }
    return Packaged(settings, network.state_dict(), metadata)


def main(arguments: list[str] | None = None) -> int:
    """Turns a file of weights into a package and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.speech.models.reference",
        description="Turns weights of res8, res15 or res26 in the authors' layout into a model for --model.",
        allow_abbrev=False,
    )
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, help="file, such as res8_narrow.pt")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="new folder for the model")
    text = f"names in the order of the outputs; by default {' '.join(CLASSES)}"
    parser.add_argument("--classes", nargs="+", default=CLASSES, metavar="NAME", help=text)
    options = parser.parse_args(arguments)
    try:
        if options.folder.exists():
            raise ConfigError(f"{options.folder} exists; give a new folder")
        save_package(options.folder, package_reference(options.weights, options.classes), "speech")
    except SkipwayError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"written    {options.folder}; python -m tasks.speech.predict --model {options.folder} --input FILE"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
