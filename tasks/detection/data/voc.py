"""Pascal VOC: one XML file for an image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from tasks.detection.data.annotations import AnnotationBuilder
from tasks.detection.data.notes import Notes, number
from tasks.detection.data.parts import Filled, files_below, images_below
from tasks.detection.data.voc_files import VocHome, VocPart

SIDES = ("xmin", "ymin", "xmax", "ymax")


class Page:
    """The content of one XML file.

    Args:
        path: The file.

    Raises:
        expat.ExpatError: It is no XML.
        ValueError: It declares entities, which annotations have no need of.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[int] = []
        self._parser = expat.ParserCreate()
        self._tree = ElementTree.TreeBuilder()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._tree.end
        self._parser.CharacterDataHandler = self._tree.data
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.Parse(path.read_bytes(), True)
        self.root = self._tree.close()

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "object":
            self._lines.append(self._parser.CurrentLineNumber)
        self._tree.start(tag, attributes)

    def _refuse(self, *declaration: Any) -> None:
        raise ValueError("declares a document type")

    @property
    def filename(self) -> str:
        """Name of the image; empty where the file does not tell."""
        return (self.root.findtext("filename") or "").strip().replace("\\", "/")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the image; ``None`` where the file does not tell."""
        sides = [number(self.root.findtext(f"size/{side}")) for side in ("width", "height")]
        return (int(sides[0]), int(sides[1])) if all(0 < side < 2**31 for side in sides) else None

    def objects(self) -> Iterator[tuple[ElementTree.Element, int]]:
        """Walks through the objects, each with the line that it begins in."""
        return zip(self.root.iter("object"), self._lines, strict=True)


class _Images:
    """Images of a folder by what XML files and lists call them."""

    def __init__(self, folder: Path) -> None:
        self.files = images_below(folder)
        self._by_path = _grouped(self.files, folder)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for file in self.files:
            self._by_name[file.stem].append(file)

    def find(self, key: str, filename: str) -> list[Path]:
        """Returns the image; none or several where there is none or it is not clear which one.

        Args:
            key: Its path below the folder, without the ending.
            filename: What the XML file says.
        """
        last = key.rsplit("/", 1)[-1]
        said = Path(filename).stem
        found = self._by_path.get(key) or self._by_name.get(last) or self._by_name.get(said) or []
        if len(found) > 1:
            return [file for file in found if file.name == Path(filename).name] or found
        return found


def _grouped(files: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        found[file.relative_to(folder).with_suffix("").as_posix()].append(file)
    return found


def read_voc(parts: Mapping[str, VocPart], one_based: bool, notes: Notes) -> Filled:
    """Reads XML files; classes are sorted by name.

    Args:
        parts: Where they are.
        one_based: Pixels count from 1, both ends included.
        notes: Where notes go.
    """
    met: dict[str, int] = {}
    builders = {name: AnnotationBuilder("line", notes) for name in parts}
    for name, part in parts.items():
        for home in part.homes:
            for page, file in _pairs(home, notes):
                _fill(builders[name], page, file, met, 1.0 if one_based else 0.0)
    classes = sorted(met)
    position = {class_name: k for k, class_name in enumerate(classes)}
    for builder in builders.values():
        builder.relabel([position[class_name] for class_name in met])
    return Filled(builders, classes, list(range(1, len(classes) + 1)))


def _pairs(home: VocHome, notes: Notes) -> Iterator[tuple[Page | None, Path]]:
    """Yields the images of a folder with their XML files."""
    images = _Images(home.images)
    pages = _grouped(files_below(home.annotations, (".xml",)), home.annotations)
    taken: set[Path] = set()
    for key in sorted(pages) if home.names is None else _listed(home.names, pages, images):
        page = _page(pages[key][0], notes) if key in pages else None
        where = str(pages[key][0] if key in pages else f"{home.listed_in}, {key}")
        found = images.find(key, page.filename if page is not None else "")
        if key in pages and page is None:
            # Otherwise an image whose objects cannot be read would be taken for one without.
            taken.update(found)
        elif len(found) != 1:
            notes.add("image", "in more than one file, dropped" if found else "not found, dropped", where)
            taken.update(found)
        elif found[0] in taken:
            notes.add("image", "listed twice, taken once", where)
        else:
            taken.add(found[0])
            if page is None:
                notes.add("image", "with no annotation file, taken as without objects", str(found[0]))
            yield page, found[0]
    if home.names is None:
        for file in images.files:
            if file not in taken:
                notes.add("image", "with no annotation file, taken as without objects", str(file))
                yield None, file


def _listed(names: Iterable[str], pages: Mapping[str, Any], images: _Images) -> Iterator[str]:
    for name in names:
        # Lists of one class end in 1, 0 or -1; a name may end so too.
        known = name in pages or images.find(name, "")
        yield name if known else re.sub(r"(\s+-?[01]|\.\w+)$", "", name)


def _page(path: Path, notes: Notes) -> Page | None:
    try:
        return Page(path)
    except (expat.ExpatError, ValueError) as error:
        reason = str(error) or type(error).__name__
        notes.add("image", "dropped, since the XML file is damaged", f"{path}, {reason}")
        return None


def _fill(
    builder: AnnotationBuilder, page: Page | None, file: Path, met: dict[str, int], first: float
) -> None:
    image = builder.image(
        file, str(page.path if page is not None else file), None, page.size if page else None
    )
    for item, line in page.objects() if page is not None else ():
        name = (item.findtext("name") or "").strip()
        if not name:
            builder.notes.add("object", "without a name, dropped", builder.where(image, line))
            continue
        values = [number(item.findtext(f"bndbox/{side}")) for side in SIDES]
        box = (values[0] - first, values[1] - first, values[2], values[3])
        crowd = (item.findtext("difficult") or "").strip() == "1"
        builder.add(image, met.setdefault(name, len(met)), box, line, crowd)
