"""Weights of nnU-Net and of the widely used PyTorch code of R2U-Net, under the names that they have here.

nnU-Net registers every convolution and norm twice, and the whole encoder once more inside its decoder, so that a
network of 149 parameters has 536 names. Here each has one:

| nnU-Net | here |
|---|---|
| ``encoder.stem.convs.0.conv`` | ``encoder.stem.conv`` |
| ``encoder.stages.S.blocks.B.conv1.norm`` | ``encoder.stages.S.B.bn1`` |
| ``encoder.stages.S.blocks.B.skip.1.conv`` | ``encoder.stages.S.B.downsample.1`` |
| ``encoder.stages.S.0.convs.N.conv`` (plain) | ``encoder.stages.S.N.conv`` |
| ``decoder.stages.D.convs.N.conv`` | ``decoder.D.convs.N.conv`` |
| ``decoder.transpconvs.D`` | ``decoder.D.up`` |
| ``decoder.seg_layers.D`` | ``segment.D`` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.backbones.load import plain_weights, rename_layers
from core.errors import DataError
from tasks.segmentation.models.r2unet import LEVELS

NNUNET = (
    ("encoder.stem.convs.0.conv", "encoder.stem.conv"),
    ("encoder.stem.convs.0.norm", "encoder.stem.bn"),
    ("encoder.stages.#.blocks.#.conv#.conv", "encoder.stages.#.#.conv#"),
    ("encoder.stages.#.blocks.#.conv#.norm", "encoder.stages.#.#.bn#"),
    ("encoder.stages.#.blocks.#.skip.1.conv", "encoder.stages.#.#.downsample.1"),
    ("encoder.stages.#.blocks.#.skip.1.norm", "encoder.stages.#.#.downsample.2"),
    ("encoder.stages.#.0.convs.#.conv", "encoder.stages.#.#.conv"),
    ("encoder.stages.#.0.convs.#.norm", "encoder.stages.#.#.bn"),
    ("decoder.stages.#.convs.#.conv", "decoder.#.convs.#.conv"),
    ("decoder.stages.#.convs.#.norm", "decoder.#.convs.#.bn"),
    ("decoder.transpconvs.#", "decoder.#.up"),
    ("decoder.seg_layers.#", "segment.#"),
)
"""Layers there and here; # is a number."""
ENCODER_AGAIN = "decoder.encoder."
SECOND_NAMES = {"conv": "all_modules.0", "norm": "all_modules.1"}


def from_nnunet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of nnU-Net's PlainConvUNet or ResidualEncoderUNet to those of ``PlannedUNet``.

    Second names are left out. Names that are not known stay, so that loading says which they are.
    """
    once = {
        key: weight
        for key, weight in state.items()
        if not key.startswith(ENCODER_AGAIN) and ".all_modules." not in key
    }
    return rename_layers(once, _renamed(once, NNUNET))


def to_nnunet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of ``PlannedUNet`` to nnU-Net's, all of its second names included.

    Stages that widen have to reduce an axis too, as those of all of nnU-Net's plans do.
    """
    once = rename_layers(state, _renamed(state, [(ours, theirs) for theirs, ours in NNUNET]))
    twice: dict[str, Tensor] = {}
    for key, weight in once.items():
        twice[key] = weight
        owner, kind, leaf = key.rsplit(".", 2)
        if kind in SECOND_NAMES:
            twice[f"{owner}.{SECOND_NAMES[kind]}.{leaf}"] = weight
    again = {
        ENCODER_AGAIN + k.removeprefix("encoder."): w for k, w in twice.items() if k.startswith("encoder.")
    }
    return {**twice, **again}


