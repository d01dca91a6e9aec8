"""Memory and time of the loaders as the data grows: ``python -m benchmarks.loaders``.

Each task reads data of 1, 4 and 16 times a small size, made by its own generator, in a process of its own: load, check
and preprocess, then an epoch of augmented batches (30 s at most). Memory is what the process holds beyond what it has
after its imports; pages of files that are mapped are not counted, since the system takes them back when memory is
short. Each size is read a second time with ``--data.memory 0.016`` (16 MB): the digest and the batches must be equal.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import multiprocessing
import pkgutil
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.loaders_data import DATA
from benchmarks.measure import print_bar, print_heading, print_table, print_text

FACTORS = (1, 4, 16)
LIMIT = 0.016
"""GB that loaders may keep in the second measurement."""
SECONDS = 30.0
"""Longest measurement of batches."""
FLAT = 1.5
"""Times that the CPU time of a sample may grow from the first to the last size."""
HELD = {
    "denoising": "decoded images, up to `--data.memory`",
    "super_resolution": "decoded images and their small versions, up to `--data.memory`",
    "segmentation": "preprocessed cases, up to `--data.memory`, or none with `--data.cache FOLDER`",
    "forecasting": "all series, 8 bytes a value and 8 more on the device: M4, 100,000 series, takes 0.4 GB. "
    "Reading a CSV file takes a few times its size",
    "speech": "recordings in 16 bit, up to `--data.memory`; and features of `--data.variants`, up to a quarter of the "
    "memory (measured with 0)",
    "detection": "the images used last, up to `--data.memory`, 1 GB",
    "ecg": "signals at `--data.rate`, up to `--data.memory`",
    "csi": "channels, up to `--data.memory`",
}
"""What a loader keeps, and its limit."""
ABOUT = """\
Loaders keep what they decoded up to `--data.memory` GB, by default a quarter of the machine's memory; what is beyond
lies in a file without a name in `$SKIPWAY_CACHE`, which is mapped (`core/data/cache.py`). Digests and batches are the
same for any limit. Detection reads its files again in place of that. Series are in memory by their nature.

![memory and time of the loaders against the size of the data](loaders.png)
"""

Row = dict[str, Any]


def main() -> int:
    """Measures every task, prints the tables and draws the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(DATA), help="tasks, with commas between")
    parser.add_argument("--figure", type=Path, help="PNG file of the curves")
    parser.add_argument("--quick", action="store_true", help="the two smaller sizes alone")
    options = parser.parse_args()
    print_heading("Data that grows")
    print_text(ABOUT)
    rows = []
    for task in options.only.split(","):
        _warm_up(task)
        for factor in FACTORS[:2] if options.quick else FACTORS:
            print(f"{task}, {factor} times the smallest data ...", file=sys.stderr, flush=True)
            rows.append(run(task, factor))
    show(rows)
    if options.figure:
        draw(rows, options.figure)
    return 0


def run(task: str, factor: int) -> Row:
    """Makes data and measures its loader without and with the small limit.

    Raises:
        AssertionError: What is loaded or drawn depends on the limit.
    """
    with tempfile.TemporaryDirectory(prefix="skipway-") as temporary:
        folder = Path(temporary) / task
        _in_process(DATA[task].write, folder, factor)
        free, limited = (_in_process(measure, task, folder, limit) for limit in (None, LIMIT))
    assert (free["digest"], free["drawn"]) == (limited["digest"], limited["drawn"]), task
    return {
        "task": task,
        "factor": factor,
        **free,
        "limited": limited["held"],
        "peak limited": limited["rss"],
    }


def show(rows: list[Row]) -> None:
    """Prints the measurements, what each loader holds, and the bars."""
    columns = [
        *(
            "task",
            "data, MB",
            "samples",
            "load, CPU s",
            "CPU ms a sample",
            "batches a CPU-second",
            "read, MB",
        ),
        *("memory, MB", f"memory with the limit of {1e3 * LIMIT:g} MB", "peak RSS, MB", "with the limit"),
    ]
    cells = []
    for row in rows:
        megabytes = {
            key: f"{row[key] / 1e6:.1f}"
            for key in ("bytes", "read", "held", "limited", "rss", "peak limited")
        }
        cells.append(
            [
                *(row["task"], megabytes["bytes"], f"{row['samples']:,}", f"{row['load']:.2f}"),
                *(f"{1e3 * row['load'] / row['samples']:.2f}", f"{row['batches'] / row['epoch']:.0f}"),
                *(megabytes[key] for key in ("read", "held", "limited", "rss", "peak limited")),
            ]
        )
    print_table("Memory of the process beyond its imports; RSS counts mapped pages too", columns, cells)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    print_table("What a loader keeps", ["task", "what, and how much"], [[task, HELD[task]] for task in tasks])
    for task in tasks:
        own = [row for row in rows if row["task"] == task]
        growth = own[-1]["load"] / own[-1]["samples"] / (own[0]["load"] / own[0]["samples"])
        larger = f"{own[-1]['factor']} times the data"
        print_bar(
            f"{task}, CPU time of a sample, {larger}",
            f"at most {FLAT:g} times",
            f"{growth:.2f}",
            growth <= FLAT,
        )
        if task not in UNLIMITED:
            more = (own[-1]["limited"] - own[0]["limited"]) / 1e6
            what = f"{task}, more memory for {larger} with a limit of {1e3 * LIMIT:g} MB"
            asked = 2e3 * LIMIT
            print_bar(what, f"at most {asked:g} MB", f"{more:.1f} MB", more <= asked)


