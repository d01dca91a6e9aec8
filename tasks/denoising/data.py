"""Images for denoising: read, checked, and split into training and test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.data.cache import Store
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
    set_names,
)
from core.data.images.patches import large_enough
from core.data.images.resize import imresize
from core.data.split import check_no_split, hold_out
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
        colour: The RGB images ``(H, W, 3)`` of gray test images by name, where a condition needs them.
    """

    clean: Loaded
    noisy: Loaded | None = None
    colour: dict[str, np.ndarray] = field(default_factory=dict)


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
        """Hex SHA-256 of all images as read, training and test apart, and of what is done to the test images."""
        return self._digest

    def __post_init__(self) -> None:
        # The same images with other noise are another test.
        arrays = [np.frombuffer(self.degraded.encode(), np.uint8)]
        for part in self._sets():
            for images in (part.clean, part.noisy):
                count = len(images.images) if images else 0
                arrays += [np.array([count]), *(images.images if images else [])]
            arrays += part.colour.values()
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
        check_no_split(config.test_share, config.scene, DataConfig.test_share)
        return _photographs(config)
    paths = [Path(p) for p in ([config.path] if config.path else []) + (config.test_path or [])]
    if not paths:
        raise ConfigError(f"--data.name {config.name} needs --data.path FOLDER")
    paired = config.name == "pairs" or (config.name == "auto" and _holds_pairs(paths[0]))
    channels = config.channels or _channels_of(paths[0])
    read, store = _read_pairs if paired else _read_folder, Store(config.memory)
    folders = [Path(path) for path in config.test_path or []]
    tests = {
        name: read(path, channels, store) for name, path in zip(set_names(folders), folders, strict=True)
    }
    train = None
    if config.path:
        train = read(Path(config.path), channels, store)
        if not tests:
            train, tests["test"] = _split(train, config)
            folders = [Path(config.path)]
        for test in tests.values():
            _drop_leaks(train, test)
    for test, path in zip(tests.values(), folders, strict=True):
        _keep_colour(test, path, config)
    real = all(part.noisy for part in tests.values())
    degraded = "" if real else _degraded(config)
    data = DenoisingData(set_name(paths[0]), channels, train, tests, degraded=degraded)
    # Only now: how patches are cut is no part of the data, and of its digest.
    if train is not None:
        data.train = _for_patches(train, config)
    for part in [*([data.train] if data.train else []), *tests.values()]:
        data.notes += part.clean.notes
    data.notes += store.notes()
    return data


def _photographs(config: DataConfig) -> DenoisingData:
    """Photographs of scikit-image's wheel; colour ones as gray too unless three channels are asked for."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    channels = config.channels or 1
    names = COLOUR if channels == 3 else COLOUR + GRAY
    parts, store = [], Store(config.memory)
    for chosen in ([n for n in names if n not in HELD_OUT], [n for n in names if n in HELD_OUT]):
        paths = [next(p for p in sorted(folder.glob(f"{name}.*")) if p.suffix != ".py") for name in chosen]
        parts.append(ImageSet(load_pictures(paths, channels, store=store)))
    train, test = parts
    _keep_colour(test, folder, config)
    notes = [f"{len(train.clean.names)} photographs to learn from, {', '.join(test.clean.names)} to test on"]
    data = DenoisingData("photographs", channels, train, {"photographs": test}, notes, _degraded(config))
    data.train = _for_patches(train, config)
    data.notes += [*data.train.clean.notes[len(train.clean.notes) :], *store.notes()]
    return data


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
    """As most of the first images of a folder; what cannot be read is told when all are read."""
    found = []
    for item in list_pictures(_clean_folder(path) or path)[:SAMPLED]:
        try:
            found.append(read_picture(item).pixels.shape[2])
        except DataError:
            continue
    return max(found, key=lambda channels: (found.count(channels), channels), default=3)


def _read_folder(path: Path, channels: int, store: Store) -> ImageSet:
    return ImageSet(load_pictures(path, channels, progress=True, store=store))


def _read_pairs(path: Path, channels: int, store: Store) -> ImageSet:
    noisy, clean = load_pairs(path, channels, store=store)
    clean.notes = noisy.notes
    return ImageSet(clean, noisy)


def _keep_colour(test: ImageSet, path: Path, config: DataConfig) -> None:
    """Keeps the RGB images of gray test images for the conditions that take their luma."""
    luma = any(condition.takes_luma for condition in conditions(config))
    if not luma or test.noisy is not None or test.clean.images[0].shape[2] != 1:
        return
    for name in test.clean.names:
        pixels = read_picture(path / name if path.is_dir() else path).pixels
        if pixels.shape[2] == 3:
            test.colour[name] = test.clean.store.keep(pixels)


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


def _for_patches(images: ImageSet, config: DataConfig) -> ImageSet:
    """Leaves out training images below a patch, and adds smaller versions (as the code of the DnCNN paper)."""
    clean = images.clean
    keep, notes = large_enough(clean.names, clean.images, config.patch)
    noisy = images.noisy.select(keep) if images.noisy else None
    images = ImageSet(clean.select(keep, [*clean.notes, *notes]), noisy)
    if config.resize == [1.0]:
        return images
    if images.noisy is not None:
        raise ConfigError("--data.resize would change real noise; leave it out for pairs")
    names: list[str] = []
    result: list[np.ndarray] = []
    for name, image in zip(images.clean.names, images.clean.images, strict=True):
        for scale in config.resize:
            smaller = image if scale == 1 else imresize(image, scale)
            if scale == 1 or min(smaller.shape[:2]) >= config.patch:
                names.append(name if scale == 1 else f"{name} x{scale:g}")
                result.append(image if scale == 1 else clean.store.keep(smaller))
    if not result:
        raise DataError(
            f"--data.resize {config.resize} leaves no training image as large as a patch of {config.patch}; "
            "lower --data.patch"
        )
    return ImageSet(Loaded(names, result, images.clean.notes, clean.store))
