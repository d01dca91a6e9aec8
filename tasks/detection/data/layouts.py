"""Finds out how a folder is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.errors import DataError
from tasks.detection.data import coco_files, voc_files, yolo_files
from tasks.detection.data.coco_files import CocoPart, find_coco
from tasks.detection.data.notes import Notes
from tasks.detection.data.parts import ORDER
from tasks.detection.data.voc_files import VocPart, find_voc
from tasks.detection.data.yolo_files import YoloSet, find_yolo

T = TypeVar("T")

LOOKED_FOR = {"coco": coco_files.LOOKED_FOR, "voc": voc_files.LOOKED_FOR, "yolo": yolo_files.LOOKED_FOR}


@dataclass(frozen=True)
class Layout:
    """What to read; exactly one is not empty.

    Attributes:
        coco: JSON files by part.
        voc: Folders by part.
        yolo: Images by part, and the names of the classes.
    """

    coco: dict[str, CocoPart]
    voc: dict[str, VocPart]
    yolo: YoloSet | None

    @property
    def fitting(self) -> list[str]:
        """Names of the layouts that are not empty."""
        return [name for name in LOOKED_FOR if getattr(self, name)]


def find_layout(path: Path, layout: str, images: Path | None, notes: Notes) -> Layout:
    """Finds the files of a data set.

    Args:
        path: The folder, a COCO JSON file or a YOLO YAML file.
        layout: auto, coco, voc or yolo.
        images: Folder of the images, where the annotations do not tell.
        notes: Where notes go.

    Raises:
        DataError: There is no such path, or no or more than one layout fits.
    """
    for given in (path, images):
        if given is not None and not given.exists():
            raise DataError(f"{given}: there is no such file or folder")
    wanted = tuple(LOOKED_FOR) if layout == "auto" else (layout,)
    found = Layout(
        _in_order(find_coco(path, images)) if "coco" in wanted else {},
        _in_order(find_voc(path, images)) if "voc" in wanted else {},
        find_yolo(path, images, notes) if "yolo" in wanted else None,
    )
    if not found.fitting:
        looked = "; ".join(LOOKED_FOR[name] for name in wanted)
        raise DataError(f"{path}: holds no data set that is known; looked for {looked}")
    if len(found.fitting) > 1:
        fitting = " and ".join(found.fitting)
        raise DataError(f"{path}: could be read as {fitting}; say which one with --data.layout")
    return found


def _in_order(parts: dict[str, T]) -> dict[str, T]:
    return {name: parts[name] for name in ORDER if name in parts}
