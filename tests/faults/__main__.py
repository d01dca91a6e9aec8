"""``python -m tests.faults``: causes failures and counts how often they end as they have to."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.faults.scenario import Options, Outcome

SCENARIOS = {
    "kills": "tests.faults.kills",
    "stores": "tests.faults.stores",
    "server": "tests.faults.server",
    "disks": "tests.faults.disks",
    "checkpoints": "tests.faults.checkpoints",
    "hostile": "tests.faults.hostile",
    "inputs": "tests.faults.inputs",
}
"""Module of each scenario; it is imported when it runs."""
SHOWN = 20
"""Failures of an outcome that are printed."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SCENARIOS,
        default=list(SCENARIOS),
        metavar="NAME",
        help=", ".join(SCENARIOS),
    )
    parser.add_argument("--kills", type=int, default=20, help="kills of each task and kind; default 20")
    parser.add_argument("--inputs", type=int, default=200, help="broken files of each kind; default 200")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="keep what is written in this new folder"
    )
    parser.add_argument("--markdown", action="store_true", help="print a table for docs/faults.md")
    return parser.parse_args(arguments)


def verdict(outcome: Outcome) -> str:
    """Returns how an outcome is to be read."""
    if not outcome.tried:
        return "not tried"
    return "passed" if outcome.passed == outcome.tried else "FAILED"


def as_table(outcomes: list[tuple[str, Outcome]]) -> Table:
    """Returns the outcomes for a terminal."""
    table = Table("scenario", "what was tried", "passed", "figures", "verdict")
    for name, outcome in outcomes:
        passed = f"{outcome.passed} of {outcome.tried}"
        table.add_row(name, escape(outcome.name), passed, escape(outcome.figures), verdict(outcome))
    return table


def as_markdown(outcomes: list[tuple[str, Outcome]]) -> str:
    """Returns the outcomes as a table for a document."""
    lines = ["| scenario | what was tried | passed | figures |", "|---|---|---|---|"]
    for name, outcome in outcomes:
        cells = (name, outcome.name, f"{outcome.passed} of {outcome.tried}", outcome.figures)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the scenarios; returns 1 if one of them failed."""
    given = parse(arguments)
    # As an exception it lets what is mounted and what was started be taken away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=given.markdown)
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        folder = (given.output or Path(made)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        options = Options(kills=given.kills, inputs=given.inputs, seed=given.seed, folder=folder)
        found: list[tuple[str, Outcome]] = []
        for name in given.only:
            began = time.monotonic()
            outcomes = importlib.import_module(SCENARIOS[name]).run(options)
            found += [(name, outcome) for outcome in outcomes]
            console.print(as_table([(name, outcome) for outcome in outcomes]))
            for outcome in outcomes:
                for line in outcome.failures[:SHOWN]:
                    console.print(f"{outcome.name}: {line}", markup=False, soft_wrap=True)
            console.print(f"{name}: {time.monotonic() - began:.0f} s")
    if given.markdown:
        print(as_markdown(found))
    elif len(given.only) > 1:
        console.print(as_table(found))
    return int(any(outcome.passed < outcome.tried for _, outcome in found))


if __name__ == "__main__":
    sys.exit(main())
