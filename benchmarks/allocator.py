"""``python -m benchmarks.allocator``: a convolution net with glibc's own settings and with ours.

The settings hold for a whole process, so each measurement is a process of its own; the two kinds take turns.
Each runs 6 residual blocks of 64 channels on an image of 512 x 512, whose activations of 67 MB are beyond what
glibc keeps by itself (32 MB at most).
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

from benchmarks.measure import print_heading, print_table, print_text
from core.residual import Residual
from core.train.hardware import keep_large_allocations

RUNS, ROUNDS = 3, 3
NAMES = {"default": "glibc's own", "kept": "kept"}
REACH = "N-BEATS has no activations of that size and does not need it. There is no bar."


def measure() -> dict[str, float]:
    """Returns wall-clock seconds of a forward pass and of a training step, and the largest memory in MB."""
    keep_large_allocations()
    blocks = [
        Residual(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()))
        for _ in range(6)
    ]
    model = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), *blocks, nn.Conv2d(64, 1, 3, padding=1))
    image = torch.randn(1, 1, 512, 512)

    def forward() -> None:
        with torch.inference_mode():
            model(image)

    def train() -> None:
        model(image).square().mean().backward()

    seconds = {}
    for name, run in (("forward, s", forward), ("training step, s", train)):
        run()
        start = time.perf_counter()
        for _ in range(RUNS):
            run()
        seconds[name] = (time.perf_counter() - start) / RUNS
    return seconds | {"memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Prints medians; with ``--child`` measures once and prints JSON."""
    if "--child" in sys.argv:
        print(json.dumps(measure()))
        return
    print_heading("Large freed blocks")
    rounds = 1 if "--quick" in sys.argv else ROUNDS
    seen: dict[str, list[dict[str, float]]] = {"default": [], "kept": []}
    for _ in range(rounds):
        for name, values in seen.items():
            environment = {**os.environ, "SKIPWAY_MALLOC": name}
            command = [sys.executable, "-m", "benchmarks.allocator", "--child"]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            values.append(json.loads(done.stdout))
    rows = [
        [NAMES[name], *(f"{statistics.median(v[c] for v in values):.4g}" for c in values[0])]
        for name, values in seen.items()
    ]
    title = f"6 residual blocks of 64 channels on 512 x 512, medians of {rounds} processes each"
    print_table(title, ["large freed blocks (`core/train/hardware.py`)", *seen["kept"][0]], rows)
    print_text(REACH)


if __name__ == "__main__":
    main()
