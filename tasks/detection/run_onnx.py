"""An exported detector on images, without torch: ``python -m tasks.detection.run_onnx --help``."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from core.cli import argument_parser, with_one_line_errors
from core.errors import ConfigError, DataError
from core.files import load_json
from tasks.detection.postprocess import Limits, select, solid
from tasks.detection.preprocess import fit, unfit
from tasks.detection.results import Detections

ENDING = "detections"
"""Output of programs that suppress double boxes themselves."""
LONGEST = 160
"""Letters of what ONNX Runtime says of a file that it cannot read."""
QUIET = 3
"""Errors alone: ONNX Runtime warns of inputs that may be left out."""


class Program:
    """An exported detector.

    Args:
        path: ``detection.onnx``, or ``detection_raw.onnx``.

    Attributes:
        classes: Names of the classes.
        category_ids: COCO's number of each class.
        image_size: Side of the square that images are fitted into, pixels.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        DataError: The file is no program, or none of this task.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ConfigError("run_onnx needs ONNX Runtime: pip install onnxruntime") from None
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = QUIET
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        # Its exceptions have no common class of their own.
        except Exception as error:
            reason = textwrap.shorten(str(error), LONGEST)
            raise DataError(f"{path} cannot be read as an ONNX program: {reason}") from None
        known = self._session.get_modelmeta().custom_metadata_map
        if known.get("task") != "detection" or "classes" not in known:
            raise DataError(f"{path} is no detector; write one by python -m tasks.detection.export")
        self.classes: list[str] = load_json(known["classes"])
        self.category_ids: list[int] = load_json(known["category_ids"])
        self.image_size = int(known["image_size"])
        self._raw = ENDING not in [output.name for output in self._session.get_outputs()]

    def detect(self, image: np.ndarray, limits: Limits) -> Detections:
        """Finds the objects in an image, RGB ``(H, W, 3)`` uint8; masks are not drawn."""
        padded, scale = fit(image, self.image_size)
        x = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)
        size = (image.shape[0], image.shape[1])
        if self._raw:
            boxes, scores = self._session.run(["boxes", "scores"], {"images": x})
            return select(boxes[0], scores[0], scale, size, limits)[0]
        given = {
            "images": x,
            "score_threshold": np.array([limits.score], np.float32),
            "iou_threshold": np.array([limits.iou], np.float32),
            "max_detections": np.array([limits.max_detections], np.int64),
        }
        (rows,) = self._session.run([ENDING], given)
        found = Detections(unfit(rows[:, 1:5], scale, size), rows[:, 5], rows[:, 6].astype(np.int64))
        return found.take(solid(found.boxes))


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return with_one_line_errors(_run, argv)


def _run(argv: list[str]) -> int:
    parser = argument_parser(
        "tasks.detection.run_onnx",
        "Finds objects with an exported detector, without torch, and writes the JSON that predict writes.",
        "  python -m tasks.detection.run_onnx detection.onnx --input photos --output found.json",
    )
    parser.add_argument("program", metavar="PROGRAM.onnx", type=Path, help="what export wrote, raw or not")
    parser.add_argument("--input", type=Path, required=True, help="image or folder of images")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write, in the form of COCO")
    parser.add_argument("--score", type=_share, default=0.3, help="least score of a box (%(default)s)")
    parser.add_argument(
        "--iou", type=_share, default=0.65, help="boxes that overlap by more are one (%(default)s)"
    )
    parser.add_argument(
        "--max-detections", type=int, default=100, help="most boxes in an image (%(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first bad image")
    options = parser.parse_args(argv)
    if options.max_detections < 1:
        raise ConfigError(f"--max-detections {options.max_detections} must be 1 or more")
    if options.output.suffix.lower() != ".json":
        raise ConfigError(f"--output {options.output} must end in .json")
    limits = Limits(options.score, options.iou, options.max_detections)
    failures = _write(Program(options.program), options.input, options.output, limits, options.strict)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _write(program: Program, source: Path, target: Path, limits: Limits, strict: bool) -> list[str]:
    """Finds the objects in an image or a folder; returns one line for each image that cannot be read."""
    from rich.progress import track

    from core.data.images.folder import list_pictures
    from core.files import make_folder
    from tasks.detection.coco_json import as_coco, write_coco
    from tasks.detection.data.images import read_rgb

    files = list_pictures(source)
    make_folder(target.parent, "--output")
    entries: list[dict[str, Any]] = []
    found: list[Detections] = []
    failures = []
    for path in track(files, description="Searching", transient=True, disable=len(files) == 1):
        try:
            image = read_rgb(path)
        except DataError as error:
            if strict or not source.is_dir():
                raise
            failures.append(str(error))
            continue
        entries.append({"file_name": path.name, "width": image.shape[1], "height": image.shape[0]})
        found.append(program.detect(image, limits))
    if entries:
        write_coco(target, as_coco(entries, found, program.classes, program.category_ids))
        print(f"written    {target}: {len(entries)} image(s), {sum(map(len, found))} objects")
    return failures


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} must lie between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
