"""``predict`` and requests: images and volumes in, label maps of the same place out."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from core.data.images.files import Picture, write_picture
from core.errors import ConfigError, SkipwayError
from core.files import identity, make_folder, tell_left_out
from tasks.segmentation.checks import apply_options
from tasks.segmentation.config import SegPredictConfig
from tasks.segmentation.data.cases import FLAT, Geometry
from tasks.segmentation.data.layouts import find_inputs, other_files
from tasks.segmentation.data.place import ending_of
from tasks.segmentation.data.volumes import label_ending, stem, write_labels
from tasks.segmentation.inputs import COLUMN, ENDING, chosen_channels, read_rows, read_voxels
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.results import check_place, describe, result_files, stored_labels, write_results
from tasks.segmentation.segmenter import Segmenter

MARK = "_seg"
LABELS = "labels"


class Model(Protocol):
    """What an example is made for: plan, and names of the channels."""

    plan: Plan
    channels: list[str]


def default_output(config: SegPredictConfig) -> str | None:
    """Returns where results go unless asked for: ``scan_seg.nii.gz`` for ``scan.nii.gz``, ``scans_seg`` for a folder.

    ``None`` for a folder without a name, the root.
    """
    assert config.input is not None
    path = Path(config.input)
    if path.name in ("", ".."):
        path = path.resolve()
    if not path.name:
        return None
    if path.is_dir():
        return str(path.with_name(f"{path.name}{MARK}"))
    return str(path.with_name(f"{stem(path)}{MARK}{label_ending(ending_of(path))}"))


def predict_files(segmenter: Segmenter, config: SegPredictConfig) -> list[str]:
    """Segments the cases of ``config.input`` into ``config.output``.

    Label maps hold the values of the training's files and lie where the images do; of objects, their numbers. Pictures
    get PNG files.

    Returns:
        One line for each case that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: An option is wrong, or the output cannot be written where, or as what, it should be.
        DataError: The file cannot be used, or the folder holds no image.
    """
    assert config.input is not None and config.output is not None
    source, target = Path(config.input), Path(config.output)
    chosen = chosen_channels(segmenter.metadata)
    spacing = _spacing(config.spacing)
    apply_options(segmenter, config, prefix="")
    cases = find_inputs(source, None if chosen else len(segmenter.channels))
    into_folder = source.is_dir() or target.is_dir() or not ending_of(target)
    if source.is_dir() and target.is_file():
        raise ConfigError(f"--input {source} is a folder and --output {target} is a file; name a folder")
    make_folder(target if into_folder else target.parent, "--output")
    tell_left_out([path.name for path in other_files(source)])
    taken = {identity(path): path for _, paths in cases for path in paths}
    failures = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        bar = progress.add_task("", total=None)
        for i, (name, paths) in enumerate(cases):

            def show(done: int, total: int, i: int = i, name: str = name) -> None:
                text = f"{name} ({i + 1} of {len(cases)})" if len(cases) > 1 else name
                progress.update(bar, description=text, completed=done, total=total)

            place = target / f"{name}{label_ending(ending_of(paths[0]))}" if into_folder else target
            try:
                for path in result_files(place, config):
                    if path.exists() and (hit := taken.get(identity(path))):
                        raise ConfigError(f"{path} would replace the input {hit.name}; name another --output")
                voxels = read_voxels(paths, name, segmenter.channels, chosen, spacing)
                if not into_folder:
                    check_place(place, voxels.geometry)
                found = segmenter.segment(
                    voxels, name, progress=show, keep_probabilities=config.probabilities
                )
                write_results(place, voxels, found, segmenter.labels, config)
            except SkipwayError as error:
                if not source.is_dir():
                    raise
                said = _naming(paths, name, str(error))
                if config.strict:
                    raise type(error)(said) from error
                failures.append(said)
                continue
            said = describe(found, voxels.geometry, segmenter.labels, spacing)
            first, *others = result_files(place, config)
            for line in (f"{first}: {said}", *others):
                progress.console.print(f"written    {line}", markup=False, highlight=False, soft_wrap=True)
    return failures


def serve_frame(segmenter: Segmenter, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """Segments the images of a request, see :func:`tasks.segmentation.inputs.read_rows`.

    Args:
        segmenter: The model.
        frame: One row a case.
        params: None are known.

    Returns:
        ``labels``, base64 text of label files, and their ``ending``.

    Raises:
        DataError: A column is missing, or a row is no image that the model reads.
    """
    answers = []
    for name, voxels in read_rows(frame, segmenter.channels, chosen_channels(segmenter.metadata)):
        found = segmenter.segment(voxels, name)
        ending = label_ending(voxels.geometry.ending)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"labels{ending}"
            write_labels(path, stored_labels(found, segmenter.labels), voxels.geometry)
            answers.append({LABELS: _encoded(path), ENDING: ending})
    return pd.DataFrame(answers, columns=[LABELS, ENDING])


def example_request(model: Model) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns a request with a small image or volume of a bright spot in noise, twice, and no parameters.

    The second time its ending is left out, from which MLflow learns that it may be.
    """
    count = len(model.channels)
    # What is not resampled are images.
    flat = not model.plan.resample
    shape = (1, 48, 48) if flat else (16, 24, 24)
    distance = np.sum([(np.indices(shape)[axis] - shape[axis] / 2) ** 2 for axis in range(3)], axis=0)
    noise = np.random.default_rng(0).normal(0, 8, (count, *shape))
    values = np.clip(60 + 120 * np.exp(-distance / 60) + noise, 0, 255).astype(np.uint8)
    geometry = Geometry((shape[0], shape[1], shape[2]), (FLAT if flat else 1.0, 1.0, 1.0), ".nii.gz")
    with tempfile.TemporaryDirectory() as folder:
        if flat and count in (1, 3):
            path = Path(folder) / "example.png"
            write_picture(path, Picture(np.ascontiguousarray(values[:, 0].transpose(1, 2, 0))))
            return _twice([COLUMN], [_encoded(path)], path), {}
        texts = []
        for channel in values:
            path = Path(folder) / f"example{'.png' if flat else '.nii.gz'}"
            write_labels(path, channel, geometry)
            texts.append(_encoded(path))
    names = [COLUMN] if count == 1 else [f"{COLUMN}_{i + 1}" for i in range(count)]
    return _twice(names, texts, path), {}


def _twice(names: list[str], texts: list[str], path: Path) -> pd.DataFrame:
    columns: dict[str, list[str | None]] = {n: [text, text] for n, text in zip(names, texts, strict=True)}
    return pd.DataFrame(columns | {ENDING: [ending_of(path), None]})


def _spacing(given: list[float] | None) -> list[float] | None:
    if given is not None and (len(given) != 3 or not all(0 < size < math.inf for size in given)):
        raise ConfigError(f"--spacing {given} must be three sizes in mm, such as [2.5, 0.8, 0.8]")
    return given


def _naming(paths: Sequence[Path], name: str, error: str) -> str:
    """Returns an error with the path of its file in front, in place of the case's name."""
    if any(str(path) in error for path in paths):
        return error
    return f"{paths[0]}: {error.removeprefix(f'{name}: ')}"


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
