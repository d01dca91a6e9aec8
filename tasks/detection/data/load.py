"""Reads the images and boxes that a configuration names: finds, checks, and splits them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.data.split import check_share, hold_out, name_hash
from core.errors import ConfigError, DataError
from core.files import MadeFolder
from core.registry import nearest
from tasks.detection.config import DataConfig
from tasks.detection.data.checks import SHOWN, content_hashes, describe, drop_leaks
from tasks.detection.data.dataset import DetectionData, ImageSet
from tasks.detection.data.read import Found, read_parts
from tasks.detection.data.select import relabel, subset
from tasks.detection.data.synthetic import write_overlays

SINGLE = "object"
"""The one class of ``single_class``."""


def load_data(config: DataConfig) -> DetectionData:
    """Reads, checks and splits the images and boxes that a configuration names.

    What cannot be used is left out with a note, and the rest goes on. Pixels are not kept.

    Args:
        config: Paths and options. Without ``path`` nothing is there to learn from, and ``test_path`` is scored alone.

    Raises:
        ConfigError: Options are wrong or contradict each other.
        DataError: There are no images, or no objects to learn from or to test on.
    """
    check_options(config)
    if config.name == "folder" or (config.name == "auto" and (config.path or config.test_path)):
        path = config.path or config.test_path
        if not path:
            raise ConfigError("--data.name folder needs --data.path FOLDER")
        return _load(config, Path(path).resolve().stem)
    if config.path or config.test_path:
        raise ConfigError(f"--data.name {config.name} takes no path; leave --data.name or the path out")
    folder = MadeFolder()
    write_overlays(folder.path / "overlays")
    data = _load(replace(config, path=str(folder.path / "overlays"), layout="coco"), "overlays")
    data.folder = folder
    return data


def check_options(config: DataConfig) -> None:
    """Raises ``ConfigError`` for an option that no data set can be read with."""
    check_share(config.test_share)
    if not 0 <= config.validation_share < 1:
        raise ConfigError(f"--data.validation_share {config.validation_share} must lie from 0 to below 1")
    if not 0 < config.train_share <= 1:
        raise ConfigError(f"--data.train_share {config.train_share} must lie above 0 and up to 1")
    if config.memory < 0:
        raise ConfigError(f"--data.memory {config.memory} must be 0 or more")
    if config.classes is not None and not config.classes:
        raise ConfigError("--data.classes is empty; name classes, or leave it out for all")


def read_found(config: DataConfig) -> Found:
    """Reads ``path`` with all its parts, and keeps the classes that were asked for.

    Raises:
        ConfigError: A class is not in the data.
        DataError: The data cannot be used.
    """
    assert config.path is not None
    images = Path(config.images) if config.images else None
    found = read_parts(Path(config.path), config.layout, images, config.voc_one_based)
    return _choose(found, config, config.path)


def _load(config: DataConfig, name: str) -> DetectionData:
    main = read_found(config) if config.path else None
    other = _read_test(config, main) if config.test_path else None
    known = main or other
    assert known is not None, "one of the two paths"
    notes = [*(main.notes if main else []), *(other.notes if other else [])]
    classes, ids = list(known.classes), list(known.category_ids)
    none: list[int] = []
    if main is None:
        assert other is not None
        test = _test_part(other)
        train = validation = subset(test, none)
    else:
        parts = _divide(main, config, notes, tested=other is not None)
        train, validation = parts["train"], parts["val"]
        test = parts["test"] if other is None else _mapped(other, classes, ids, notes)
        train, validation, leaks = drop_leaks(train, validation, test, config.group)
        notes += leaks
        if not len(train):
            raise DataError(
                f"{config.path}: every training image is held out too; give other images to test on"
            )
        if config.validation_share and not len(validation):
            train, validation = _hold_validation(train, config, notes)
        if config.train_share < 1:
            train = _share(train, config.train_share, classes, notes)
        if not (~train.crowd).any():
            raise DataError(
                f"{config.path}: no training image has an object that is not crowd or difficult; "
                "check the annotations" + _of(config)
            )
        notes += describe(train, classes, "training")
    if not (~test.crowd).any():
        raise DataError(
            f"{config.test_path or config.path}: no test image has an object that is not crowd or difficult; "
            "check them" + _of(config)
        )
    notes += describe(test, classes, "test")
    digest = _digest(train, validation, test, classes)
    return DetectionData(name, classes, ids, train, validation, test, digest, notes)


def _of(config: DataConfig) -> str:
    return f" or --data.classes {config.classes}" if config.classes else ""


def _read_test(config: DataConfig, main: Found | None) -> Found:
    """Reads ``test_path``; a folder of images for both paths serves a JSON file, which has none of its own."""
    path = Path(config.test_path or "")
    images = Path(config.images) if config.images and (main is None or path.is_file()) else None
    found = read_parts(path, config.layout, images, config.voc_one_based)
    # A class of the model need not be in every test set.
    wanted = None if config.classes is None else [name for name in config.classes if name in found.classes]
    if wanted is not None and not wanted:
        raise ConfigError(
            f"--data.classes {config.classes}: none of them is in {path}, which has {', '.join(found.classes)}"
        )
    return _choose(found, replace(config, classes=wanted), str(path))


def _choose(found: Found, config: DataConfig, where: str) -> Found:
    """Keeps the classes that were asked for, and takes them for one where that was asked for."""
    classes, ids = found.classes, found.category_ids
    if config.classes is None and not config.single_class:
        return found
    wanted = list(dict.fromkeys(config.classes or classes))
    for name in wanted:
        if name not in classes:
            raise ConfigError(
                f"--data.classes: {where} has no class {name!r}.{nearest(name, classes)} "
                f"It has {', '.join(classes)}"
            )
    labels = np.full(len(classes), -1, np.int64)
    labels[[classes.index(name) for name in wanted]] = 0 if config.single_class else np.arange(len(wanted))
    ids = [1] if config.single_class else [ids[classes.index(name)] for name in wanted]
    parts = {name: relabel(part, labels) for name, part in found.parts.items()}
    return replace(found, parts=parts, classes=[SINGLE] if config.single_class else wanted, category_ids=ids)


def _test_part(found: Found) -> ImageSet:
    """Returns what of a folder is tested on: the first of its parts in this order."""
    return next(found.parts[name] for name in ("test", "val", "all", "train") if name in found.parts)


def _mapped(other: Found, classes: list[str], ids: list[int], notes: list[str]) -> ImageSet:
    """Returns the test images with the labels of the training's classes; classes that only they have come behind."""
    test = _test_part(other)
    used = set(np.unique(test.labels).tolist())
    labels = np.full(len(other.classes), -1, np.int64)
    new = []
    for i, (name, number) in enumerate(zip(other.classes, other.category_ids, strict=True)):
        if name not in classes:
            if i not in used:
                continue
            classes.append(name)
            ids.append(number if number not in ids else max(ids) + 1)
            new.append(name)
        labels[i] = classes.index(name)
    if new:
        notes.append(f"classes of the test images alone, of which nothing can be learned: {', '.join(new)}")
    return relabel(test, labels)


