"""nnU-Net's raw folders and those of the Medical Segmentation Decathlon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.files import load_json
from tasks.segmentation.data.found import Found, RawCase, image_files, pair
from tasks.segmentation.data.place import ending_of, stem
from tasks.segmentation.labels import Labels

DESCRIPTION = "dataset.json"
IGNORED = "ignore"
"""Name of what counts for nothing in nnU-Net's labels."""


def find_nnunet(path: Path) -> Found | None:
    """Reads an nnU-Net raw folder, with or without its ``dataset.json``.

    Sources: nnU-Net v2, documentation/dataset_format.md. ``imagesTr/NAME_0000.nii.gz`` are the channels of a case,
    ``labelsTr/NAME.nii.gz`` are its labels; a dictionary ``dataset`` names the files of cases where they are elsewhere.
    ``imagesTs`` is a test set if there is a ``labelsTs``.
    """
    content = _read(path)
    listed = content.get("dataset") if isinstance(content.get("dataset"), dict) else None
    if listed is None and not ((path / "imagesTr").is_dir() or (path / "imagesTs").is_dir()):
        return None
    found = _described("nnunet", path, content)
    ending = content.get("file_ending")
    if ending is not None and ending_of(Path(f"x{ending}")) != ending:
        raise DataError(
            f"{path / DESCRIPTION}: file_ending {ending!r} is not known; convert the files to .nii.gz"
        )
    if listed is not None:
        _add_listed(found, path, listed)
    elif (path / "imagesTr").is_dir():
        found.cases, found.dropped = _pairs(path, "imagesTr", "labelsTr", ending)
    if (path / "imagesTs").is_dir():
        if (path / "labelsTs").is_dir():
            found.test, alone = _pairs(path, "imagesTs", "labelsTs", ending)
            found.dropped += alone
        else:
            found.notes.append("imagesTs is not used, since there is no labelsTs")
    return found


def find_decathlon(path: Path) -> Found | None:
    """Reads a folder of the Medical Segmentation Decathlon, whose ``dataset.json`` lists the cases.

    Source: Antonelli et al., Nature Communications 13 (2022); http://medicaldecathlon.com.
    """
    content = _read(path)
    listed = content.get("training")
    if not isinstance(listed, list):
        return None
    found = _described("decathlon", path, content)
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise DataError(
                f'{path / DESCRIPTION}: "training" holds {entry!r}; it lists {{"image", "label"}}'
            )
        _add(found, path, stem(Path(entry["image"])), [entry["image"]], entry.get("label"))
    return found


def read_labels_of(file: Path, content: Mapping[str, Any]) -> Labels | None:
    """Returns what the labels of a ``dataset.json`` mean; ``None`` where it does not say so.

    Both forms are read: nnU-Net's name to number, or to a list of numbers for a region, and the Decathlon's number to
    name.

    Raises:
        DataError: The entry is no such thing.
    """
    stored = content.get("labels")
    if not stored:
        return None
    try:
        if all(str(key).isdecimal() for key in stored):
            entries: dict[str, list[int]] = {str(name): [int(key)] for key, name in stored.items()}
        else:
            entries = {name: [int(v) for v in _listed(value)] for name, value in stored.items()}
        order = [int(value) for value in content.get("regions_class_order") or []]
    except (TypeError, ValueError, AttributeError):
        raise DataError(f'{file}: "labels" must give a number, or a list of numbers, for each name') from None
    if len(entries) < len(stored):
        raise DataError(f'{file}: two of the "labels" have one name; give each its own')
    ignored = entries.pop(IGNORED, None)
    ignore = ignored[0] if ignored else None
    values = sorted({0, *(value for group in entries.values() for value in group)})
    if values[0] < 0 or ignore in values or len(values) < 2:
        raise DataError(
            f'{file}: "labels" must be 0 for the background and other numbers for classes and ignore'
        )
    single = {group[0]: name for name, group in entries.items() if len(group) == 1}
    names = tuple(single.get(value, f"label {value}" if value else "background") for value in values)
    if all(len(group) == 1 for group in entries.values()):
        return Labels(names, tuple(values), ignore)
    regions = [(name, group) for name, group in entries.items() if group != [0]]
    if len(order) != len(regions) or not set(order) <= set(values):
        raise DataError(
            f'{file}: "regions_class_order" must give one label for each of the {len(regions)} regions'
        )
    index = {value: i for i, value in enumerate(values)}
    indexed = tuple((name, tuple(index[value] for value in group)) for name, group in regions)
    return Labels(names, tuple(values), ignore, indexed, tuple(index[value] for value in order))


def _read(path: Path) -> dict[str, Any]:
    file = path / DESCRIPTION
    try:
        content = load_json(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read ({error}); give JSON as nnU-Net or the Decathlon have it"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: holds no JSON object; give it as nnU-Net or the Decathlon have it")
    return content


def _described(layout: str, path: Path, content: Mapping[str, Any]) -> Found:
    named = content.get("channel_names") or content.get("modality")
    channels = None
    if named:
        if not isinstance(named, dict) or not all(str(key).isdecimal() for key in named):
            raise DataError(f'{path / DESCRIPTION}: "channel_names" must give a name for 0, 1 and so on')
        channels = [str(named[key]) for key in sorted(named, key=int)]
    return Found(layout, [], labels=read_labels_of(path / DESCRIPTION, content), channels=channels)


def _pairs(path: Path, images: str, labels: str, ending: str | None) -> tuple[list[RawCase], list[str]]:
    files = image_files(path / images, ending)
    if not files:
        raise DataError(
            f"{path / images}: no images in this folder" + (f" end in {ending}" if ending else "")
        )
    truths = image_files(path / labels, ending) if (path / labels).is_dir() else []
    return pair(files, truths)


def _add_listed(found: Found, path: Path, listed: Mapping[str, Any]) -> None:
    for name, entry in sorted(listed.items()):
        if not isinstance(entry, dict) or not _listed(entry.get("images")):
            raise DataError(f'{path / DESCRIPTION}: "dataset" gives no images for {name}')
        _add(found, path, str(name), _listed(entry["images"]), entry.get("label"))


def _add(found: Found, path: Path, name: str, images: list[str], label: str | None) -> None:
    files = tuple(path / image for image in images)
    truth = path / label if label else None
    for file in (*files, *([truth] if truth else [])):
        if not file.is_file():
            found.dropped.append(f"{name}: there is no file {file}, which {DESCRIPTION} names")
            return
    found.cases.append(RawCase(name, files, truth))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
