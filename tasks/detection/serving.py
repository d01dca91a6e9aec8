"""``predict`` and requests: images, folders and videos in, COCO JSON and drawn pictures out."""

from __future__ import annotations

import base64
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from core.data.images.files import Picture, write_picture
from core.data.images.folder import list_pictures, other_files
from core.errors import ConfigError, DataError, SkipwayError
from core.files import from_base64, identity, make_folder, tell_left_out
from tasks.detection.coco_json import as_coco, counts_of, write_coco
from tasks.detection.config import DetPredictConfig
from tasks.detection.data.images import read_rgb
from tasks.detection.detector import Detector, configured
from tasks.detection.drawing import draw
from tasks.detection.results import Detections
from tasks.detection.video import VIDEO_ENDINGS, Video, search_video

MARK = "_detections"
RECORD = "detections.json"
COLUMN, ANSWER = "image", "detections"
"""Columns of a request and of its answer."""
PARAMS = {"score": 0.3, "iou": 0.65, "max_detections": 300}
"""What a request may set, and what it is otherwise."""


def default_output(config: DetPredictConfig) -> str | None:
    """Returns where results go unless asked for: ``photo_detections.json`` for ``photo.jpg``, ``photos_detections``.

    ``None`` for a folder without a name, the root.
    """
    assert config.input is not None
    path = Path(config.input)
    if path.name in ("", ".."):
        path = path.resolve()
    if not path.name:
        return None
    name = f"{path.name}{MARK}" if path.is_dir() else f"{path.stem}{MARK}.json"
    return str(path.with_name(name))


