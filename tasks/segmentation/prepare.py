"""Preprocessed cases: in memory, or in a folder that other runs share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from core.data.cache import Store
from core.errors import ConfigError, DataError
from core.files import make_folder
from tasks.segmentation.data.cases import Case, SegmentationData
from tasks.segmentation.frame import Frame
from tasks.segmentation.planning.plan import Plan, tuples
from tasks.segmentation.preprocess import Prepared, preprocess
from tasks.segmentation.segmenter import Segmenter, previous_channels

PROGRESS_FROM = 20
"""Number of cases from which a progress bar is worth its line."""
_STEPS = (
    "transpose",
    "spacing",
    "normalisation",
    "masked_normalisation",
    "intensities",
    "resample",
    "crop",
    "previous_classes",
)


@dataclasses.dataclass
class Previous:
    """A coarser model whose segmentation is read too.

    Attributes:
        segmenter: The model.
        weights: SHA-256 of its weights.
    """

    segmenter: Segmenter
    weights: str


def prepare_cases(
    data: SegmentationData,
    plan: Plan,
    positions: Sequence[int],
    cache: str | None = None,
    previous: Previous | None = None,
    store: Store | None = None,
) -> dict[int, Prepared]:
    """Preprocesses cases, with a progress bar.

    Args:
        data: Cases.
        plan: How.
        positions: Of the cases.
        cache: Folder for files that are mapped into memory, and found again; ``None`` leaves them to the store.
        previous: Coarser model of a cascade.
        store: Keeps the cases without a folder; a new one by default.

    Raises:
        DataError: A case cannot be preprocessed.
        ConfigError: The folder cannot be made.
    """
    store = store or Store()
    folder = make_folder(Path(cache), "--data.cache") if cache else None
    found: dict[int, Prepared] = {}
    bar = track(
        positions,
        "Preprocessing",
        transient=True,
        disable=len(positions) < PROGRESS_FROM and previous is None,
    )
    for position in bar:
        case = data.cases[position]
        if folder is None:
            found[position] = _kept(_prepare(data, case, plan, previous), store)
            continue
        place = folder / _key(case, data, plan, previous)
        if not place.is_dir():
            _store(_prepare(data, case, plan, previous), place)
        found[position] = _load(place)
    return found


def _prepare(data: SegmentationData, case: Case, plan: Plan, previous: Previous | None) -> Prepared:
    voxels = data.read(case)
    prepared = preprocess(voxels, plan, case.name)
    if previous is not None:
        coarse = previous.segmenter.segment(voxels, case.name, previous.segmenter.unseen(case.name))
        more = previous_channels(coarse.labels, prepared.frame, plan)
        prepared = dataclasses.replace(prepared, image=np.concatenate([prepared.image, more]))
    return prepared


def _kept(prepared: Prepared, store: Store) -> Prepared:
    return dataclasses.replace(
        prepared,
        image=store.keep(prepared.image),
        labels=None if prepared.labels is None else store.keep(prepared.labels),
        mask=None if prepared.mask is None else store.keep(prepared.mask),
        foreground={label: store.keep(voxels) for label, voxels in prepared.foreground.items()},
    )


def _key(case: Case, data: SegmentationData, plan: Plan, previous: Previous | None) -> str:
    steps = {name: getattr(plan, name) for name in _STEPS}
    coarse = previous.weights if previous else ""
    told = repr((case.scan.digest, data.labels, data.channels, plan.dims, steps, coarse))
    return f"{case.name}-{hashlib.sha256(told.encode(errors='surrogateescape')).hexdigest()[:16]}"


def _store(prepared: Prepared, place: Path) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write(prepared, temporary)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ConfigError(
            f"--data.cache {place.parent} cannot be written ({error.strerror}); choose another"
        ) from None
    try:
        temporary.rename(place)
    except OSError:  # another run was faster
        shutil.rmtree(temporary)


def _write(prepared: Prepared, temporary: Path) -> None:
    temporary.mkdir()
    for name in ("image", "labels", "mask"):
        array = getattr(prepared, name)
        if array is not None:
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
    np.savez(temporary / "foreground.npz", **{str(k): v for k, v in prepared.foreground.items()})  # type: ignore[arg-type]
    (temporary / "frame.json").write_text(json.dumps(dataclasses.asdict(prepared.frame)), encoding="utf-8")


def _load(place: Path) -> Prepared:
    try:
        arrays = {
            name: np.load(place / f"{name}.npy", mmap_mode="r") if (place / f"{name}.npy").exists() else None
            for name in ("image", "labels", "mask")
        }
        with (place / "foreground.npz").open("rb") as file, np.load(file) as stored:
            foreground = {int(name): stored[name] for name in stored.files}
        stored_frame = json.loads((place / "frame.json").read_text(encoding="utf-8"))
        frame = Frame(**{name: tuples(value) for name, value in stored_frame.items()})
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{place} is damaged ({error}); delete this folder, it is made again") from None
    if arrays["image"] is None:
        raise DataError(f"{place} is damaged (image.npy is missing); delete this folder, it is made again")
    return Prepared(**arrays, foreground=foreground, frame=frame)  # type: ignore[arg-type]
