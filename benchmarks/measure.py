"""Interleaved timing, and results as Markdown.

Each round runs every contestant once, so that a busy moment hits all of them. What a benchmark prints is its section of
``docs/benchmarks.md``, which ``python -m benchmarks`` puts together; progress goes to standard error.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

PROGRESS = Console(stderr=True)
"""Standard output is for the section alone."""
_BAR = re.compile(r"- Bar: (.+); asked: (.+); measured: (.+); (met|MISSED)\.(?: (.+))?")


@dataclass(frozen=True)
class Bar:
    """What a benchmark is asked for.

    Attributes:
        what: What is measured.
        asked: The bar, in words.
        measured: What was measured, in words.
        met: Whether it is met.
        why: If it is missed, why.
    """

    what: str
    asked: str
    measured: str
    met: bool
    why: str = ""

    def line(self) -> str:
        """Returns the line of a section, which :func:`bars_of` reads."""
        verdict = "met" if self.met else "MISSED"
        why = f" {self.why}" if self.why and not self.met else ""
        return f"- Bar: {self.what}; asked: {self.asked}; measured: {self.measured}; {verdict}.{why}"


def bars_of(section: str) -> list[Bar]:
    """Returns the bars of a section."""
    found = [match for line in section.splitlines() if (match := _BAR.fullmatch(line))]
    return [Bar(m[1], m[2], m[3], m[4] == "met", m[5] or "") for m in found]


def print_bar(what: str, asked: str, measured: str, met: bool, why: str = "") -> bool:
    """Prints a bar, see :class:`Bar`; returns whether it is met."""
    print(Bar(what, asked, measured, met, why).line() + "\n", flush=True)
    return met


def print_text(text: str) -> None:
    """Prints paragraphs."""
    print(text.strip() + "\n", flush=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; columns that hold numbers alone stand on the right, but for the first."""
    if title:
        print(f"**{title}**\n")
    cells_of = [list(row) for row in rows]
    marks = ["---:" if _numbers(cells) else "---" for _, *cells in zip(columns, *cells_of, strict=True)]
    marks[0] = "---"
    for cells in (columns, marks, *cells_of):
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def interleave(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Returns median CPU-seconds and wall-clock seconds of a call; one call each warms up first."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in track(range(rounds), description="measuring", transient=True, console=PROGRESS):
        for name, run in contestants.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: (statistics.median(c for c, _ in seen), statistics.median(w for _, w in seen))
        for name, seen in times.items()
    }


def _numbers(cells: Iterable[str]) -> bool:
    return all(re.match(r"[-+.\d]|nan|inf|$", cell) for cell in cells)


def print_comparison(title: str, unit: str, amount: float, times: dict[str, tuple[float, float]]) -> None:
    """Prints a table of ``amount`` units a call; ratios are to the first contestant, above 1 is slower."""
    first = next(iter(times.values()))
    rows = [
        [
            name,
            f"{1e3 * cpu / amount:.4g}",
            f"{1e3 * wall / amount:.4g}",
            f"{cpu / first[0]:.2f}",
            f"{wall / first[1]:.2f}",
        ]
        for name, (cpu, wall) in times.items()
    ]
    print_table(title, ["", f"CPU ms / {unit}", f"wall ms / {unit}", "CPU ratio", "wall ratio"], rows)


def print_heading(title: str) -> None:
    """Prints a section's heading, and what a figure must be quoted with: command, commit, date and machine."""
    print(
        f"## {title}\n`{command_line()}`,\n{machine()}, load average {os.getloadavg()[0]:.1f} at the start.\n",
        flush=True,
    )


def command_line() -> str:
    """Returns the command of this process as a user would write it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name if spec else Path(sys.argv[0]).stem
    threads = os.environ.get("OMP_NUM_THREADS")
    words = ["python", "-m", module, *sys.argv[1:]]
    return (f"OMP_NUM_THREADS={threads} " if threads else "") + shlex.join(words)


def machine() -> str:
    """Returns commit, date, processor, threads and torch."""
    git = ["git", "describe", "--always"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "no git"
    # The page itself is rewritten between two benchmarks; what is measured is the code.
    changed = ["git", "diff", "--quiet", "HEAD", "--", "core", "tasks", "benchmarks"]
    commit += "-dirty" if subprocess.run(changed, capture_output=True, check=False).returncode else ""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    threads = torch.get_num_threads()
    return (
        f"commit {commit}, {datetime.now(UTC):%Y-%m-%d}, {name}, {os.cpu_count()} CPUs, "
        f"{threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}"
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