def predict_files(detector: Detector, config: DetPredictConfig) -> list[str]:
    """Finds the objects in ``config.input`` and writes them to ``config.output``, see :mod:`tasks.detection.coco_json`.

    With ``draw`` there is a picture beside the JSON file, for a folder one of each image, for a video a video.

    Returns:
        One line for each image that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: A class is unknown, or the output cannot be written where, or as what, it should be.
        DataError: The file cannot be used, or the folder holds no image.
    """
    assert config.input is not None and config.output is not None
    source, target = Path(config.input), Path(config.output)
    if config.classes is not None:
        detector.positions(config.classes)
    film = source.is_file() and source.suffix.lower() in VIDEO_ENDINGS
    files = [source] if film else list_pictures(source)
    record = _record(source, target)
    pictures = _pictures(files, record, source.is_dir(), ".mp4" if film else ".jpg") if config.draw else []
    _keep_inputs([record, *pictures], files)
    make_folder(record.parent, "--output")
    if source.is_dir():
        tell_left_out([path.name for path in other_files(source)])
    detect = partial(
        configured(detector, config),
        image_size=config.image_size,
        classes=config.classes,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    failures: list[str] = []
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        say = partial(progress.console.print, markup=False, highlight=False, soft_wrap=True)
        bar = progress.add_task(source.name, total=None)

        def show(done: float, total: float) -> None:
            progress.update(bar, completed=done, total=total or None)

        if film:
            video = Video(source)
            drawn = pictures[0] if pictures else None
            entries, found = search_video(
                video, detect, detector.classes, drawn, config.every, config.batch, show
            )
            if video.read < video.count:
                say(f"note       {source} ends after {video.read} of {video.count} frames")
        else:
            step = 1 if config.tile else config.batch
            entries, found = _search_images(
                detect, files, pictures, detector.classes, step, show, say, failures, config.strict
            )
    if not entries:
        if not source.is_dir():
            raise DataError(failures[0])
        return failures
    write_coco(record, as_coco(entries, found, detector.classes, detector.category_ids))
    what = f"{len(entries)} {'frame' if film else 'image'}{'s' * (len(entries) > 1)}"
    print(f"written    {record}: {what}, {sum(map(len, found))} objects")
    if len(pictures) == 1:
        print(f"written    {pictures[0]}")
    if full := sum(len(each) == config.max_detections for each in found):
        print(
            f"note       more may be in {full} of them: --max_detections {config.max_detections} keeps the most certain"
        )
    return failures


def serve_frame(detector: Detector, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """Finds the objects in the images of a request.

    Args:
        detector: The model.
        frame: Column ``image`` with base64 text of image files, one a row.
        params: Any of :data:`PARAMS`.

    Returns:
        ``detections``: for each row a JSON list, the most certain object first, each with ``class``, ``score``, ``box``
        (left, top, right, bottom, pixels) and, of models with masks, ``segmentation`` as COCO's run lengths.

    Raises:
        DataError: The column is missing, a row is no image, or a parameter is out of range.
    """
    if COLUMN not in frame:
        raise DataError(f"the request needs a column {COLUMN!r} with image files as base64 text")
    options = {**PARAMS, **params}
    for name in ("score", "iou"):
        if not 0 <= options[name] <= 1:
            raise DataError(f"the parameter {name} must lie between 0 and 1, not {options[name]}")
    if options["max_detections"] < 1:
        raise DataError(f"the parameter max_detections must be 1 or more, not {options['max_detections']}")
    images = [_image_of(text, row) for row, text in enumerate(frame[COLUMN])]
    found = detector.detect(images, **options) if images else []
    answers = [json.dumps(_entries(each, detector.classes)) for each in found]
    return pd.DataFrame({ANSWER: answers}, columns=[ANSWER])


def example_request(detector: Detector) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns a request with one small image of a bright square in noise, and its parameters."""
    side = detector.image_size // 2
    values = np.random.default_rng(0).integers(40, 90, (side, side, 3), np.uint8)
    values[side // 4 : side // 2, side // 4 : side // 2] = (230, 60, 40)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.png"
        write_picture(path, Picture(values))
        text = base64.b64encode(path.read_bytes()).decode()
    return pd.DataFrame({COLUMN: [text]}), dict(PARAMS)


def _record(source: Path, target: Path) -> Path:
    """Returns the JSON file to write."""
    if source.is_dir():
        if target.is_file() or target.suffix.lower() == ".json":
            raise ConfigError(f"--input {source} is a folder and --output {target} is a file; name a folder")
        return target / RECORD
    if target.is_dir() or not target.suffix:
        return target / f"{source.stem}{MARK}.json"
    if target.suffix.lower() != ".json":
        raise ConfigError(f"--output {target} must end in .json, or be a folder")
    return target


def _pictures(files: Sequence[Path], record: Path, many: bool, ending: str) -> list[Path]:
    """Returns the picture to draw of each file: ``a.tif.jpg`` where two are called a."""
    if not many:
        return [record.with_suffix(ending)]
    stems = Counter(path.stem for path in files)
    return [
        record.with_name(f"{path.stem if stems[path.stem] == 1 else path.name}{ending}") for path in files
    ]


def _keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    taken = {identity(path): path for path in inputs if path.exists()}
    for path in outputs:
        if path.exists() and (hit := taken.get(identity(path))):
            raise ConfigError(f"{path} would replace the input {hit.name}; name another --output")


def _search_images(
    detect: Callable[..., list[Detections]],
    files: Sequence[Path],
    pictures: Sequence[Path],
    classes: Sequence[str],
    step: int,
    show: Callable[[float, float], None],
    say: Callable[[str], None],
    failures: list[str],
    strict: bool,
) -> tuple[list[dict[str, Any]], list[Detections]]:
    """Finds the objects in image files; returns what is known of each image, and what was found in it."""
    entries: list[dict[str, Any]] = []
    found: list[Detections] = []
    for first in range(0, len(files), step):
        images: dict[int, np.ndarray] = {}
        for i in range(first, min(first + step, len(files))):
            try:
                images[i] = read_rgb(files[i])
            except SkipwayError as error:
                if strict:
                    raise
                failures.append(str(error))

        def share(done: int, total: int, first: int = first, count: int = len(images)) -> None:
            show(first + count * done / total, len(files))

        results = detect(list(images.values()), progress=share)
        for (i, image), result in zip(images.items(), results, strict=True):
            height, width = image.shape[:2]
            entries.append({"file_name": files[i].name, "width": width, "height": height})
            if pictures:
                write_picture(pictures[i], Picture(draw(image, result, classes)))
            say(f"{files[i].name}: {counts_of(result, classes)}")
        found += results
    return entries, found


def _image_of(text: Any, row: int) -> np.ndarray:
    """Returns the image in a row of a request."""
    # The readers take files.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        try:
            path.write_bytes(from_base64(text, COLUMN, "an image file"))
            return read_rgb(path)
        except SkipwayError as error:
            # The caller knows the row and not our file.
            raise DataError(f"row {row}: {str(error).replace(f'{path}: ', '')}") from None


def _entries(found: Detections, classes: Sequence[str]) -> list[dict[str, Any]]:
    entries = []
    for i in range(len(found)):
        entry: dict[str, Any] = {
            "class": classes[int(found.labels[i])],
            "score": round(float(found.scores[i]), 5),
            "box": [round(float(value), 3) for value in found.boxes[i]],
        }
        if found.masks is not None:
            entry["segmentation"] = found.masks[i]
        entries.append(entry)
    return entries
