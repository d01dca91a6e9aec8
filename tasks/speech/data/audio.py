"""Audio files to waveforms of one channel and one rate: whole, or block by block for long recordings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from core.errors import DataError

ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
"""Endings of the files that are read, in lower case."""
OTHER_ENDINGS = (".m4a", ".aac", ".wma", ".amr", ".3gp", ".mp4", ".webm")
"""Endings of audio that libsndfile cannot read."""
RATES = (1000, 1_000_000)
"""Lowest and highest sampling rate of a file, Hz; beyond them a header is damaged, or the sound no speech."""
WHOLE = 0.99
"""Share of the samples a header promises that makes a file whole."""

_UNKNOWN_SIZE = 0x7FFF0000  # recorders that write to a pipe put 2 or 4 GB, or nearly so, into the header
# libsndfile corrects the size of a cut file silently, and tells it here alone.
_CUT = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_LOUDEST = 16.0  # floating-point samples above it are integers in another type


@dataclass
class Recording:
    """A recording in memory.

    Attributes:
        samples: ``(N,)`` float32 in [-1, 1], one channel.
        rate: Sampling rate, Hz, as asked for.
        notes: What was changed.
    """

    samples: np.ndarray
    rate: int
    notes: list[str] = field(default_factory=list)


def printable(name: str | Path) -> str:
    """Returns the name of a file as text that can be printed: what is no Unicode is escaped."""
    return str(name).encode(errors="backslashreplace").decode()


def read_recording(path: Path, rate: int, longest: float | None = None) -> Recording:
    """Reads an audio file whole: channels are averaged, other rates are resampled.

    Args:
        path: WAV, FLAC, OGG, MP3, AIFF: whatever libsndfile reads.
        rate: Sampling rate of the result, Hz.
        longest: Duration above which a file is refused before it is decoded, s.

    Raises:
        DataError: The file is missing, empty, no audio, cut off, too long, or holds NaN, infinity or no samples.
    """
    with _open(path) as file:
        source, channels = file.samplerate, file.channels
        if longest is not None and file.frames > longest * source:
            raise _unusable(
                path,
                f"lasts {file.frames / source:.1f} s, longer than {longest:g} s; raise --data.duration or cut it",
            )
        blocks = [*_blocks(file, path, max(file.frames, 1))]
        floats = file.subtype in ("FLOAT", "DOUBLE")
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    notes = [f"{channels} channels averaged"] if channels > 1 else []
    if floats and np.abs(samples).max() > 1:
        notes.append("peaks above full scale clipped")
    if source != rate:
        notes.append(f"resampled from {source} Hz")
        samples = _resampled(_resampler(source, rate), samples)
    return Recording(np.clip(samples, -1, 1), rate, notes)


def stream_blocks(path: Path, rate: int, seconds: float = 1.0) -> Iterator[np.ndarray]:
    """Decodes an audio file in constant memory; its blocks in a row are the samples of :func:`read_recording`.

    Args:
        path: As for :func:`read_recording`.
        rate: Sampling rate of the result, Hz.
        seconds: Length of a block, s, roughly.

    Yields:
        Samples ``(n,)``, float32 in [-1, 1].

    Raises:
        DataError: As for :func:`read_recording`; what is found late is raised late.
    """
    with _open(path) as file:
        blocks = _blocks(file, path, max(1, round(seconds * file.samplerate)))
        for block in resample_blocks(blocks, file.samplerate, rate):
            yield np.clip(block, -1, 1)


def fit(samples: np.ndarray, length: int) -> np.ndarray:
    """Brings a recording ``(N,)`` to ``(length,)``.

    A shorter one is centred in zeros. Of a longer one the loudest stretch is taken, by its energy; of those within 1 %
    of it the middle one, so that a word stands in the middle.
    """
    missing = length - len(samples)
    if missing >= 0:
        return np.pad(samples, (missing // 2, missing - missing // 2))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    sums = energy[length:] - energy[:-length]
    best = np.flatnonzero(sums >= 0.99 * sums.max())
    start = int(best[len(best) // 2])
    return samples[start : start + length]


def _open(path: Path) -> soundfile.SoundFile:
    if path.is_dir() or not path.exists():
        raise _unusable(path, "is a folder" if path.is_dir() else "there is no such file")
    if path.suffix.lower() in OTHER_ENDINGS:
        raise _unusable(path, f"files of {path.suffix} cannot be read; convert it to WAV or FLAC")
    if not path.stat().st_size:
        raise _unusable(path, "is empty (0 bytes)")
    try:
        file = soundfile.SoundFile(os.fsencode(path))  # a name need not be Unicode
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise _unusable(
            path, f"is not audio that can be read ({reason}); convert it to WAV or FLAC"
        ) from None
    try:
        _check_header(file, path)
    except DataError:
        file.close()
        raise
    return file


def _check_header(file: soundfile.SoundFile, path: Path) -> None:
    for claimed, there in _CUT.findall(file.extra_info):
        if int(claimed) < _UNKNOWN_SIZE and int(there) < WHOLE * int(claimed):
            raise _cut_off(path, int(there) / int(claimed))
    if file.format == "OGG" and not _has_last_page(path):
        raise _unusable(path, "is cut off, its end is missing; copy or record it again")
    if not file.frames:
        raise _unusable(path, "holds no samples")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise _unusable(
            path,
            f"has a sampling rate of {file.samplerate} Hz; rates of {RATES[0]} to {RATES[1]} Hz can be used",
        )


def _has_last_page(path: Path) -> bool:
    """Whether an Ogg file ends with a whole page that is marked as the last (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 66_000))  # a page has 65,307 bytes at most
        tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27 or not page[5] & 4:
        return False
    segments = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(segments)


