"""Where audio comes from: recordings of a folder, standard input, a microphone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np

from core.errors import ConfigError, DataError
from tasks.speech.config import LIVE_INPUTS
from tasks.speech.data.audio import ENDINGS, OTHER_ENDINGS, resample_blocks

STDIN = LIVE_INPUTS[0]
READ = 1 << 16
"""Most bytes of standard input that are taken at once."""


def list_recordings(path: Path) -> list[Path]:
    """Lists the recordings of a folder and the folders in it, sorted; hidden ones are left out.

    Audio that cannot be read, such as .m4a, is listed, so that its reader says what to do.

    Args:
        path: A folder; or one file, which is returned.

    Raises:
        DataError: The folder holds no recording.
    """
    if path.is_file():
        return [path]
    found = [
        item
        for item in path.rglob("*")
        if item.suffix.lower() in ENDINGS + OTHER_ENDINGS
        and item.is_file()
        and not any(part.startswith(".") for part in item.relative_to(path).parts)
    ]
    if not found:
        raise DataError(f"{path}: no recordings in this folder; give one with files of {', '.join(ENDINGS)}")
    return sorted(found)


def live_blocks(name: str, given: int | None, rate: int, seconds: float) -> Iterator[np.ndarray]:
    """Opens standard input or the microphone.

    Args:
        name: One of ``LIVE_INPUTS``.
        given: Its sampling rate, Hz; ``rate`` by default.
        rate: Sampling rate of the result, Hz.
        seconds: Length of the blocks of a microphone, s.

    Returns:
        Blocks of samples ``(n,)`` as they arrive, float32 in [-1, 1].

    Raises:
        ConfigError: There is no microphone, or it does not have this rate.
    """
    source = given or rate
    if name == STDIN:
        blocks = pcm_blocks(cast(BufferedIOBase, sys.stdin.buffer))
    else:
        blocks = microphone_blocks(source, max(1, round(seconds * source)))
    return resample_blocks(blocks, source, rate)


def pcm_blocks(file: BufferedIOBase) -> Iterator[np.ndarray]:
    """Yields what arrives as 16-bit little-endian samples of one channel; half a sample at the end is dropped."""
    rest = b""
    while data := file.read1(READ):  # waits only where nothing is there yet
        data = rest + data
        whole = len(data) // 2
        rest = data[2 * whole :]
        yield np.frombuffer(data, "<i2", whole).astype(np.float32) / 32768


def microphone_blocks(rate: int, size: int) -> Iterator[np.ndarray]:
    """Opens the default device, and records blocks ``(size,)`` until it is stopped.

    Raises:
        ConfigError: sounddevice or its library is missing, or no device can be opened at this rate, in Hz.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the library PortAudio
        raise ConfigError(
            f"--input microphone needs sounddevice ({error}): pip install 'skipway[microphone]'; "
            "Linux needs the system's PortAudio too"
        ) from None

    def record() -> Iterator[np.ndarray]:
        lost = False
        with stream:
            while True:
                try:
                    samples, overflowed = stream.read(size)
                except sounddevice.PortAudioError as error:
                    raise DataError(f"--input microphone: the device stopped ({error})") from None
                if overflowed and not lost:
                    lost = True
                    print(
                        "too slow for the microphone, samples are lost: a longer --hop helps", file=sys.stderr
                    )
                yield samples[:, 0]

    try:
        stream = sounddevice.InputStream(samplerate=rate, channels=1, dtype="float32", blocksize=size)
    except sounddevice.PortAudioError as error:
        raise ConfigError(
            f"--input microphone: no device can be opened at {rate} Hz ({error}); connect one, or give another --rate"
        ) from None
    return record()
