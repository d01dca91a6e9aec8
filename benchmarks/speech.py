"""``python -m benchmarks.speech``: features, networks and streams of keyword spotting on the CPU.

* MFCC of 256 clips of a second: ours in one batch, torchaudio's transform in one batch (with its own logarithm, and in
  single precision), and a loop over the clips as the released code of res8 has it: librosa's arithmetic in NumPy, and a
  cosine transform for each frame from SciPy. Ours must equal the loop to 1e-4. Bar: 5 times as many clips a CPU-second;
* res8-narrow and BC-ResNet-1 on the features of 1 and of 64 clips;
* a stream of two minutes, ten looks a second, through res8-narrow and the detector: read from a file in blocks of ten
  seconds, and live in blocks of a tenth. Bar: 50 times faster than real time.

Contestants take turns; medians, and ratios to the first of a table. Weights are random: they do not change the speed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
import torch
import torchaudio
from scipy.fftpack import dct

from benchmarks.measure import interleave, print_comparison, print_machine
from tasks.speech.build import build_network
from tasks.speech.config import MODELS, FeatureConfig
from tasks.speech.frontend import FrontEnd, mel_filters
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import Detector, WindowScorer

RATE = 16000
CLASSES = ["silence", "unknown", "bed", "cat", "happy"]
FEATURES_BAR, STREAM_BAR = 5.0, 50.0


def mfcc_of_clip(clip: np.ndarray, window: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """MFCC ``(101, 40)`` of one clip as the released code computes it with librosa 0.6."""
    padded = np.pad(clip, 240, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 480)[::160]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    mel = (power @ filters).T
    mel[mel > 0] = np.log(mel[mel > 0])
    return np.array([dct(frame, norm="ortho") for frame in mel.T])


def compare_features(clips: int, rounds: int) -> bool:
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
    window = np.hanning(481)[:-1]
    filters = mel_filters(config, RATE, 480).numpy()
    arrays = waves.double().numpy()

    def loop() -> np.ndarray:
        return np.stack([mfcc_of_clip(clip, window, filters) for clip in arrays])

    error = float(np.abs(front(waves).numpy() - loop()).max())
    times = interleave(
        {
            "skipway, batch": lambda: front(waves),
            "torchaudio MFCC, batch": lambda: theirs(waves),
            "loop over clips": loop,
        },
        rounds,
    )
    print_comparison(f"MFCC of {clips} clips of 1 s", "clip", clips, times)
    gain = times["loop over clips"][0] / times["skipway, batch"][0]
    fine = error < 1e-4 and gain >= FEATURES_BAR
    print(
        f"largest difference to the loop {error:.1e}; {clips / times['skipway, batch'][0]:.0f} clips a CPU-second"
    )
    print(f"bar: {FEATURES_BAR:g}x the loop, measured {gain:.1f}x: {'met' if fine else 'MISSED'}\n")
    return fine


def compare_networks(rounds: int) -> None:
    """Prints the table of the networks."""
    torch.manual_seed(0)
    networks = {
        name: build_network(MODELS[name](), 101, 40, 12).eval() for name in ("res8_narrow", "bcresnet")
    }
    for batch in (1, 64):
        features = torch.randn(batch, 101, 40)

        def run(name: str, features: torch.Tensor = features) -> Callable[[], object]:
            @torch.inference_mode()
            def call() -> object:
                return networks[name](features)

            return call

        times = interleave({"res8-narrow": run("res8_narrow"), "BC-ResNet-1": run("bcresnet")}, rounds)
        print_comparison(f"scores of {batch} clip(s)", "clip", batch, times)


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
    print_comparison(f"stream of {seconds:g} s, ten looks a second", "second", seconds, times)
    factor = seconds / times["file"][0]
    print(f"live: {seconds / times['live'][0]:.0f} times faster than real time, in CPU time")
    print(
        f"bar: {STREAM_BAR:g}x real time, measured {factor:.0f}x: {'met' if factor >= STREAM_BAR else 'MISSED'}"
    )
    return factor >= STREAM_BAR


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each contestant")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, no figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_machine()
    print(f"load average now {os.getloadavg()[0]:.1f}")
    clips, seconds, rounds = (4, 3.0, 2) if options.quick else (256, 120.0, options.rounds)
    results = [compare_features(clips, rounds)]
    compare_networks(rounds)
    results.append(compare_streams(seconds, rounds))
    print(f"{sum(results)} of {len(results)} bars are met")


if __name__ == "__main__":
    main()
