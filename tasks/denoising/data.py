"""Images for denoising: read, checked, and split into training and test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.data.images.files import ENDINGS, read_picture
from core.data.images.folder import (
    PAIR_FOLDERS,
    Loaded,
    content_digest,
    drop_leaks,
    list_pictures,
    load_pairs,
    load_pictures,
    set_name,
)
from core.data.images.resize import imresize
from core.data.split import hold_out
from core.errors import ConfigError, DataError
from tasks.denoising.config import DataConfig
from tasks.denoising.noise import conditions

# Of scikit-image's photographs, those without text and diagrams. The last of each list are held out.
COLOUR = ("astronaut", "coffee", "hubble_deep_field", "motorcycle_left", "ihc", "retina", "chelsea", "rocket")
GRAY = ("brick", "grass", "gravel", "moon", "camera", "coins")
HELD_OUT = ("camera", "chelsea", "coins", "rocket")
SAMPLED = 9
"""Files of a folder that are looked at to find out whether it is gray or colour."""


@dataclass
class ImageSet:
    """Images of one folder.

    Attributes:
        clean: What restored images are compared with.
        noisy: Real noisy versions; ``None`` where the degradation is made by us.
    """

    clean: Loaded
    noisy: Loaded | None = None


@dataclass
class DenoisingData:
    """A :class:`core.task.Dataset` of images.

    Attributes:
        name: Short name.
        channels: 1 or 3.
        train: Images to learn from; ``None`` where only tests were asked for.
        tests: Test sets by name.
        notes: What the loader dropped, converted or assumed.
        degraded: What is done to the test images.
    """

    name: str
    channels: int
    train: ImageSet | None
    tests: dict[str, ImageSet]
    notes: list[str] = field(default_factory=list)
    degraded: str = ""

    @property
    def size(self) -> int:
        """Number of images."""
        return sum(len(part.clean.names) for part in self._sets())

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all images, training and test apart, and of what is done to them."""
        return self._digest

    def __post_init__(self) -> None:
        # The same images with other noise are another test.
        arrays = [np.frombuffer(self.degraded.encode(), np.uint8)]
        for part in self._sets():
            for images in (part.clean, part.noisy):
                count = len(images.images) if images else 0
                arrays += [np.array([count]), *(images.images if images else [])]
        self._digest = content_digest(arrays)

    def _sets(self) -> list[ImageSet]:
        return [*([self.train] if self.train else []), *self.tests.values()]


def load_data(config: DataConfig) -> DenoisingData:
    """Reads the images that a configuration names.

    Raises:
        DataError: There are none, or they cannot be used.
        ConfigError: Options contradict each other.
    """
    if config.name == "photographs" and (config.path or config.test_path):
        raise ConfigError("--data.name photographs takes no path; leave one of them out")
    if config.name == "photographs" or (config.name == "auto" and not config.path and not config.test_path):
        return _photographs(config)
    paths = [Path(p) for p in ([config.path] if config.path else []) + (config.test_path or [])]
    if not paths:
        raise ConfigError(f"--data.name {config.name} needs --data.path FOLDER")
    paired = config.name == "pairs" or (config.name == "auto" and _holds_pairs(paths[0]))
    channels = config.channels or _channels_of(paths[0])
    read = _read_pairs if paired else _read_folder
    notes: list[str] = []
    tests = {}
    for path in map(Path, config.test_path or []):
        name = set_name(path)
        # Two folders of one name are told apart by where they are.
        tests[f"{path.resolve().parent.name}_{name}" if name in tests else name] = read(path, channels, 1)
    train = None
    if config.path:
        path = Path(config.path)
        train = read(path, channels, 1 if not tests else config.patch)
        if not tests:
            train, held_out = _split(train, config)
            tests = {"test": held_out}
        for test in tests.values():
            _drop_leaks(train, test)
        train = _resized(train, config)
    for part in [*([train] if train else []), *tests.values()]:
        notes += part.clean.notes
    name = set_name(paths[0])
    real = all(part.noisy for part in tests.values())
    return DenoisingData(name, channels, train, tests, notes, "" if real else _degraded(config))


