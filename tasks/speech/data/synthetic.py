"""Signals that resemble spoken words, on disk as Speech Commands is: ``python -m tasks.speech.data.synthetic FOLDER``.

A source-filter model: pulses of a glottis and noise, through the resonances of a vocal tract. It is there to try all
commands without a download, and promises nothing about real speech: a model trained on it spots no real words, and
its accuracy says nothing about accuracy on recordings of people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.cli import folder_parser, run_folder_command
from core.errors import ConfigError
from tasks.speech.data.layout import RATE, by_hash, coloured, random_of, write_layout

WORDS = ("kamo", "moka", "sibu", "tena", "daga", "rifo")
"""Spoken by all speakers. Two differ in the order of their syllables alone."""
RARE = ("koma", "sipa", "dena", "lobu")
"""Spoken once by every fourth speaker, so that they become the unknown class."""

_HOP, _WINDOW, _FFT = 100, 400, 512
_FREQUENCIES = np.arange(_FFT // 2 + 1) * (RATE / _FFT)
_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)


@dataclass(frozen=True)
class Phone:
    """A sound.

    Attributes:
        formants: Resonances, Hz.
        voice: Amplitude of the voice.
        breath: Amplitude of noise through the same resonances.
        hiss: Amplitude of noise in a band of its own.
        centre: Middle of that band, Hz.
        duration: Mean, s.
        burst: Length of the closure before the noise of a stop, as a share of the duration.
    """

    formants: tuple[int, int, int]
    voice: float = 1.0
    breath: float = 0.02
    hiss: float = 0.0
    centre: int = 1000
    duration: float = 0.06
    burst: float = 0.0


def _stop(second: int, third: int, centre: int, voiced: bool) -> Phone:
    voice, breath, hiss, duration = (0.15, 0.05, 0.25, 0.07) if voiced else (0.0, 0.3, 0.5, 0.1)
    return Phone((300, second, third), voice, breath, hiss, centre, duration, burst=0.6)


# Vowels: Peterson and Barney, "Control methods used in a study of the vowels", JASA 24, 1952, table II, men.
PHONES = {
    "a": Phone((730, 1090, 2440), duration=0.16),
    "e": Phone((530, 1840, 2480), duration=0.14),
    "i": Phone((270, 2290, 3010), duration=0.13),
    "o": Phone((570, 840, 2410), duration=0.15),
    "u": Phone((300, 870, 2240), duration=0.13),
    "m": Phone((250, 1000, 2200), 0.4),
    "n": Phone((250, 1500, 2600), 0.4),
    "l": Phone((360, 1100, 2700), 0.6),
    "r": Phone((420, 1300, 1600), 0.6),
    "b": _stop(900, 2200, 900, True),
    "d": _stop(1700, 2600, 3500, True),
    "g": _stop(1900, 2300, 2000, True),
    "p": _stop(900, 2200, 900, False),
    "t": _stop(1700, 2600, 4000, False),
    "k": _stop(1900, 2300, 2000, False),
    "s": Phone((300, 1700, 2600), 0.0, 0.02, 0.4, 5500, 0.11),
    "f": Phone((300, 1100, 2300), 0.0, 0.03, 0.2, 3500, 0.1),
}
"""Letter to sound."""


@dataclass(frozen=True)
class Speaker:
    """Who speaks.

    Attributes:
        name: 8 hexadecimal digits.
        pitch: Mean fundamental frequency, Hz.
        tract: Factor of all formants: short vocal tracts have high ones.
        accent: Factors of the formants of each phone, by letter.
        tilt: Exponent of the spectrum of the voice.
        pace: Factor of all durations.
    """

    name: str
    pitch: float
    tract: float
    accent: dict[str, np.ndarray]
    tilt: float
    pace: float


def write_words(
    folder: Path, seed: int = 0, words: Sequence[str] = WORDS, speakers: int = 60, clips: int = 3
) -> int:
    """Writes the data set: a folder for each word, noise recordings, and lists of held-out speakers.

    Args:
        folder: New or empty folder.
        seed: Same seed, same files.
        words: Spelled in the letters of ``PHONES``; the rare words are written beside them.
        speakers: Number of speakers.
        clips: Recordings of each word by each speaker.

    Returns:
        Number of clips.

    Raises:
        ConfigError: A word has letters without a sound.
        DataError: The folder holds something already.
    """
    for word in words:
        if not word or set(word) - set(PHONES):
            raise ConfigError(f"the word {word!r} must be spelled in the letters {' '.join(PHONES)}")
    voices = {voice.name: voice for voice in (make_speaker(seed, number) for number in range(speakers))}
    # Neighbours in this order are on the same side of the split: every fourth gives each side its share.
    few = by_hash(voices)[::4]
    spoken = [(word, name, n) for word in words for name in voices for n in range(clips)]
    spoken += [(word, name, 0) for word in RARE if word not in words for name in few]
    return write_layout(
        folder,
        (
            (word, name, n, speak(word, voices[name], random_of(seed, word, name, n)))
            for word, name, n in spoken
        ),
        seed,
    )


def make_speaker(seed: int, number: int) -> Speaker:
    """Returns a speaker; the higher the voice, the shorter the vocal tract."""
    rng = random_of(seed, "speaker", number)
    height = rng.uniform()
    accent = {letter: rng.normal(1, 0.05, 3) for letter in PHONES}
    return Speaker(
        name=f"{rng.integers(2**32):08x}",
        pitch=80 * (260 / 80) ** np.clip(height + rng.normal(0, 0.1), 0, 1),
        tract=float(np.clip(0.85 + 0.35 * height + rng.normal(0, 0.04), 0.85, 1.2)),
        accent=accent,
        tilt=rng.uniform(0.2, 0.8),
        pace=rng.uniform(0.85, 1.2),
    )


def speak(word: str, speaker: Speaker, rng: np.random.Generator) -> np.ndarray:
    """Returns a word in a second of background noise at 15 to 40 dB: ``(RATE,)``, in [-1, 1]."""
    formants, voice, breath, hiss, centre = _tracks(word, speaker, rng)
    frames = len(voice)
    length = frames * _HOP + _WINDOW - _HOP
    pulses = _spectra(_pulses(speaker.pitch, length, rng), frames) * (1 + _FREQUENCIES / 300) ** -speaker.tilt
    noise = _spectra(rng.standard_normal(length, dtype=np.float32), frames)
    tract = _tract(formants, speaker.tract)
    band = np.exp(-0.5 * ((_FREQUENCIES - centre) / (300 + 0.25 * centre)) ** 2)
    spectrum = tract * (pulses * voice + noise * breath) + noise * band * hiss
    uttered = _overlap_add(np.fft.irfft(spectrum, _FFT))[:RATE]
    signal = np.zeros(RATE)
    start = int(rng.integers(RATE - len(uttered) + 1))
    signal[start : start + len(uttered)] = uttered
    signal *= 0.7 * rng.uniform(0.15, 1.0) / np.abs(signal).max()
    loudness = np.sqrt(np.mean(uttered**2)) * np.abs(signal).max() / np.abs(uttered).max()
    noise = coloured(RATE, rng.uniform(0, 2), rng)
    return np.clip(signal + loudness * 10 ** (-rng.uniform(15, 40) / 20) * noise, -1, 1)


def _tracks(word: str, speaker: Speaker, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Formants ``(T, 3)``, amplitudes of voice, breath and hiss, and middle of the hiss ``(T, 1)``, frame by frame."""
    phones = [PHONES[letter] for letter in word]
    seconds = (
        np.array([p.duration for p in phones])
        * speaker.pace
        * rng.normal(1, 0.12, len(phones)).clip(0.6, 1.4)
    )
    seconds *= np.clip(seconds.sum(), 0.4, 0.8) / seconds.sum()
    ends = np.cumsum(seconds)
    times = np.arange(round(ends[-1] * RATE / _HOP)) * (_HOP / RATE)
    at = np.minimum(np.searchsorted(ends, times, side="right"), len(phones) - 1)
    closed = (times - (ends - seconds)[at]) / seconds[at] < np.array([p.burst for p in phones])[at]
    accents = np.array([speaker.accent[letter] for letter in word]) * rng.normal(1, 0.03, (len(phones), 3))
    targets = np.array([p.formants for p in phones]) * accents * speaker.tract
    stress = rng.uniform(0.6, 1.0, len(phones))
    voice, breath, hiss, centre = (
        np.array([getattr(p, name) for p in phones])[at] for name in ("voice", "breath", "hiss", "centre")
    )
    levels = np.stack([voice * stress[at], breath * ~closed, hiss * ~closed], 1)
    # Articulators move slowly, sources quickly.
    levels = _smooth(levels, 3) * np.minimum(1, np.minimum(times, ends[-1] - times) / 0.03)[:, None]
    return _smooth(targets[at], 9), *(levels[:, [i]] for i in range(3)), centre[:, None]