def _divide(found: Found, config: DataConfig, notes: list[str], tested: bool) -> dict[str, ImageSet]:
    """Returns the parts train, val and test of a folder.

    Args:
        found: The folder.
        config: Shares and groups.
        notes: Lines are added to it.
        tested: Whether there are other images to test on; then ``test`` stays empty.
    """
    parts = dict(found.parts)
    whole = parts.pop("all", None)
    train = parts.pop("train", whole)
    if train is None:
        have = " and ".join(parts)
        raise DataError(
            f"{config.path}: has a part {have} and none to learn from; test on it with --data.test_path, or add train"
        )
    for name in list(parts):
        # Small sets to try a program with name one folder as training and validation part.
        if len(parts[name]) and set(parts[name].names) <= set(train.names):
            notes.append(f"the part {name} has the training images again; it is left out")
            del parts[name]
    nothing = subset(train, np.zeros(0, np.int64))
    if tested:
        if "test" in parts:
            notes.append("the test part is not used, because --data.test_path is given")
        return {"train": train, "val": parts.get("val", nothing), "test": nothing}
    if "test" in parts:
        return {"train": train, "val": parts.get("val", nothing), "test": parts["test"]}
    if "val" in parts:
        notes.append("there is no test part: the validation part is tested on")
        return {"train": train, "val": nothing, "test": parts["val"]}
    split = hold_out(train.names.tolist(), config.test_share, config.group, "--data.group")
    notes.append(split.note)
    return {"train": subset(train, split.train), "val": nothing, "test": subset(train, split.test)}


def _hold_validation(train: ImageSet, config: DataConfig, notes: list[str]) -> tuple[ImageSet, ImageSet]:
    try:
        split = hold_out(train.names.tolist(), config.validation_share, config.group, "--data.group")
    except DataError:
        raise ConfigError(
            f"--data.validation_share {config.validation_share} needs two training images or scenes; set it to 0"
        ) from None
    notes.append(
        f"validation: {len(split.test)} of the {len(train)} training images are looked at while learning"
    )
    return subset(train, split.train), subset(train, split.test)


def _share(train: ImageSet, share: float, classes: Sequence[str], notes: list[str]) -> ImageSet:
    """Keeps a share of the images, always the same ones; those of a smaller share are among them."""
    order = sorted(range(len(train)), key=[name_hash(str(name)) for name in train.names].__getitem__)
    count = max(1, round(share * len(train)))
    notes.append(f"--data.train_share {share:g}: {count} of {len(train)} training images are used")
    kept = subset(train, sorted(order[:count]))
    lost = np.setdiff1d(train.labels[~train.crowd], kept.labels[~kept.crowd])
    if len(lost):
        named = ", ".join(classes[i] for i in lost[:SHOWN])
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        notes.append(f"--data.train_share {share:g} leaves no training object of {named}{more}; raise it")
    return kept


def _digest(train: ImageSet, validation: ImageSet, test: ImageSet, classes: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(list(classes)).encode(errors="surrogateescape"))
    for part in (train, validation, test):
        digest.update(repr(part.names.tolist()).encode(errors="surrogateescape"))
        arrays = [part.start, part.boxes, part.labels, part.crowd, part.area]
        if part.polygons is not None:
            arrays += [part.polygons.points, part.polygons.rings, part.polygons.objects]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    for content in content_hashes([test.path(i) for i in range(len(test))]):
        digest.update(content)
    return digest.hexdigest()
