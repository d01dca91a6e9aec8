"""Data sets of a chosen size in the layouts that the tasks read, made by the tasks' own generators and writers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Made:
    """How a task's data is made and read.

    Attributes:
        write: Writes data ``factor`` times the smallest into a folder, which is new.
        options: Of ``train``, beside the path.
        path: What ``--data.path`` names inside the folder.
    """

    write: Callable[[Path, int], object]
    options: tuple[str, ...] = ()
    path: str = ""


def _photographs(folder: Path, factor: int) -> None:
    """Crops of scikit-image's photographs, with noise that makes each one new."""
    import skimage.data

    from core.data.images.files import Picture, write_picture

    sources = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    for number in range(24 * factor):
        rng = np.random.default_rng(number)
        source = sources[number % len(sources)]
        top, left = (int(rng.integers(side - 288 + 1)) for side in source.shape[:2])
        crop = source[top : top + 288, left : left + 288].astype(np.int16)
        pixels = np.clip(crop + rng.integers(-3, 4, crop.shape), 0, 255).astype(np.uint8)
        write_picture(folder / f"photo_{number:05d}.png", Picture(pixels))


def _volumes(folder: Path, factor: int) -> None:
    from tasks.segmentation.data.synthetic import write_organs

    write_organs(folder, cases=6 * factor, shape=(24, 96, 80))


def _series(folder: Path, factor: int) -> None:
    """A long table of monthly series."""
    import pandas as pd

    count, length = 300 * factor, 120
    rng = np.random.default_rng(0)
    values = 100 + np.cumsum(rng.normal(size=(count, length)), axis=1)
    times = pd.date_range("2010-01-01", periods=length, freq="MS").strftime("%Y-%m-%d")
    table = pd.DataFrame(
        {
            "unique_id": np.repeat([f"s{i:06d}" for i in range(count)], length),
            "ds": np.tile(times, count),
            "y": values.ravel().round(4),
        }
    )
    folder.mkdir(parents=True)
    table.to_csv(folder / "sales.csv", index=False)


def _words(folder: Path, factor: int) -> None:
    from tasks.speech.data.synthetic import WORDS, write_words

    write_words(folder, words=WORDS[:4], speakers=12 * factor, clips=3)


def _overlays(folder: Path, factor: int) -> None:
    from tasks.detection.data.synthetic import write_overlays

    write_overlays(folder, counts={"train": 60 * factor, "test": 4 * factor}, size=256)


def _records(folder: Path, factor: int) -> None:
    from tasks.ecg.data.synthetic import write_records

    write_records(folder, records=100 * factor)


CSI = (
    "--data.rows=2",
    "--data.columns=2",
    "--data.subcarriers=64",
    "--data.gap=32",
    "--data.models=[A]",
    "--data.delay_spreads=[100.0]",
    "--data.speeds=[1.0]",
    "--data.samples=1000000",
    "--data.test_samples=1000000",
)


def _channels(folder: Path, factor: int) -> None:
    from rich.console import Console

    from tasks.csi.config import ChannelConfig
    from tasks.csi.data.dataset import Condition
    from tasks.csi.data.generator import ensure_channels

    channel = ChannelConfig(rows=2, columns=2, subcarriers=64, gap=32)
    for part, count in (("train", 64), ("test", 8)):
        condition = Condition("A", 100.0, 1.0)
        ensure_channels(folder, channel, 0, part, [condition], count * factor, 1, Console(quiet=True))


DATA = {
    "denoising": Made(_photographs, ("--data.patches=16",)),
    "super_resolution": Made(_photographs, ("--data.patches=16",)),
    "segmentation": Made(_volumes),
    "forecasting": Made(_series, path="sales.csv"),
    "speech": Made(_words, ("--data.variants=0",)),
    "detection": Made(_overlays),
    "ecg": Made(_records),
    "csi": Made(_channels, CSI),
}
"""Of each task. Patches of an image follow each other in the files' order: fewer of each, so that all are read."""
