"""Objects in video files: frames in, frames with boxes and a list of detections out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from core.errors import ConfigError, DataError
from tasks.detection.drawing import draw
from tasks.detection.results import Detections

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
"""Endings of the files that are read as videos, in lower case."""
# What is wrong with a file is said once, by us.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
CODEC = "mp4v"
USUAL_RATE = 25.0
"""Frames a second of files that do not tell."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: From 0, in the file.
        pixels: RGB ``(H, W, 3)`` uint8.
    """

    number: int
    pixels: np.ndarray


class Video:
    """A video file, to be read once.

    Args:
        path: The file.

    Attributes:
        rate: Frames a second.
        count: Number of frames, as the file says; 0 where it does not.
        read: Number of frames that have been read.

    Raises:
        DataError: It is no video that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise DataError(f"{path}: cannot be read as a video; convert it to MP4 with H.264")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0 < rate < 1000 else USUAL_RATE
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.read = 0

    def frames(self, every: int) -> Iterator[Frame]:
        """Yields each ``every``-th frame, from the first on.

        Raises:
            DataError: There is none.
        """
        try:
            while self._capture.grab():
                if self.read % every == 0:
                    decoded, pixels = self._capture.retrieve()
                    if not decoded:
                        break
                    yield Frame(self.read, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
                self.read += 1
        finally:
            self._capture.release()
        if not self.read:
            raise DataError(f"{self.path}: holds no frame that can be read; copy it again")


class Writer:
    """Writes an MP4 file; without any frame there is none, and what fails leaves none.

    Args:
        path: The file.
        rate: Frames a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._temporary = path.with_name(f".{path.stem}.part.mp4")
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        if kind is None and self._writer is not None:
            self._temporary.replace(self.path)
        with suppress(OSError):
            self._temporary.unlink()

    def add(self, pixels: np.ndarray) -> None:
        """Adds a frame, RGB ``(H, W, 3)`` uint8, all of one size.

        Raises:
            ConfigError: The file cannot be written.
        """
        height, width = pixels.shape[:2]
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*CODEC)
            self._writer = cv2.VideoWriter(str(self._temporary), code, self.rate, (width, height))
            if not self._writer.isOpened():
                raise ConfigError(f"{self.path}: cannot be written as a video; set --draw false")
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def search_video(
    video: Video,
    detect: Callable[[Sequence[np.ndarray]], list[Detections]],
    classes: Sequence[str],
    drawn: Path | None,
    every: int = 1,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], list[Detections]]:
    """Finds the objects in the frames of a video.

    The drawn video has the frames that were searched and lasts as long as the original.

    Args:
        video: The video.
        detect: Finds objects in images, see :meth:`tasks.detection.detector.Detector.detect`.
        classes: Names of the classes.
        drawn: MP4 file to write; ``None`` for none.
        every: Search every so many frames.
        batch: Frames that are searched together.
        progress: Told how many frames of the file are done, and of how many as the file says.

    Returns:
        What is known of each frame, for COCO's list of images, and what was found in it.

    Raises:
        DataError: The video has no frame.
        ConfigError: The drawn video cannot be written.
    """
    entries: list[dict[str, Any]] = []
    found: list[Detections] = []
    frames = video.frames(every)
    with Writer(drawn, video.rate / every) if drawn is not None else nullcontext() as writer:
        while group := list(itertools.islice(frames, batch)):
            results = detect([frame.pixels for frame in group])
            for frame, result in zip(group, results, strict=True):
                height, width = frame.pixels.shape[:2]
                entries.append(
                    {
                        "file_name": video.path.name,
                        "frame": frame.number,
                        "seconds": round(frame.number / video.rate, 3),
                        "width": width,
                        "height": height,
                    }
                )
                if writer is not None:
                    writer.add(draw(frame.pixels, result, classes))
            found += results
            if progress is not None:
                progress(group[-1].number + 1, video.count)
    return entries, found