def _renamed(state: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns new names for the layers of a ``state_dict``, by the first pattern that fits."""
    patterns = [(re.compile(re.escape(old).replace(r"\#", r"(\d+)")), new) for old, new in pairs]
    names = {}
    for layer in {key.rpartition(".")[0] for key in state}:
        found = next(((match, new) for old, new in patterns if (match := old.fullmatch(layer))), None)
        if found is not None:
            numbers = iter(found[0].groups())
            names[layer] = re.sub("#", lambda _, numbers=numbers: next(numbers), found[1])  # type: ignore[misc]
    return names


@dataclass(frozen=True)
class NnunetFold:
    """What nnU-Net's ``checkpoint_final.pth`` of a fold holds.

    Attributes:
        weights: Of the network, under the names of ``PlannedUNet``.
        mirror_axes: Axes along which it may be mirrored in inference, from 0.
        configuration: Name of the configuration, such as ``3d_fullres``.
        plans: Content of the plans' file.
        dataset: Content of ``dataset.json``.
        trainer: Name of the trainer.
    """

    weights: dict[str, Tensor]
    mirror_axes: tuple[int, ...]
    configuration: str
    plans: dict[str, Any]
    dataset: dict[str, Any]
    trainer: str


def read_nnunet_fold(path: str | PathLike[str]) -> NnunetFold:
    """Reads ``fold_X/checkpoint_final.pth``; nothing in it is executed.

    Raises:
        DataError: The file is missing or damaged, or is no checkpoint of nnU-Net.
    """
    try:
        with torch.serialization.safe_globals(_numbers_of_numpy()):
            stored = torch.load(path, map_location="cpu", weights_only=True)
        given = stored["init_args"]
        weights = plain_weights(stored["network_weights"], str(path))
        return NnunetFold(
            from_nnunet(weights),
            tuple(stored.get("inference_allowed_mirroring_axes") or ()),
            given["configuration"],
            given["plans"],
            given["dataset_json"],
            stored["trainer_name"],
        )
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except KeyError as error:
        raise DataError(f"{path} is no checkpoint of nnU-Net v2: it has no {error.args[0]}") from None
    except Exception as error:  # a damaged archive raises whatever its reader stumbles over
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(
            f"{path} is no checkpoint of nnU-Net v2 that can be read safely ({reason})"
        ) from error


def _numbers_of_numpy() -> list[Any]:
    """What the curves of a training need: numbers of numpy, under the names of its versions 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, *kinds, *((scalar, name) for name in names)]


def from_image_segmentation(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames weights of U_Net, AttU_Net, R2U_Net or R2AttU_Net of LeeJunHyun/Image_Segmentation to ``FixedUNet``'s.

    | there | here |
    |---|---|
    | ``RRCNN1.Conv_1x1``, ``RRCNN1.RCNN.0.conv.0`` | ``down.0.0.projection``, ``down.0.0.unit1.conv`` |
    | ``Conv1.conv.0``, ``Conv1.conv.4`` | ``down.0.0.0.conv``, ``down.0.0.1.bn`` |
    | ``Up5.up.1``, ``Up_RRCNN5``, ``Up_conv5`` | ``up.0.conv``, ``merge.0.0`` |
    | ``Att5.W_g.0``, ``Att5.W_x.0`` | ``gates.0.gate.conv``, ``gates.0.skip.conv`` |
    | ``Att5.psi.0`` | ``gates.0.psi.conv`` |
    | ``Conv_1x1`` | ``output`` |
    """
    names = {"Conv_1x1": "output"}
    for level in range(LEVELS):
        names |= _block(f"RRCNN{level + 1}", f"Conv{level + 1}", f"down.{level}.0")
    for position in range(LEVELS - 1):
        number = LEVELS - position
        names |= _block(f"Up_RRCNN{number}", f"Up_conv{number}", f"merge.{position}.0")
        for index, layer in enumerate(("conv", "bn")):
            names[f"Up{number}.up.{index + 1}"] = f"up.{position}.{layer}"
            for theirs, ours in (("W_g", "gate"), ("W_x", "skip"), ("psi", "psi")):
                names[f"Att{number}.{theirs}.{index}"] = f"gates.{position}.{ours}.{layer}"
    return rename_layers(state, names)


def _block(recurrent: str, plain: str, ours: str) -> dict[str, str]:
    """Names of the layers of a level, of either kind of network."""
    names = {f"{recurrent}.Conv_1x1": f"{ours}.projection"}
    for unit in (0, 1):
        for index, layer in enumerate(("conv", "bn")):
            names[f"{recurrent}.RCNN.{unit}.conv.{index}"] = f"{ours}.unit{unit + 1}.{layer}"
            names[f"{plain}.conv.{3 * unit + index}"] = f"{ours}.{unit}.{layer}"
    return names