def _photographs(config: DataConfig) -> DenoisingData:
    """Photographs of scikit-image's wheel; colour ones as gray too unless three channels are asked for."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    channels = config.channels or 1
    names = COLOUR if channels == 3 else COLOUR + GRAY
    parts = []
    for chosen in ([n for n in names if n not in HELD_OUT], [n for n in names if n in HELD_OUT]):
        paths = [next(p for p in sorted(folder.glob(f"{name}.*")) if p.suffix != ".py") for name in chosen]
        parts.append(ImageSet(load_pictures(paths, channels)))
    train, test = parts
    notes = [f"{len(train.clean.names)} photographs to learn from, {', '.join(test.clean.names)} to test on"]
    train = _resized(train, config)
    return DenoisingData("photographs", channels, train, {"photographs": test}, notes, _degraded(config))


def _degraded(config: DataConfig) -> str:
    named = [condition.name for condition in conditions(config)]
    photons = config.photons if "poisson_gaussian" in config.kinds else None
    return repr((named, photons, config.test_seed))


def _holds_pairs(path: Path) -> bool:
    if not path.is_dir():
        return False
    if _clean_folder(path):
        return True
    # Only images count: systems leave files such as Thumbs.db in folders.
    stems = [p.stem for p in path.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith(".")]
    return bool(stems) and all(re.search(r"_(real|mean|noisy|clean)$", stem) for stem in stems)


def _clean_folder(path: Path) -> Path | None:
    """The subfolder of the clean images in a folder of pairs."""
    folders = {item.name.lower(): item for item in path.iterdir() if item.is_dir()} if path.is_dir() else {}
    return next((folders[high] for low, high in PAIR_FOLDERS if low in folders and high in folders), None)


def _channels_of(path: Path) -> int:
    """1 or 3, as most of the first images of a folder; what cannot be read is told when all are read."""
    found = []
    for item in list_pictures(_clean_folder(path) or path)[:SAMPLED]:
        try:
            found.append(read_picture(item).pixels.shape[2])
        except DataError:
            continue
    return 1 if 2 * found.count(1) > len(found) else 3


def _read_folder(path: Path, channels: int, min_size: int) -> ImageSet:
    return ImageSet(load_pictures(path, channels, min_size=min_size, progress=True))


def _read_pairs(path: Path, channels: int, min_size: int) -> ImageSet:
    noisy, clean = load_pairs(path, channels, min_size=min_size)
    clean.notes = noisy.notes
    return ImageSet(clean, noisy)


def _split(images: ImageSet, config: DataConfig) -> tuple[ImageSet, ImageSet]:
    """Holds out a share of the scenes; without a pattern each image is its own scene."""
    split = hold_out(images.clean.names, config.test_share, config.scene, "--data.scene")
    parts = []
    for keep, notes in ((split.train, [*images.clean.notes, split.note]), (split.test, [])):
        noisy = images.noisy.select(keep) if images.noisy else None
        parts.append(ImageSet(images.clean.select(keep, notes), noisy))
    return parts[0], parts[1]


def _drop_leaks(train: ImageSet, test: ImageSet) -> None:
    kept = drop_leaks(train.clean, test.clean)
    if train.noisy is not None:
        train.noisy = train.noisy.select(kept)


def _resized(images: ImageSet, config: DataConfig) -> ImageSet:
    """Adds smaller versions of the training images (section IV-A of the DnCNN paper's code)."""
    if config.resize == [1.0]:
        return images
    if images.noisy is not None:
        raise ConfigError("--data.resize would change real noise; leave it out for pairs")
    names: list[str] = []
    result: list[np.ndarray] = []
    for name, image in zip(images.clean.names, images.clean.images, strict=True):
        for scale in config.resize:
            smaller = image if scale == 1 else imresize(image, scale)
            if min(smaller.shape[:2]) >= config.patch:
                names.append(name if scale == 1 else f"{name} x{scale:g}")
                result.append(smaller)
    return ImageSet(Loaded(names, result, images.clean.notes))
