"""The table of results: the model, its baselines, and by how much it is better."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from core.errors import one_line
from core.task import Evaluation


@dataclass
class Comparison:
    """One metric on one part of the data.

    Attributes:
        name: ``Yearly/mape``, or ``mape`` for the whole set.
        values: Method to value, the model under ``"model"``.
        best: Baseline with the best value, ``None`` when there is none.
        gain: Improvement over it, in percent of its value or in ``unit``; negative when the model is worse.
        unit: Unit of the difference, such as dB; empty for percent.
    """

    name: str
    values: dict[str, float]
    best: str | None
    gain: float
    unit: str = ""

    @property
    def difference(self) -> str:
        """The gain in words: ``+4.2 %``, ``-0.31 dB``."""
        return f"{self.gain:+.2f} {self.unit}" if self.unit else f"{self.gain:+.1f} %"


def compare(
    results: dict[str, Evaluation], metric: str, higher_is_better: bool, unit: str = ""
) -> list[Comparison]:
    """Compares the model with every baseline, for the primary metric and its parts, the whole set last.

    Args:
        results: Method to scores, the model under ``"model"``.
        metric: Name of the primary metric.
        higher_is_better: Its direction.
        unit: Unit of differences, for scales such as dB on which a percentage says nothing.
    """
    names = [name for name in results["model"].metrics if name.split("/")[-1] == metric]
    rows = []
    for name in sorted(names, key=lambda n: n == metric):
        values = {method: r.metrics[name] for method, r in results.items() if name in r.metrics}
        baselines = {m: v for m, v in values.items() if m != "model" and math.isfinite(v)}
        sign = 1 if higher_is_better else -1
        best = max(baselines, key=lambda m: sign * baselines[m]) if baselines else None
        gain = math.nan
        if best is not None and (unit or baselines[best]):
            gain = sign * (values["model"] - baselines[best])
            gain *= 1 if unit else 100 / abs(baselines[best])
        rows.append(Comparison(name, values, best, gain, unit))
    return rows


def make_console(quiet: bool = False, stderr: bool = False) -> Console:
    """Returns a console that does not fold tables when the output goes to a file."""
    stream = sys.stderr if stderr else sys.stdout
    return PlainConsole(quiet=quiet, stderr=stderr, highlight=False, width=None if stream.isatty() else 110)


class PlainConsole(Console):
    """A console on which text, such as the name of a file, cannot steer the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints as :class:`rich.console.Console` does, with control characters of text written out."""
        shown = [
            "\n".join(map(one_line, text.split("\n"))) if isinstance(text, str) else text for text in objects
        ]
        super().print(*shown, **options)


def print_results(
    console: Console, rows: list[Comparison], results: dict[str, Evaluation], title: str, model: str
) -> None:
    """Prints the table, the model's notes, and one line for every score that a baseline beats."""
    console.print(results_table(rows, title, model))
    for note in results["model"].notes:
        console.print(note, markup=False)
    for row in rows:
        if row.best and not row.gain > 0:
            how = "better" if row.gain < 0 else "as good"
            console.print(f"[red]{row.name}: {row.best} is {how}: {row.difference}[/]")


def results_table(rows: list[Comparison], title: str, model: str) -> Table:
    """Draws the comparison; a loss against the best baseline is shown as plainly as a gain."""
    table = Table(title=title)
    table.add_column("metric", no_wrap=True)
    for method in rows[0].values:
        table.add_column(model if method == "model" else method, justify="right", no_wrap=True)
    table.add_column("against the best", justify="right", no_wrap=True)
    for row in rows:
        colour = "green" if row.gain > 0 else "red"
        gain = f"[{colour}]{row.difference}[/] ({row.best})" if row.best else "no baseline"
        table.add_row(row.name, *(f"{value:.4g}" for value in row.values.values()), gain)
    return table
