"""Two folders of images and label maps, and DRIVE, which has them for training and test."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tasks.segmentation.data.found import Found, RawCase, image_files, pair, subfolders
from tasks.segmentation.data.place import stem

IMAGES = ("images", "image", "imgs", "img", "inputs", "input")
LABELS = (
    *(
        "labels",
        "label",
        "1st_manual",
        "gt",
        "gts",
        "ground_truth",
        "groundtruth",
        "annotations",
        "annotation",
    ),
    *("segmentations", "segmentation", "seg", "targets", "target", "masks", "mask"),
)
"""Names of the folder of labels; the last ones may be the field of view where there is another one."""
VIEWS = ("fov", "masks", "mask", "roi")
"""Names of the folder of fields of view."""
SECOND = ("label2", "labels2", "2nd_manual")
"""Names of the folder of a second observer's labels."""
TRAIN, TEST = ("train", "training"), ("test", "testing")
VESSEL = "vessel"
"""What DRIVE's labels mean."""
MARKS = re.compile(
    r"[ _-]?(training|test|manual\d?|masks?|labels?|seg(mentation)?|gt|ground_?truth|annotation|fov)$", re.I
)
"""Words at the end of names that tell the files of a case apart: 21_training.tif, 21_manual1.gif."""


def find_drive(path: Path) -> Found | None:
    """Reads DRIVE, or any folder with such parts for training and for test.

    Source: Staal et al., IEEE Trans. Med. Imaging 23 (2004). Names of folders are those of the original,
    ``training/{images,1st_manual,mask}``, or ``train/{image,label,fov}``.
    """
    folders = subfolders(path)
    train = next((folders[name] for name in TRAIN if name in folders), None)
    test = next((folders[name] for name in TEST if name in folders), None)
    first = find_folders(train) if train else None
    if first is None:
        return None
    found = replace(first, layout="drive")
    if test is not None and (second := find_folders(test)) is not None:
        found.test = second.cases
        found.dropped += second.dropped
        found.notes = list(dict.fromkeys([*found.notes, *second.notes]))
    used = {item.name for item in (train, test) if item is not None}
    if others := [item.name for item in folders.values() if item.name not in used]:
        found.notes.append(f"not used: {', '.join(others[:3])}")
    return found


def find_folders(path: Path) -> Found | None:
    """Reads a folder of images, one of label maps and, if there is one, one of fields of view.

    The files of a case have one name, apart from endings and words such as ``_mask``.
    """
    folders = subfolders(path)
    images = next((folders[name] for name in IMAGES if name in folders), None)
    if images is None or not (files := image_files(images)):
        return None
    label = next((name for name in LABELS if name in folders), None)
    view = next((name for name in VIEWS if name in folders and name != label), None)
    found = Found("folders", [])
    found.cases, found.dropped = _match(files, image_files(folders[label]) if label else [])
    if view is not None:
        found.cases = _add_views(found.cases, image_files(folders[view]))
        missing = [case.name for case in found.cases if case.mask is None]
        if missing:
            found.notes.append(f"{len(missing)} without a field of view in {view}, such as {missing[0]}")
        elif view != "fov":
            found.notes.append(f"{view} is the field of view, {label} the labels")
    if second := [name for name in SECOND if name in folders]:
        found.notes.append(f"{second[0]}, a second observer's labels, is not used")
    return found


def find_images(path: Path) -> Found | None:
    """Reads a folder of images without labels."""
    files = image_files(path)
    return Found("images", pair(files, [])[0]) if files else None


def _match(images: list[Path], labels: list[Path]) -> tuple[list[RawCase], list[str]]:
    cases, alone = pair(images, labels)
    if any(case.label for case in cases) or not labels:
        return cases, alone
    # None has an equal name: those without the words that tell them apart must do.
    firsts, seconds = _keys(images), _keys(labels)
    cases = [RawCase(key, (file,), seconds.get(key)) for key, file in firsts.items()]
    return cases, [
        f"{key}: the label map {file} has no image" for key, file in seconds.items() if key not in firsts
    ]


def _add_views(cases: list[RawCase], views: list[Path]) -> list[RawCase]:
    exact, short = {stem(file): file for file in views}, _keys(views)
    return [replace(case, mask=exact.get(case.name) or short.get(_key(case.name))) for case in cases]


def _keys(files: Iterable[Path]) -> dict[str, Path]:
    """Files by their short names; a short name that several have is none."""
    files = list(files)
    counts = Counter(_key(stem(file)) for file in files)
    return {_key(stem(file)) if counts[_key(stem(file))] == 1 else stem(file): file for file in files}


def _key(name: str) -> str:
    shorter = MARKS.sub("", name)
    return _key(shorter) if shorter and shorter != name else name
