"""Checkpoints of mmdetection and its relatives, read without running what is in them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.backbones import Backbone, load_weights, read_weights
from core.backbones.load import plain_weights
from core.errors import DataError
from tasks.detection.models.rtmdet import SIZES, Size

STEM = "backbone.stem.2.conv.weight"
CLASSES = "bbox_head.rtm_cls.0.weight"
KERNELS = "bbox_head.rtm_kernel.0.weight"
STEM_WIDTH = 64
"""Channels of the stem of size l."""


@dataclass(frozen=True)
class MMDetCheckpoint:
    """What a checkpoint of RTMDet holds.

    Attributes:
        weights: Of the network, the averaged ones where an average was kept, under the names that they have here too.
        model: Name of the model, rtmdet or rtmdet_ins.
        size: Name of the size.
        classes: Number of classes.
        names: Names of the classes, where the file has them.
    """

    weights: dict[str, Tensor]
    model: str
    size: str
    classes: int
    names: list[str] | None


class _Inert:
    """Stands for whatever an object of a checkpoint is; does nothing and keeps nothing."""

    def __new__(cls, *args: Any) -> _Inert:
        """Takes any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Takes any state."""


def read_checkpoint(path: str | PathLike[str]) -> dict[str, Any]:
    """Reads a file of ``torch.save`` for its tensors and plain values.

    The curves of a training and the like are objects, which ``torch.load`` refuses; here they come back empty. No name
    in the file is imported and nothing is executed.

    Args:
        path: File.

    Raises:
        DataError: The file is missing or damaged, or is no mapping.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_Inert, name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        reason = str(error).rstrip().splitlines()[-1]
        raise DataError(f"{path} cannot be read safely ({reason}); save the state_dict alone") from None
    except Exception as error:  # a damaged archive raises whatever its reader stumbles over
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"{path} is no checkpoint of torch.save ({reason})") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path} is no checkpoint: it holds a {type(content).__name__}, not a mapping")
    return dict(content)


def read_mmdet(path: str | PathLike[str]) -> MMDetCheckpoint:
    """Reads a checkpoint of RTMDet or RTMDet-Ins of mmdetection; nothing in it is executed.

    Raises:
        DataError: The file cannot be read, or the network is none of these.
    """
    content = read_checkpoint(path)
    weights = {
        key: weight
        for key, weight in plain_weights(content, str(path)).items()
        if not key.startswith("data_preprocessor.")
    }
    if missing := [key for key in (STEM, CLASSES) if key not in weights]:
        raise DataError(f"{path} is no checkpoint of RTMDet: it has no {missing[0]}")
    width = len(weights[STEM])
    size = next((name for name, size in SIZES.items() if _stem_width(size) == width), None)
    if size is None:
        raise DataError(
            f"{path} is an RTMDet whose stem has {width} channels, which is none of the sizes {', '.join(SIZES)}"
        )
    model = "rtmdet_ins" if KERNELS in weights else "rtmdet"
    classes = len(weights[CLASSES])
    return MMDetCheckpoint(weights, model, size, classes, _class_names(content, classes))


def _stem_width(size: Size) -> int:
    return int(STEM_WIDTH * size.widen)


def _class_names(content: Mapping[str, Any], classes: int) -> list[str] | None:
    """Returns the names that mmengine, or mmdetection before it, writes beside the weights."""
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return None
    known = meta.get("dataset_meta")
    for place in (known if isinstance(known, Mapping) else {}, meta):
        for key in ("classes", "CLASSES"):
            names = place.get(key)
            if isinstance(names, (list, tuple)) and len(names) == classes:
                return [str(name) for name in names]
    return None


def load_backbone_weights(backbone: Backbone, path: str) -> None:
    """Gives a backbone the weights of a file: of the backbone alone, with its classifier, or of a whole detector.

    Args:
        backbone: Backbone without its head.
        path: ``.safetensors``, or a file of ``torch.save`` that holds weights, or weights and other things.

    Raises:
        DataError: The file cannot be read, or its weights do not fit.
    """
    safe = Path(path).suffix == ".safetensors"
    state = read_weights(path) if safe else plain_weights(read_checkpoint(path), path)
    inner = {
        key.removeprefix("backbone."): weight for key, weight in state.items() if key.startswith("backbone.")
    }
    heads = tuple(f"{name}." for name in backbone.head_modules)
    load_weights(
        backbone, {key: w for key, w in (inner or state).items() if not key.startswith(heads)}, source=path
    )