def draw(rows: list[Row], path: Path) -> None:
    """Draws memory and time against the size of the data, a line a task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, task in enumerate(dict.fromkeys(row["task"] for row in rows)):
        own = [row for row in rows if row["task"] == task]
        size, colour = [row["bytes"] / 1e6 for row in own], f"C{number}"
        left.plot(size, [row["held"] / 1e6 for row in own], color=colour, marker="o", label=task)
        if task not in UNLIMITED:
            left.plot(size, [row["limited"] / 1e6 for row in own], color=colour, linestyle=":", marker=".")
        right.plot(size, [row["load"] for row in own], color=colour, marker="o")
    for axes, label in ((left, "memory, MB"), (right, "load, CPU s")):
        axes.set(xscale="log", yscale="log", xlabel="data on disk, MB", ylabel=label)
        axes.grid(alpha=0.3)
    left.set_title(f"dotted: --data.memory {LIMIT:g}", fontsize=10)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a call returns that is made in a copy of this process, whose imports are done and whose heap is new.

    Raises:
        EOFError: The copy failed, which it has told on standard error.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments))
    process.start()
    sender.close()  # so that a process that dies ends the waiting here
    try:
        return receiver.recv()
    finally:
        process.join()


def _call(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(function(*arguments))


class Watch:
    """Looks at the memory of this process until it is stopped, every few milliseconds.

    Attributes:
        most: Most private memory, bytes: what the process holds and no file backs.
    """

    def __init__(self) -> None:
        self.first = self.most = status("RssAnon")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Returns the most private memory beyond that at the start, bytes."""
        self._stopped.set()
        self._thread.join()
        return self.most - self.first

    def _look(self) -> None:
        while not self._stopped.wait(0.005):
            self.most = max(self.most, status("RssAnon"))


def status(name: str) -> int:
    """Returns an entry of ``/proc/self/status``, bytes."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def bytes_read() -> int:
    """Returns the bytes that this process has read from files, without those that were mapped."""
    with open("/proc/self/io", encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


def measure(name: str, folder: Path, limit: float | None) -> Row:
    """Loads a task's data and draws an epoch, in this process; sizes in bytes, times in CPU seconds."""
    import torch

    from core.cli import default_config
    from core.parser import parse
    from core.task import load_task

    task, made = load_task(name), DATA[name]
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    argv = [f"--data.path={folder / made.path}", *made.options]
    if limit is not None and name not in UNLIMITED:
        argv.append(f"--data.memory={limit}")
    described = {
        "prog": name,
        "description": "",
        "models": task.models,
        "default_config": default_config(task),
    }
    config: Any = parse(task.config_class, argv, **described)
    before, read = status("VmRSS"), bytes_read()
    watch, start = Watch(), time.process_time()
    data = task.load(config)
    source: Any = task.parts(task.prepare(config), data)[0].source
    load = time.process_time() - start
    wanted, drawn, content = source.steps_per_epoch or BATCHES, 0, hashlib.sha256()
    start, begin = time.process_time(), time.perf_counter()
    for drawn, batch in enumerate(source.batches(0, torch.device("cpu")), 1):
        if drawn <= COMPARED:
            _add(content, batch)
        if drawn >= wanted or time.perf_counter() - begin > SECONDS:
            break
    return {
        "bytes": size,
        "samples": data.size,
        "digest": data.digest,
        "drawn": content.hexdigest(),
        "load": load,
        "batches": drawn,
        "epoch": time.process_time() - start,
        "held": watch.stop(),
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before,
        "read": bytes_read() - read,
    }


def _add(content: Any, batch: Any) -> None:
    """Feeds the tensors of a batch to a hash."""
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        for part in batch:
            _add(content, part)
    elif hasattr(batch, "numpy"):
        content.update(batch.contiguous().numpy().tobytes())


UNLIMITED = ("forecasting",)
"""Loaders without a limit."""
BATCHES, COMPARED = 200, 20
"""Batches of a source without epochs; batches that are compared."""


def _warm_up(name: str) -> None:
    """Imports what loading and drawing import, and draws a batch, so that none of it counts."""
    import torch

    from core.data.loader import EpochLoader

    for part in (f"tasks.{name}", "core.data", "core.train", "core.residual"):
        for found in pkgutil.walk_packages(importlib.import_module(part).__path__, f"{part}."):
            if not found.name.endswith(("__main__", "gluonts")):
                with suppress(ImportError):
                    importlib.import_module(found.name)
    importlib.import_module("torch._dynamo")  # which seeding does
    next(EpochLoader(_Zeros(), 2, seed=0).batches(0, torch.device("cpu")))


class _Zeros:
    def __len__(self) -> int:
        return 2

    def draw(self, index: int, rng: Any) -> Row:
        return {"x": rng.random(3)}


if __name__ == "__main__":
    raise SystemExit(main())