def _unusable(path: Path, why: str) -> DataError:
    return DataError(f"{printable(path)}: {why}")


def _cut_off(path: Path, share: float) -> DataError:
    return _unusable(path, f"is cut off, {share:.0%} of its samples are there; copy or record it again")


def _blocks(file: soundfile.SoundFile, path: Path, size: int) -> Iterator[np.ndarray]:
    """Yields an open file in blocks ``(size,)``, float32, one channel."""
    read = 0
    try:
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            read += len(block)
            yield _mono(block, path)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise _unusable(path, f"is cut off or damaged ({reason}); copy or record it again") from None
    # MPEG files tell their length in a header, and end where they are cut.
    if read < WHOLE * file.frames:
        raise _cut_off(path, read / file.frames)


def _mono(block: np.ndarray, path: Path) -> np.ndarray:
    """Averages the channels of a block ``(n, channels)``."""
    samples = block[:, 0] if block.shape[1] == 1 else block.mean(1)
    peak = np.abs(samples).max()
    if not np.isfinite(peak):
        raise _unusable(
            path, "holds values that are not finite (NaN or infinity); record or convert it again"
        )
    if peak > _LOUDEST:
        raise _unusable(path, f"has samples up to {peak:g}; floating-point audio must lie within -1 and 1")
    return samples


@lru_cache(maxsize=16)
def _resampler(source: int, target: int) -> Resample:
    # Rates without a common divisor, such as 44,099 Hz, need a filter of gigabytes; the nearest ratio is off by
    # less than one in a million.
    ratio = Fraction(source, target).limit_denominator(1000)
    return Resample(ratio.numerator, ratio.denominator)


def _resampled(resample: Resample, samples: np.ndarray) -> np.ndarray:
    return resample(torch.from_numpy(np.ascontiguousarray(samples))).numpy()


def resample_blocks(blocks: Iterable[np.ndarray], source: int, rate: int) -> Iterator[np.ndarray]:
    """Resamples blocks ``(n,)`` from one rate to another, in Hz, as if they were one recording.

    Every ``orig_freq`` samples become ``new_freq``, from themselves and ``width`` samples on either side. What lies
    within that reach of the end of the samples received waits for the next block.
    """
    resample = _resampler(source, rate)
    if resample.orig_freq == resample.new_freq:
        yield from blocks
        return
    step, new = resample.orig_freq, resample.new_freq
    reach = -(-resample.width // step) * step + step
    kept, left = np.zeros(0, np.float32), 0  # samples at the start of `kept` that are context alone
    for block in blocks:
        kept = np.concatenate([kept, block])
        ready = (len(kept) - reach) // step * step
        if ready <= left:
            continue
        yield _resampled(resample, kept)[left // step * new : ready // step * new]
        drop = max(ready - reach, 0)
        kept, left = kept[drop:], ready - drop
    if len(kept):  # nothing comes of nothing
        yield _resampled(resample, kept)[left // step * new :]
