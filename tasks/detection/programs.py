"""A trained detector as programs for other runtimes: with and without the suppression of double boxes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import PackageError
from core.export import check_outputs, check_packages, write_program
from core.track.environment import installed
from tasks.detection.detector import Detector
from tasks.detection.postprocess import Limits, overlaps, select
from tasks.detection.preprocess import PADDING, normalise
from tasks.detection.results import Detections
from tasks.detection.run_onnx import QUIET

IMAGES, RAW = "images", ("boxes", "scores")
OF_MASKS = ("kernels", "prototypes", "priors")
ASKED = 200
"""Boxes that the score of the check lets through."""
HOW_TO_FEED = (
    "Resize the image, bilinearly and with its proportions, by the largest factor with which it fits into a square of "
    "image_size, and round its sides to whole pixels. Put it into the upper left corner of the square, and fill the "
    "rest with padding. Divide boxes by the factor, and cut them to the image."
)
HOW_TO_SUPPRESS = (
    "Take the best class of each box. Drop boxes with a low score and those without area, and of two boxes of one "
    "class that overlap, the one with the lower score."
)
SELECTED = (
    "detections (N, 7), the most certain first: number of the image in the batch, left, top, right, bottom (pixels of "
    "the input), score, class"
)
HOW_TO_DRAW = (
    "The mask of a box is drawn by three 1x1 convolutions with the weights in kernels; see arXiv:2212.07784, section "
    "3.4, and mask_logits in skipway's tasks/detection/models/rtmdet_ins.py."
)


class Raw(nn.Module):
    """Normalisation, network and decoding as one module.

    Args:
        network: Network of this task.
        masks: Whether it draws masks.
    """

    def __init__(self, network: nn.Module, masks: bool) -> None:
        super().__init__()
        self.network: Any = network
        self.masks = masks

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps RGB images ``(B, 3, H, W)`` of 0 to 255 to boxes ``(B, P, 4)`` and scores ``(B, P, classes)``.

        Of networks with masks, kernels ``(B, P, 169)``, prototypes ``(B, 8, H / 8, W / 8)`` and places ``(P, 3)`` too.
        """
        outputs = self.network(normalise(images, self.network))
        boxes, scores = self.network.decode(outputs)
        if not self.masks:
            return boxes, scores
        _, _, priors, kernels = self.network.flatten(outputs)
        return boxes, scores, kernels, outputs.prototypes, priors


def export_detector(detector: Detector, folder: Path, format: str, task: str) -> list[Path]:
    """Writes ``<task>_raw.onnx`` and ``<task>.onnx``, or ``<task>_raw.pt2``, and checks their outputs.

    The raw program ends at boxes and scores. The other one goes on to :mod:`tasks.detection.onnx_nms`; models with
    masks have the raw one alone. The number of images is dynamic; with RTMDet height and width are too.

    Raises:
        ConfigError: The packages that ONNX needs are not installed.
        PackageError: A program does not reproduce the model.
    """
    check_packages(format)
    program = Raw(
        copy.deepcopy(detector.network).cpu().to(memory_format=torch.contiguous_format), detector.masks
    )
    path = folder / f"{task}_raw.{format}"
    images = _example(detector.image_size)
    names = [*RAW, *(OF_MASKS if detector.masks else ())]
    metadata = _metadata(detector, task)
    written = write_program(
        program.eval(),
        (images,),
        path,
        input_names=[IMAGES],
        output_names=names,
        dynamic_shapes=(_dynamic(detector.network),),
        metadata=metadata,
    )
    with torch.inference_mode():
        for output, expected in zip(written, program(images), strict=True):
            check_outputs(path, output, expected.numpy())
    if format != "onnx" or detector.masks:
        return [path]
    from tasks.detection.onnx_nms import add_suppression

    whole = folder / f"{task}.onnx"
    metadata = {**metadata, "output": SELECTED, "how_to_apply": HOW_TO_FEED}
    add_suppression(path, whole, metadata)
    _check_suppression(whole, images.numpy(), written[0], written[1])
    return [path, whole]