def _smooth(track: np.ndarray, width: int) -> np.ndarray:
    """Means over an odd number of frames ``(T, K)``; the ends are held."""
    sums = np.cumsum(np.pad(track, ((width // 2 + 1, width // 2), (0, 0)), mode="edge"), 0)
    return (sums[width:] - sums[:-width]) / width


def _pulses(pitch: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """Change of the flow through the glottis ``(length,)``, standard deviation 1.

    The flow of a period rises as a cosine and falls faster: Rosenberg, JASA 49, 1971, pulse B.
    """
    time = np.linspace(0, 1, length)
    contour = rng.uniform(1.0, 1.2) - rng.uniform(0.1, 0.35) * time
    contour += 0.05 * np.sin(2 * np.pi * (rng.uniform(0.5, 2) * time + rng.uniform()))
    jitter = np.interp(time, np.linspace(0, 1, 60), rng.normal(1, 0.02, 60))
    phase = np.cumsum(pitch * contour * jitter) / RATE % 1
    rising, falling = phase / 0.4, (phase - 0.4) / 0.2
    flow = np.where(phase < 0.4, 3 * rising**2 - 2 * rising**3, np.where(phase < 0.6, 1 - falling**2, 0))
    change = np.diff(flow, prepend=0.0)
    return change / change.std()


def _spectra(signal: np.ndarray, frames: int) -> np.ndarray:
    """Spectra ``(T, _FFT // 2 + 1)`` of windows that overlap by three quarters."""
    windows = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[::_HOP][:frames]
    return np.fft.rfft(windows * _HANN, _FFT)


def _tract(formants: np.ndarray, scale: float) -> np.ndarray:
    """Response ``(T, _FFT // 2 + 1)`` of resonances in series: formants ``(T, 3)`` in Hz and two that stay.

    Each is the resonator of Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67, 1980, eq. 1-2.
    """
    delay = np.exp(-2j * np.pi * _FREQUENCIES / RATE)
    response = np.ones((1, len(delay)), complex)
    still = np.array([[3500.0, 4500.0]]) * scale
    for part, widths in ((still, (200, 250)), (formants, (70, 100, 150))):
        for centre, width in zip(part.T[:, :, None], widths, strict=True):
            radius = np.exp(-np.pi * width / RATE)
            b, c = 2 * radius * np.cos(2 * np.pi * centre / RATE), -(radius**2)
            response = response * ((1 - b - c) / (1 - b * delay - c * delay**2))
    return response


def _overlap_add(frames: np.ndarray) -> np.ndarray:
    """Sums frames ``(T, _FFT)`` that begin ``_HOP`` apart: ``((T + _FFT // _HOP) * _HOP,)``."""
    parts = -(-frames.shape[1] // _HOP)
    blocks = np.pad(frames, ((0, 0), (0, parts * _HOP - frames.shape[1]))).reshape(len(frames), parts, _HOP)
    result = np.zeros((len(frames) + parts - 1, _HOP))
    for part in range(parts):
        result[part : part + len(frames)] += blocks[:, part]
    return result.ravel()


def main(argv: list[str] | None = None) -> int:
    """Writes the data set into a folder; returns the exit code."""
    parser = folder_parser(
        "tasks.speech.data.synthetic",
        "Writes signals that resemble spoken words, as Speech Commands has its recordings. They promise nothing about "
        "real speech.",
    )

    def write(options: argparse.Namespace) -> str:
        count = write_words(options.folder, options.seed)
        return f"{count} clips of {len(WORDS) + len(RARE)} words in {options.folder}"

    return run_folder_command(parser, write, argv)


if __name__ == "__main__":
    sys.exit(main())
