"""COCO: one JSON file for the images and objects of a part (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from core.errors import DataError
from core.files import load_json
from tasks.detection.data.annotations import AnnotationBuilder
from tasks.detection.data.coco_files import CocoPart, ImageFinder
from tasks.detection.data.notes import Notes, number
from tasks.detection.data.outlines import decode_mask, mask_rings, ring
from tasks.detection.data.parts import Filled

LARGEST_ID = 2**63 - 1


def read_coco(parts: Mapping[str, CocoPart], notes: Notes) -> Filled:
    """Reads JSON files; classes are joined by name, in the order of the first file.

    Raises:
        DataError: A file is no JSON or no COCO, or its categories are not clear.
    """
    ids: dict[str, int] = {}
    builders: dict[str, AnnotationBuilder] = {}
    parents: set[str] = set()
    for name, part in parts.items():
        content = _load(part.file)
        own = _categories(part.file, content["categories"])
        parents |= {str(item.get("supercategory")) for item in content["categories"]}
        for category, class_name in own.items():
            if class_name not in ids:
                taken = set(ids.values())
                ids[class_name] = category if category not in taken else max(taken) + 1
        position = {class_name: k for k, class_name in enumerate(ids)}
        labels = {category: position[class_name] for category, class_name in own.items()}
        builders[name] = _fill(part, content, labels, notes)
    return _without_parents(Filled(builders, list(ids), list(ids.values())), parents, notes)


def _without_parents(filled: Filled, parents: set[str], notes: Notes) -> Filled:
    """Drops categories without objects that only name the group of others, as Roboflow writes them."""
    used: set[int] = set().union(*(builder.used() for builder in filled.builders.values()))
    keep = [k for k, name in enumerate(filled.classes) if k in used or name not in parents]
    if len(keep) == len(filled.classes) or not keep:
        return filled
    for k in sorted(set(range(len(filled.classes))) - set(keep)):
        notes.add("category", "without objects that only groups others, dropped", filled.classes[k])
    labels = [keep.index(k) if k in keep else -1 for k in range(len(filled.classes))]
    for builder in filled.builders.values():
        builder.relabel(labels)
    return Filled(filled.builders, [filled.classes[k] for k in keep], [filled.category_ids[k] for k in keep])


def _load(file: Path) -> dict[str, Any]:
    try:
        content = load_json(file.read_bytes())
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise DataError(f"{file}: is no JSON ({error.msg}, {place}); export it again") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no JSON ({type(error).__name__}); export it again") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: holds a {type(content).__name__}, not COCO's object of images and categories"
        )
    for key in ("images", "categories", "annotations"):
        value = content.setdefault(key, []) if key == "annotations" else content.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise DataError(f"{file}: {key} must be a list of objects, as COCO has it; export it again")
    return content


def _categories(file: Path, categories: list[dict[str, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for k, item in enumerate(categories):
        identifier, name = item.get("id"), item.get("name")
        if not _is_id(identifier) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{file}: category {k} needs a whole number id and a name, got {str(item)[:80]}")
        if identifier in found:
            both = f"{found[identifier]} and {name}"
            raise DataError(f"{file}: categories {both} have the same id {identifier}; number them anew")
        if name in found.values():
            raise DataError(f"{file}: two categories are named {name}; rename or join them")
        found[identifier] = name
    if not found:
        raise DataError(f"{file}: the list of categories is empty; name the classes there")
    return found


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_ID


def _fill(part: CocoPart, content: dict[str, Any], labels: dict[int, int], notes: Notes) -> AnnotationBuilder:
    builder = AnnotationBuilder("annotation", notes)
    places = _fill_images(builder, part, content["images"], notes)
    seen: set[int] = set()
    for k, item in enumerate(content["annotations"]):
        row = item["id"] if _is_id(item.get("id")) else k
        where = f"{part.file} annotation {row}"
        if row in seen:
            notes.add("annotation", "with an id that another one has, kept", where)
        seen.add(row)
        image = item.get("image_id")
        if not isinstance(image, int | str) or image not in places:
            notes.add("annotation", "of an image that is not in the list, dropped", where)
            continue
        category = item.get("category_id")
        if not _is_id(category) or category not in labels:
            what = "of a category that is not in the list, dropped"
            notes.add("annotation", what, f"{where}, category {category}")
            continue
        place = places[image]
        if place is not None:
            _fill_object(builder, place, labels[category], item, row)
    return builder


def _fill_images(
    builder: AnnotationBuilder, part: CocoPart, images: list[dict[str, Any]], notes: Notes
) -> dict[int | str, int | None]:
    """Returns the position of each image id in the builder; ``None`` for an image that was dropped."""
    files = ImageFinder(part.folders)
    places: dict[int | str, int | None] = {}
    by_file: dict[Path, int] = {}
    for k, item in enumerate(images):
        key, name = item.get("id"), item.get("file_name")
        where = f"{part.file} image {k}"
        if not isinstance(key, int | str) or not isinstance(name, str) or not name:
            notes.add("image", "without id or file_name, dropped", where)
            continue
        if key in places:
            notes.add("image", "with an id that another one has, dropped", f"{where}, {name}, id {key}")
            continue
        found = files.find(name)
        places[key] = None
        if len(found) != 1:
            what = "in more than one folder, dropped" if found else "not found, dropped"
            notes.add("image", what, f"{where}, {name}")
        elif found[0] in by_file:
            notes.add("image", "listed twice, objects joined", f"{where}, {name}")
            places[key] = by_file[found[0]]
        else:
            width, height = item.get("width"), item.get("height")
            declared = (width, height) if _is_id(width) and _is_id(height) else None
            identifier = key if _is_id(key) else None
            places[key] = by_file[found[0]] = builder.image(found[0], str(part.file), identifier, declared)
    return places


def _fill_object(builder: AnnotationBuilder, image: int, label: int, item: dict[str, Any], row: int) -> None:
    rings = _rings(builder, image, item.get("segmentation"), row)
    values = item.get("bbox")
    if isinstance(values, list) and len(values) == 4:
        left, top, width, height = map(number, values)
        box = (left, top, left + width, top + height)
    elif rings and not values:
        points = np.concatenate(rings).astype(np.float64)
        box = tuple(np.concatenate([points.min(0), points.max(0)]).tolist())
    else:
        builder.notes.add("box", "without four numbers, dropped", builder.where(image, row))
        return
    crowd = item.get("iscrowd") in (1, True)
    builder.add(image, label, box, row, crowd, number(item.get("area")), rings)


def _rings(builder: AnnotationBuilder, image: int, segmentation: object, row: int) -> list[np.ndarray]:
    if not segmentation:
        return []
    rings: list[np.ndarray | None] = [None]
    if isinstance(segmentation, list):
        # Some tools write the one polygon without the list around it.
        nested = segmentation if isinstance(segmentation[0], list) else [segmentation]
        rings = [ring(item) if isinstance(item, list) else None for item in nested]
    elif isinstance(segmentation, dict):
        mask = decode_mask(segmentation, builder.images[image].declared)
        rings = [None] if mask is None else list(mask_rings(mask))
    good = [item for item in rings if item is not None]
    if len(good) < len(rings):
        what = "without three points or with a damaged mask, dropped"
        builder.notes.add("outline", what, builder.where(image, row))
    return good