def _dynamic(network: Any) -> dict[int, Any]:
    """Returns the axes of the input that vary."""
    batch = torch.export.Dim("batch")
    # The anchors of other networks are made for one size.
    if not hasattr(network, "strides"):
        return {0: batch}
    multiple = network.size_multiple
    height, width = torch.export.Dim("rows", min=2), torch.export.Dim("columns", min=2)
    return {0: batch, 2: multiple * height, 3: multiple * width}


def _example(size: int) -> Tensor:
    """Returns two images of noise of several scales, ``(2, 3, size, size)``."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.rand(2, 3, side, side, generator=generator) for side in (4, 16, size)]
    return sum(nn.functional.interpolate(part, size) for part in parts) * (255 / len(parts))  # type: ignore[return-value]


def _metadata(detector: Detector, task: str) -> dict[str, str]:
    network, known = detector.network, detector.metadata
    axes = f"(batch, 3, {detector.image_size}, {detector.image_size})"
    output = "boxes (batch, P, 4): left, top, right, bottom, pixels of the input; scores (batch, P, classes)"
    how = f"{HOW_TO_FEED} {HOW_TO_SUPPRESS}"
    if detector.masks:
        output += "; kernels (batch, P, 169), prototypes (batch, 8, height / 8, width / 8), priors (P, 3)"
        how += f" {HOW_TO_DRAW}"
    return {
        "task": task,
        "model": type(network).__name__,
        "input": f"images {axes}, RGB, float32 of 0 to 255, not normalised",
        "output": output,
        "how_to_apply": how,
        "classes": json.dumps(detector.classes),
        "category_ids": json.dumps(detector.category_ids),
        "image_size": str(detector.image_size),
        "size_multiple": str(network.size_multiple),
        "padding": str(PADDING),
        "pixels": network.pixels,
        "mean": json.dumps(list(network.mean)),
        "std": json.dumps(list(network.std)),
        "trained_on": json.dumps(known.get("data", {}).get("name", "")),
        "scores": json.dumps(known.get("provenance", {}).get("scores", {})),
        "skipway_version": installed("skipway") or "",
    }


def _check_suppression(path: Path, images: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> None:
    """Removes a program that finds other objects in ``images`` than the detector's own code in its raw output.

    Compared are sets, as boxes with scores that are nearly the same may change their places.
    """
    import onnxruntime

    best = np.sort(scores.max(2).ravel())
    limits = Limits(score=float(best[-min(ASKED, len(best))]), max_detections=100)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = QUIET
    session = onnxruntime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
    given = {
        IMAGES: images,
        "score_threshold": np.array([limits.score], np.float32),
        "iou_threshold": np.array([limits.iou], np.float32),
        "max_detections": np.array([limits.max_detections], np.int64),
    }
    (rows,) = session.run(None, given)
    size = (images.shape[2], images.shape[3])
    for i in range(len(images)):
        expected, _ = select(boxes[i], scores[i], 1.0, size, limits)
        own = rows[rows[:, 0] == i]
        found = Detections(own[:, 1:5], own[:, 5], own[:, 6].astype(np.int64))
        if not (_covers(found, expected) and _covers(expected, found)):
            path.unlink()
            raise PackageError(
                f"{path} finds other objects than the model and was removed; please report this"
            )


def _covers(first: Detections, second: Detections) -> bool:
    """Tells whether nearly every object of ``second`` is one of ``first``; ties in scores may be broken either way."""
    if not len(second):
        return True
    twins = [
        bool(
            (
                (overlaps(second.boxes[i], first.boxes) > 0.999)
                & (first.labels == second.labels[i])
                & (np.abs(first.scores - second.scores[i]) < 1e-4)
            ).any()
        )
        for i in range(len(second))
    ]
    return float(np.mean(twins)) >= 0.98
