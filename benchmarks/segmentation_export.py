"""Exports of :mod:`benchmarks.segmentation`, each in a process of its own, whose memory is watched."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from rich.progress import track

from benchmarks.measure import PROGRESS, print_bar, print_table
from benchmarks.segmentation_peers import nnunet_export
from core.train.hardware import keep_large_allocations
from tasks.segmentation.frame import Frame
from tasks.segmentation.labels import Labels
from tasks.segmentation.resample import resample, resample_argmax

MEMORY_BAR = 3.0


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        logits: ``(C, z, y, x)`` of an export.
        full: Its size in the file.
        batch: Patches of a step.
        volume: Side of the volume for the windows.
        sets: Data sets that are planned.
        rounds: Most rounds of what takes long.
    """

    logits: tuple[int, int, int, int] = (14, 64, 160, 160)
    full: tuple[int, int, int] = (96, 200, 200)
    batch: int = 2
    volume: int = 128
    sets: tuple[str, ...] = ("hippocampus", "prostate", "ct")
    rounds: int = 5


def frame_of(sizes: Sizes) -> Frame:
    """Returns where the logits lie in their file."""
    spacing = [old / new for old, new in zip(sizes.logits[1:], sizes.full, strict=True)]
    z, y, x = sizes.full
    return Frame(
        sizes.full,
        (0, 1, 2),
        ((0, z), (0, y), (0, x)),
        (spacing[0], spacing[1], spacing[2]),
        (1.0, 1.0, 1.0),
        sizes.logits[1:],
    )


def made_logits(shape: tuple[int, ...]) -> np.ndarray:
    """Returns smooth logits, as of large organs, float32, without large temporaries."""
    logits = np.empty(shape, np.float32)
    rng = np.random.default_rng(0)
    axes = np.meshgrid(
        *(np.linspace(0, 1, n, dtype=np.float32) for n in shape[1:]), indexing="ij", sparse=True
    )
    for channel in logits:
        channel[:] = sum(
            np.float32(rng.normal())
            * np.sin(np.float32(rng.uniform(2, 9)) * axis + np.float32(rng.uniform(0, 6)))
            for axis in axes
        )
    return logits


def export_ours(logits: np.ndarray, frame: Frame) -> np.ndarray:
    """As ``predict`` does."""
    names = tuple(map(str, range(len(logits))))
    return resample_argmax(logits, frame, Labels(names, tuple(range(len(logits)))))


def export_plain(logits: np.ndarray, frame: Frame) -> np.ndarray:
    """All channels by the same interpolation, then the largest; by torch, since NumPy would copy them all again."""
    full = resample(logits, frame.cropped, frame.new_spacing, frame.spacing, 1)
    return torch.from_numpy(full).argmax(0).numpy()


def export_nnunet(logits: np.ndarray, frame: Frame) -> np.ndarray:
    """nnU-Net's own."""
    return nnunet_export(logits, frame.cropped, frame.new_spacing, frame.spacing)


EXPORTS: dict[str, Callable[[np.ndarray, Frame], np.ndarray]] = {
    "skipway": export_ours,
    "all classes, then argmax": export_plain,
    "nnU-Net 2.8.1": export_nnunet,
}


def _peak() -> float:
    """Largest memory of this process so far, MB."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            # getrusage counts the process that this one was started by, too: exec(2) keeps its maximum.
            return next(float(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _forget_peak() -> None:
    """Makes the memory in use now the largest so far, where Linux allows it (proc(5), clear_refs)."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass


def serve_export(pipe: Connection, name: str, sizes: Sizes, threads: int, path: list[str]) -> None:
    """The life of a process: one small export, then one that is measured."""
    sys.path[:] = path
    torch.set_num_threads(threads)
    if name == "skipway":
        keep_large_allocations()
    export = EXPORTS[name]
    small = Sizes((sizes.logits[0], 8, 8, 8), (12, 10, 10))
    kind = np.float16 if name.startswith("nnU-Net") else np.float32
    export(made_logits(small.logits).astype(kind), frame_of(small))
    logits = made_logits(sizes.logits).astype(kind, copy=False)
    frame = frame_of(sizes)
    _forget_peak()
    before = _peak()
    cpu, wall = time.process_time(), time.perf_counter()
    classes = export(logits, frame)
    spent = time.process_time() - cpu, time.perf_counter() - wall
    pipe.send((*spent, _peak() - before, classes.astype(np.uint8)))


def compare_export(sizes: Sizes, rounds: int, threads: int, nnunet: bool) -> bool:
    """Prints time and memory of an export; returns whether classes are equal and the bar is met."""
    context = multiprocessing.get_context("spawn")
    names = [name for name in EXPORTS if nnunet or not name.startswith("nnU-Net")]
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    classes: dict[str, np.ndarray] = {}
    for _ in track(
        range(min(rounds, sizes.rounds)), description="exporting", transient=True, console=PROGRESS
    ):
        for name in names:
            pipe, theirs = context.Pipe()
            process = context.Process(target=serve_export, args=(theirs, name, sizes, threads, sys.path))
            process.start()
            theirs.close()  # so that a process that dies ends the waiting here
            *numbers, classes[name] = pipe.recv()
            seen[name].append((numbers[0], numbers[1], numbers[2]))
            process.join()
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seen.items()
    }
    shape, full = (" x ".join(map(str, each)) for each in (sizes.logits, sizes.full))
    first, *_ = medians.values()
    table = []
    for name, (cpu, wall, memory) in medians.items():
        equal = np.mean(classes[name] == classes["skipway"])
        ratios = (f"{cpu / first[0]:.2f}", f"{memory / first[2]:.2f}")
        table.append([name, f"{cpu:.3f}", f"{wall:.3f}", f"{memory:.1f}", *ratios, f"{equal:.3%}"])
    columns = ["", "CPU s", "wall s", "MB", "CPU ratio", "MB ratio", "equal voxels"]
    title = f"Export of logits of {sizes.logits[0]} classes, {shape} to {full} voxels, each in a process of its own"
    print_table(title, columns, table)
    same = bool(np.mean(classes["skipway"] == classes["all classes, then argmax"]) > 0.9999)
    ratio = medians["all classes, then argmax"][2] / first[2]
    return print_bar(
        "memory of an export, class by class with a running argmax, against all classes and then argmax",
        f"{MEMORY_BAR:g} times less",
        f"{ratio:.1f}",
        ratio >= MEMORY_BAR and same,
    )
