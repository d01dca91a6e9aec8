"""Interleaved timing: each round runs every contestant once, so that a busy moment hits all of them."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table


def interleave(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Returns median CPU-seconds and wall-clock seconds of a call; one call each warms up first."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in track(range(rounds), description="measuring", transient=True):
        for name, run in contestants.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: (statistics.median(c for c, _ in seen), statistics.median(w for _, w in seen))
        for name, seen in times.items()
    }


def print_comparison(title: str, unit: str, amount: float, times: dict[str, tuple[float, float]]) -> None:
    """Prints a table of ``amount`` units a call; ratios are to the first contestant, above 1 is slower."""
    table = Table(title=title)
    for column in ("", f"CPU ms / {unit}", f"wall ms / {unit}", "CPU ratio", "wall ratio"):
        table.add_column(column, justify="left" if not column else "right")
    first = next(iter(times.values()))
    for name, (cpu, wall) in times.items():
        table.add_row(
            name,
            f"{1e3 * cpu / amount:.4g}",
            f"{1e3 * wall / amount:.4g}",
            f"{cpu / first[0]:.2f}",
            f"{wall / first[1]:.2f}",
        )
    Console(width=110).print(table)


def print_machine() -> None:
    """Prints commit, date, processor and threads: what a figure must be quoted with."""
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "no git"
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    print(
        f"commit {commit}, {datetime.now(UTC):%Y-%m-%d}, {name}, {os.cpu_count()} CPUs, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def install_peer(folder: Path, packages: Sequence[str], module: str) -> str:
    """Puts a peer into ``folder`` with pip, unless it is there; returns why it cannot be used, or nothing."""
    if not (folder / module.split(".")[0]).is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["pip says nothing"]
            return f"pip cannot install it: {lines[-1]}"
    # In a process of its own, since it imports half an environment.
    code = f"import sys; sys.path.append({str(folder)!r}); import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""
