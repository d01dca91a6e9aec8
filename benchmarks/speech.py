"""``python -m benchmarks.speech``: features, networks and streams of keyword spotting on the CPU.

* MFCC of 256 clips of a second: ours in one batch, torchaudio's transform in one batch (with its own logarithm, and in
  single precision), the loop over clips of the released code of res8 with today's librosa (``--librosa FOLDER``), and
  the same loop as librosa 0.6 computed it, see :func:`mfcc_of_clip`, also with filters that are built once. Ours must
  equal the loop to 1e-4. Bar: 5 times as many clips a CPU-second as the loop with librosa, or without it with 0.6;
* res8-narrow and BC-ResNet-1, in their forms for inference, on the features of 1 and of 64 clips;
* a stream of two minutes, ten looks a second, through res8-narrow and the detector: read from a file in blocks of ten
  seconds, and live in blocks of a tenth. Bar: 50 times faster than real time.

Contestants take turns; medians, and ratios to the first of a table. Weights are random: they do not change the speed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchaudio
from scipy.fftpack import fft
from scipy.signal import get_window

from benchmarks.measure import (
    install_peer,
    interleave,
    print_bar,
    print_comparison,
    print_heading,
    print_text,
)
from core.compress.folding import deploy
from core.train.hardware import keep_large_allocations
from tasks.speech.build import build_network
from tasks.speech.config import MODELS, FeatureConfig
from tasks.speech.frontend import FrontEnd
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import Detector, WindowScorer

RATE = 16000
CLASSES = ["silence", "unknown", "bed", "cat", "happy"]
LIBROSA = (
    *("librosa==0.11.0", "numba", "llvmlite", "audioread", "pooch", "platformdirs", "lazy_loader"),
    *("msgpack", "soxr", "decorator"),
)
"""Without their own dependencies: NumPy and SciPy stay those of the environment."""
FEATURES_BAR, STREAM_BAR = 5.0, 50.0
OURS = "skipway, one batch, double precision up to the spectrum"
OLD_LOOP = "loop over clips with the steps of librosa 0.6"
KEPT_FILTERS = "the same with mel filters that are built once"
NEW_LOOP = "loop over clips, librosa 0.11.0, as the released code of res8 has it"
NEAR = "It depends on the caches of the processor."
SMALLER = "BC-ResNet-1, which has half the parameters and a third of the multiplications"
COLUMNS = 2**18
"""Bytes of a spectrum that librosa 0.6 computes at once."""


def mel_filters() -> np.ndarray:
    """Slaney's filters ``(40, 241)``, built one after the other in double precision, as librosa 0.6 does."""
    bins = np.linspace(0, RATE / 2, 241)
    low, high = (3 * 20 / 200, 15 + np.log(4000 / 1000) / (np.log(6.4) / 27))
    mels = np.linspace(low, high, 42)
    edges = np.where(mels < 15, 200 * mels / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
    widths = np.diff(edges)
    distance = edges[:, None] - bins
    filters = np.zeros((40, 241))
    for i in range(40):
        rising, falling = -distance[i] / widths[i], distance[i + 2] / widths[i + 1]
        filters[i] = np.maximum(0, np.minimum(rising, falling))
    filters *= (2 / (edges[2:] - edges[:-2]))[:, None]
    if not np.all((edges[:-2] == 0) | (filters.max(1) > 0)):
        raise ValueError("empty filters")
    return filters


def dct_filters() -> np.ndarray:
    """The orthonormal DCT-II as a matrix ``(40, 40)``, which the released code keeps."""
    angles = np.pi / 80 * np.outer(np.arange(40), np.arange(1, 80, 2))
    matrix = np.sqrt(2 / 40) * np.cos(angles)
    matrix[0] = np.sqrt(1 / 40)
    return matrix


def mfcc_of_clip(clip: np.ndarray, matrix: np.ndarray, filters: np.ndarray | None = None) -> np.ndarray:
    """MFCC ``(101, 40)`` of one clip, step by step as the released code of res8 has it from librosa 0.6.

    ``librosa.feature.melspectrogram`` makes the window and, since it keeps none, the mel filters on each call; checks
    that the clip is finite; pads it; takes windowed frames as columns, a block of them at a time, through SciPy's whole
    FFT in double precision (NumPy's half came with 0.7), the first half of which goes into an array of complex64; and
    multiplies the power by the filters. The released code then takes the logarithm of positive energies, multiplies
    each of the 101 frames by the matrix of the cosine transform, in a list, and joins them.

    Args:
        clip: ``(16000,)`` single precision.
        matrix: Of the cosine transform.
        filters: Mel filters, where they are not to be built.
    """
    window = get_window("hann", 480, fftbins=True)[:, None]
    if not np.isfinite(clip).all():
        raise ValueError("a clip is not finite")
    padded = np.pad(clip, 240, mode="reflect")
    frames = np.lib.stride_tricks.as_strided(
        padded, (480, 1 + (len(padded) - 480) // 160), (padded.itemsize, 160 * padded.itemsize)
    )
    spectrum = np.empty((241, frames.shape[1]), np.complex64, order="F")
    step = COLUMNS // (241 * spectrum.itemsize)
    for first in range(0, frames.shape[1], step):
        block = slice(first, first + step)
        spectrum[:, block] = fft(window * frames[:, block], axis=0)[:241]
    power = np.abs(spectrum) ** 2.0
    mel = np.dot(mel_filters() if filters is None else filters, power)
    mel[mel > 0] = np.log(mel[mel > 0])
    parts = [np.matmul(matrix, frame) for frame in np.split(mel, mel.shape[1], axis=1)]
    return np.array(parts, order="F").astype(np.float32)[..., 0]


def mfcc_of_librosa(clip: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """MFCC ``(101, 40)`` of one clip ``(16000,)`` as the released code has it, with the librosa that is installed."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=clip, sr=RATE, n_mels=40, hop_length=160, n_fft=480, fmin=20, fmax=4000, pad_mode="reflect"
    )
    mel[mel > 0] = np.log(mel[mel > 0])
    return np.array([matrix @ frame for frame in mel.T])


def compare_features(clips: int, rounds: int, librosa: bool) -> bool:
    """Prints the table of the front ends; returns whether ours is right and meets the bar."""
    config = FeatureConfig(floor=0.0)
    waves = torch.from_numpy(
        (0.05 * np.random.default_rng(0).standard_normal((clips, RATE))).astype(np.float32)
    )
    front = FrontEnd(config, RATE)
    theirs = torchaudio.transforms.MFCC(
        RATE,
        40,
        log_mels=True,
        melkwargs={
            "n_fft": 480,
            "hop_length": 160,
            "f_min": 20.0,
            "f_max": 4000.0,
            "n_mels": 40,
            "norm": "slaney",
            "mel_scale": "slaney",
        },
    )
    arrays, matrix, filters = waves.numpy(), dct_filters(), mel_filters()

    def loop(kept: np.ndarray | None = None) -> np.ndarray:
        return np.stack([mfcc_of_clip(clip, matrix, kept) for clip in arrays])

    contestants: dict[str, Callable[[], object]] = {
        OURS: lambda: front(waves),
        "torchaudio's MFCC, one batch, single precision, another logarithm": lambda: theirs(waves),
    }
    peer, errors = OLD_LOOP, [loop()]
    if librosa:
        peer = NEW_LOOP
        contestants[peer] = lambda: [mfcc_of_librosa(clip, matrix) for clip in arrays]
        errors.append(np.stack([mfcc_of_librosa(clip, matrix) for clip in arrays]))
    contestants |= {OLD_LOOP: loop, KEPT_FILTERS: lambda: loop(filters)}
    ours = front(waves).numpy()
    error = max(float(np.abs(ours - theirs).max()) for theirs in errors)
    times = interleave(contestants, rounds)
    print_comparison(f"MFCC of {clips} clips of 1 s", "clip", clips, times)
    seconds = times[OURS][0]
    gain, kept = times[peer][0] / seconds, times[KEPT_FILTERS][0] / seconds
    print_text(
        f"Ours equals the loops to {error:.1e}, and does {clips / seconds:.0f} clips a CPU-second. Against a loop that "
        f"keeps its filters it is {kept:.1f} times as fast."
    )
    return print_bar(
        f"MFCC of {clips} clips, equal to 1e-4, against {peer}",
        f"{FEATURES_BAR:g} times faster",
        f"{gain:.1f}",
        error < 1e-4 and gain >= FEATURES_BAR,
        NEAR,
    )


def compare_networks(rounds: int) -> None:
    """Prints the table of the networks."""
    torch.manual_seed(0)
    networks = {
        # As Spotter has them.
        name: deploy(build_network(MODELS[name](), 101, 40, 12).eval()).to(memory_format=torch.channels_last)
        for name in ("res8_narrow", "bcresnet")
    }
    for batch in (1, 64):
        features = torch.randn(batch, 101, 40)

        def run(name: str, features: torch.Tensor = features) -> Callable[[], object]:
            @torch.inference_mode()
            def call() -> object:
                return networks[name](features)

            return call

        calls = {"res8-narrow": run("res8_narrow"), SMALLER: run("bcresnet")}
        times = interleave(calls, rounds)
        print_comparison(f"Scores of {batch} clip(s)", "clip", batch, times)


def compare_streams(seconds: float, rounds: int) -> bool:
    """Prints how much faster than real time a stream is; returns whether the file meets the bar."""
    torch.manual_seed(0)
    settings = {
        "classes": CLASSES,
        "rate": RATE,
        "samples": RATE,
        "features": {},
        "folds": [],
    }
    network = build_network(MODELS["res8_narrow"](), 101, 40, len(CLASSES))
    spotter = Spotter(settings, {"model": network}, {})
    audio = (0.05 * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)

    def stream(block: float) -> Callable[[], object]:
        def run() -> object:
            scorer = WindowScorer(spotter, 0.1)
            detector = Detector(spotter.classes, 0.9, 0.3, 1.0, 0.1)
            step = int(block * RATE)
            return [detector.update(*scorer.feed(audio[i : i + step])) for i in range(0, len(audio), step)]

        return run

    times = interleave({"file": stream(10.0), "live": stream(0.1)}, rounds)
    print_comparison(f"Stream of {seconds:g} s, ten looks a second", "second", seconds, times)
    factor = seconds / times["file"][0]
    print_text(
        f"Features, network and detector: {factor:.0f} times faster than real time from a file, "
        f"{seconds / times['live'][0]:.0f} times live, where each look is a batch of its own."
    )
    return print_bar(
        f"a stream of {seconds:g} s with ten looks a second, res8-narrow, from a file",
        f"{STREAM_BAR:g} times real time",
        f"{factor:.0f}",
        factor >= STREAM_BAR,
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each contestant")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, no figures")
    parser.add_argument(
        "--librosa", type=Path, help="folder with librosa; pip installs it there if it is not"
    )
    options = parser.parse_args()
    librosa, wrong = False, ""
    if options.librosa:
        wrong = install_peer(options.librosa, LIBROSA, "librosa.feature")
        librosa = not wrong
        sys.path.append(str(options.librosa))  # after the environment, whose NumPy counts
    # As in trainings and in predict.
    keep_large_allocations()
    torch.set_num_threads(options.threads)
    print_heading("Keyword spotting")
    if wrong:
        print_text(f"librosa is left out: {wrong}")
    clips, seconds, rounds = (4, 3.0, 2) if options.quick else (256, 120.0, options.rounds)
    compare_features(clips, rounds, librosa)
    compare_networks(rounds)
    compare_streams(seconds, rounds)


if __name__ == "__main__":
    main()
