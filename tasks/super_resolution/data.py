"""Images for super-resolution: read, checked, split into training and test, and made small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.data.cache import Store
from core.data.images.degrade import jpeg
from core.data.images.files import from_float, read_picture, to_float
from core.data.images.folder import (
    Loaded,
    content_digest,
    drop_leaks,
    load_pairs,
    load_pictures,
    set_name,
    set_names,
)
from core.data.images.patches import Patches, check_patches, large_enough
from core.data.images.resize import imresize, modcrop
from core.data.split import check_no_split, check_share, hold_out
from core.errors import ConfigError, DataError
from tasks.super_resolution.config import DataConfig
from tasks.super_resolution.models.rcan import STEPS

# Of scikit-image's colour photographs, those without text and diagrams.
PHOTOGRAPHS = ("astronaut", "coffee", "hubble_deep_field", "motorcycle_left", "ihc", "retina")
HELD_OUT = ("chelsea", "rocket")


@dataclass
class ImageSet:
    """Images of one folder.

    Attributes:
        high: Large images, the truth.
        low: Their small versions; ``None`` where these are made by us.
        folder: Where the large images lie, for a folder.
    """

    high: Loaded
    low: Loaded | None = None
    folder: Path | None = None

    def pair(self, index: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns small and large version of an image, ``(h, w, C)`` and ``(scale h, scale w, C)``."""
        if self.low is not None:
            return self.low.images[index], self.high.images[index]
        high = modcrop(self.high.images[index], scale)
        return imresize(high, 1 / scale), high


@dataclass
class SuperResolutionData:
    """A :class:`core.task.Dataset` of images.

    Attributes:
        name: Short name.
        channels: 1 or 3.
        train: Images to learn from; ``None`` where only tests were asked for.
        tests: Test sets by name.
        scales: Enlargements.
        quality: JPEG quality of the small test images; ``None`` for none.
        notes: What the loader dropped, converted or assumed.
    """

    name: str
    channels: int
    train: ImageSet | None
    tests: dict[str, ImageSet]
    scales: tuple[int, ...]
    quality: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of images."""
        return sum(len(part.high.names) for part in self._sets())

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all images, training and test apart, and of what is made of them."""
        return self._digest

    def __post_init__(self) -> None:
        # The same images at another scale are another test.
        arrays: list[np.ndarray] = [np.array(self.scales), np.array([self.quality or 0])]
        for part in self._sets():
            for images in (part.high, part.low):
                count = len(images.images) if images else 0
                arrays += [np.array([count]), *(images.images if images else [])]
        self._digest = content_digest(arrays)

    def _sets(self) -> list[ImageSet]:
        return [*([self.train] if self.train else []), *self.tests.values()]


def load_data(config: DataConfig) -> SuperResolutionData:
    """Reads the images that a configuration names, whose scales are set.

    Raises:
        DataError: There are none, or they cannot be used.
        ConfigError: Options contradict each other.
    """
    check(config)
    assert config.scales is not None
    scales, quality = tuple(config.scales), test_quality(config)
    if config.name == "photographs" or (config.name == "auto" and not config.path and not config.test_path):
        check_no_split(config.test_share, config.scene, DataConfig.test_share)
        train, tests, notes = _photographs(config)
        return SuperResolutionData("photographs", config.channels, train, tests, scales, quality, notes)
    paths = [Path(p) for p in ([config.path] if config.path else []) + (config.test_path or [])]
    if not paths:
        raise ConfigError(f"--data.name {config.name} needs --data.path FOLDER")
    store = Store(config.memory)
    folders = [Path(path) for path in config.test_path or []]
    tests = {name: _read(path, config, store) for name, path in zip(set_names(folders), folders, strict=True)}
    training: ImageSet | None = None
    if config.path:
        training = _read(Path(config.path), config, store)
        if not tests:
            training, tests["test"] = _split(training, config)
        for test in tests.values():
            kept = drop_leaks(training.high, test.high)
            if training.low is not None:
                training.low = training.low.select(kept)
    for test in tests.values():
        _check_sizes(test, max(scales))
        _gray_again(test)
    data = SuperResolutionData(set_name(paths[0]), config.channels, training, tests, scales, quality)
    # Only now: how patches are cut is no part of the data, and of its digest.
    if training is not None:
        data.train = _for_patches(training, config)
    for part in [*([data.train] if data.train else []), *tests.values()]:
        data.notes += part.high.notes
    if config.name != "pairs":
        data.notes.append("small images are made by MATLAB's bicubic imresize")
    data.notes += store.notes()
    return data


def check(config: DataConfig) -> None:
    """Raises ``ConfigError`` for options that cannot be used."""
    check_share(config.test_share)
    check_patches(config.patch, config.patches)
    if config.name == "photographs" and (config.path or config.test_path):
        raise ConfigError(
            "--data.name photographs reads no folder; leave out --data.path, or take --data.name folder"
        )
    scales = config.scales
    if scales is not None and (not scales or not set(scales) <= set(STEPS) or len(set(scales)) < len(scales)):
        known = ", ".join(map(str, STEPS))
        raise ConfigError(
            f"--data.scales {scales}: name one or more of {known}, each once, such as [2, 3, 4]"
        )
    if config.name == "pairs" and (scales is None or len(scales) > 1):
        raise ConfigError("--data.name pairs has images of one scale; name it, such as --data.scales '[2]'")
    if config.jpeg is not None and not (
        len(config.jpeg) == 2 and 1 <= config.jpeg[0] <= config.jpeg[1] <= 100
    ):
        raise ConfigError(f"--data.jpeg {config.jpeg} is not a range; write [low, high] within 1 to 100")
    if config.test_jpeg is not None and not 1 <= config.test_jpeg <= 100:
        raise ConfigError(f"--data.test_jpeg {config.test_jpeg} is no JPEG quality; give 1 to 100")


def test_quality(config: DataConfig) -> int | None:
    """Returns the JPEG quality of the small test images."""
    return sum(config.jpeg) // 2 if config.test_jpeg is None and config.jpeg else config.test_jpeg


def compressed(low: np.ndarray, quality: int) -> np.ndarray:
    """Returns ``(h, w, C)`` after JPEG, 8 bit."""
    return jpeg(from_float(to_float(low), np.uint8), quality)


def _photographs(config: DataConfig) -> tuple[ImageSet, dict[str, ImageSet], list[str]]:
    import skimage.data

    folder, store = Path(skimage.data.__file__).parent, Store(config.memory)
    train, test = (
        ImageSet(
            load_pictures(
                [next(folder.glob(f"{name}.[jp]*")) for name in names], config.channels, store=store
            )
        )
        for names in (PHOTOGRAPHS, HELD_OUT)
    )
    note = f"{len(train.high.names)} photographs to learn from, {', '.join(test.high.names)} to test on"
    return train, {"photographs": test}, [note, *store.notes()]


def _read(path: Path, config: DataConfig, store: Store) -> ImageSet:
    if config.name == "pairs":
        assert config.scales is not None
        low, high = load_pairs(path, config.channels, scale=config.scales[0], progress=True, store=store)
        return ImageSet(Loaded(high.names, high.images, low.notes, store), low)
    folders = [item for item in path.iterdir() if item.is_dir()] if path.is_dir() else []
    path = next((item for item in folders if item.name.lower() == "hr"), path)
    images = load_pictures(path, config.channels, progress=True, store=store)
    return ImageSet(images, folder=path if path.is_dir() else path.parent)


def _for_patches(images: ImageSet, config: DataConfig) -> ImageSet:
    """Leaves out training images whose small versions are below a patch."""
    assert config.scales is not None
    low, high = images.low, images.high
    if low is None:
        keep, notes = large_enough(high.names, high.images, config.patch * max(config.scales))
    else:
        keep, notes = large_enough(low.names, low.images, config.patch)
    kept = high.select(keep, [*high.notes, *notes])
    return ImageSet(kept, low.select(keep) if low else None, images.folder)


def _check_sizes(images: ImageSet, scale: int) -> None:
    """Raises ``DataError`` for an image of which no small version can be made."""
    for name, image in zip(images.high.names, images.high.images, strict=True):
        height, width = image.shape[:2]
        if min(height, width) < scale:
            raise DataError(
                f"{name}: an image of {width}x{height} cannot be made {scale} times smaller; leave it out"
            )


def _gray_again(images: ImageSet) -> None:
    """Makes test images gray again whose files are: published scores of Set14 take the luma of RGB files alone."""
    if images.folder is None:
        return
    for i, (name, image) in enumerate(zip(images.high.names, images.high.images, strict=True)):
        equal = image.shape[2] == 3 and (image == image[..., :1]).all()
        if equal and read_picture(images.folder / name).pixels.shape[2] == 1:
            images.high.images[i] = np.ascontiguousarray(image[..., :1])
            images.high.notes.append(f"{name}: gray, enlarged as colour and scored as gray")


def _split(images: ImageSet, config: DataConfig) -> tuple[ImageSet, ImageSet]:
    """Holds out a share of the scenes; without a pattern each image is its own scene."""
    split = hold_out(images.high.names, config.test_share, config.scene, "--data.scene")
    parts = []
    for keep, notes in ((split.train, [*images.high.notes, split.note]), (split.test, [])):
        low = images.low.select(keep) if images.low else None
        parts.append(ImageSet(images.high.select(keep, notes), low, images.folder))
    return parts[0], parts[1]


class SmallAndLarge:
    """Pairs of small and large patches, see :class:`core.data.loader.Samples`.

    The samples of the first scale stand first, then those of the second, ...

    Args:
        images: Training images.
        scales: Enlargements.
        config: How patches are cut.

    Attributes:
        groups: Number of samples of each scale; a batch is of one.

    Raises:
        DataError: An image is smaller than a patch.
    """

    def __init__(self, images: ImageSet, scales: Sequence[int], config: DataConfig) -> None:
        self.jpeg, self.parts = config.jpeg, []
        count, keep = len(images.high.names), images.high.store.keep
        for scale in scales:
            pairs = (images.pair(i, scale) for i in range(count))
            low, high = zip(*((low if images.low else keep(low), high) for low, high in pairs), strict=True)
            self.parts.append(
                Patches(images.high.names, [low, high], config.patch, config.patches, config.augment)
            )
        self.groups = [len(part) for part in self.parts]

    def __len__(self) -> int:
        return sum(self.groups)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns ``low`` ``(C, patch, patch)`` and ``high`` ``(C, scale patch, scale patch)``, float32 in [0, 1]."""
        part, index = divmod(index, self.groups[0])  # every scale has as many
        low, high = self.parts[part].crop(index, rng)
        if self.jpeg is not None:
            low = compressed(low, int(rng.integers(self.jpeg[0], self.jpeg[1] + 1)))
        return {
            "low": np.ascontiguousarray(to_float(low).transpose(2, 0, 1), dtype=np.float32),
            "high": np.ascontiguousarray(to_float(high).transpose(2, 0, 1), dtype=np.float32),
            "ids": self.parts[part].name(index),
        }
