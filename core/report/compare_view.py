"""A comparison of residual rules as tables for the console and as a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from core.report.compare import REFERENCE, RuleSummary, Spread, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS_A_TABLE = 4
"""Parts of the metric that stand side by side in a table."""
REACH = 6.0
"""Interquartile ranges beyond the quartiles that the figure shows; a rule gone astray must not flatten the others."""


def decimals(value: float) -> int:
    """Returns the digits after the point that give four significant ones."""
    if not math.isfinite(value) or value == 0:
        return 3
    return min(8, max(0, 3 - math.floor(math.log10(abs(value)))))


def direction(study: Study) -> str:
    """Returns ``higher is better`` or ``lower is better``."""
    return f"{'higher' if study.higher_is_better else 'lower'} is better"


def tables(study: Study) -> Iterator[Table]:
    """Yields the table of the primary metric, then those of its parts."""
    rows = study.summary()
    seeds = study.seeds
    title = f"{study.title} on {study.data}, held-out data, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    yield _main_table(study, rows, f"{title}: {study.metric}, {direction(study)}")
    parts = [name for name in study.metric_names() if name != study.metric]
    for start in range(0, len(parts), PARTS_A_TABLE):
        yield _parts_table(rows, parts[start : start + PARTS_A_TABLE])


def _main_table(study: Study, rows: list[RuleSummary], title: str) -> Table:
    table = Table(title=title)
    table.add_column("rule", no_wrap=True)
    compared = any(row.difference for row in rows)
    headings = ("seeds", "mean", "std", "min .. max", *([f"minus {REFERENCE}"] if compared else []), "CPU s")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    if any(row.failures for row in rows):
        table.add_column("failed", overflow="fold")
    for row in rows:
        value = row.metrics.get(study.metric)
        cells = [str(value.count if value else 0), *(_statistics(value) if value else ("-", "-", "-"))]
        if compared:
            cells.append(_difference(study, row))
        cells.append(f"{row.cpu_seconds.mean:.1f}" if row.cpu_seconds else "-")
        if row.failures:
            cells.append(f"[red]{escape(_reasons(row))}[/]")
        table.add_row(row.rule, *cells)
    return table


def _statistics(value: Spread) -> tuple[str, str, str]:
    """Mean, deviation and range as text, all with as many digits."""
    digits = decimals(value.mean)
    deviation = f"{value.deviation:.{digits}f}" if value.count > 1 else "-"
    return f"{value.mean:.{digits}f}", deviation, f"{value.low:.{digits}f} .. {value.high:.{digits}f}"


def _difference(study: Study, row: RuleSummary) -> str:
    """The paired difference to ``add`` with its own deviation, green where the rule is better."""
    gap = row.difference
    if gap is None or row.rule == REFERENCE:
        return "-"
    digits = decimals(row.metrics[study.metric].mean)
    deviation = f" ± {gap.deviation:.{digits}f}" if gap.count > 1 else ""
    better = gap.mean > 0 if study.higher_is_better else gap.mean < 0
    return f"[{'green' if better else 'red'}]{gap.mean:+.{digits}f}[/]{deviation}"


def _reasons(row: RuleSummary) -> str:
    """The first sentence of each reason once, with its seeds."""
    seeds: dict[str, list[str]] = {}
    for trial in row.failures:
        seeds.setdefault(trial.reason.split(". ")[0], []).append(str(trial.seed))
    return "\n".join(f"seed {', '.join(numbers)}: {reason}" for reason, numbers in seeds.items())


def _parts_table(rows: list[RuleSummary], parts: list[str]) -> Table:
    table = Table(title="mean ± std, min .. max", show_lines=True)
    table.add_column("rule", no_wrap=True)
    for part in parts:
        table.add_column(part, justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for part in parts:
            if part not in row.metrics:
                cells.append("-")
                continue
            mean, deviation, limits = _statistics(row.metrics[part])
            cells.append(f"{mean} ± {deviation}\n{limits}" if row.metrics[part].count > 1 else mean)
        table.add_row(row.rule, *cells)
    return table


def draw_rules(study: Study) -> Figure:
    """Draws one dot a seed and a bar at the mean for each rule, the best on top; ``add`` is a dashed line."""
    from matplotlib.figure import Figure

    rows = [row for row in study.summary() if study.metric in row.metrics]
    failed = [row.rule for row in study.summary() if study.metric not in row.metrics]
    figure = Figure(figsize=(7.5, 1.5 + 0.34 * max(2, len(rows))), layout="constrained")
    axis = figure.subplots()
    seeds = study.seeds
    for place, row in enumerate(rows):
        done = [t for t in study.trials if t.rule == row.rule and t.status == "finished"]
        # Each seed has a height of its own, so that equal values are seen as two.
        heights = [place + 0.3 * (2 * (seeds.index(t.seed) + 0.5) / len(seeds) - 1) for t in done]
        colour = "tab:orange" if row.rule == REFERENCE else "tab:blue"
        axis.scatter([t.metrics[study.metric] for t in done], heights, s=26, color=colour, alpha=0.75, lw=0)
        axis.plot([row.metrics[study.metric].mean] * 2, [place - 0.38, place + 0.38], color=colour, lw=2.4)
        if row.rule == REFERENCE:
            axis.axvline(row.metrics[study.metric].mean, color=colour, ls="--", lw=1, zorder=0)
    _label(axis, study, [row.rule for row in rows])
    _cut(axis, study, rows)
    if failed:
        figure.supxlabel(f"failed: {', '.join(failed)}", color="tab:red", fontsize="small", x=0.02, ha="left")
    return figure


def _label(axis: Axes, study: Study, names: list[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(max(len(names), 1) - 0.4, -0.6)
    dashed = f", dashed where {REFERENCE} is" if REFERENCE in names else ""
    axis.set_xlabel(f"{study.metric}, {direction(study)}: a dot a seed, a bar at the mean{dashed}")
    axis.set_title(f"{study.title} on {study.data}, held-out data", fontsize="medium")
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)


def shown_range(values: list[float]) -> tuple[float, float] | None:
    """Returns the limits of an axis that leaves results far from the others out; None if all are shown."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 3 else (0.0, 0.0, 0.0)
    reach = REACH * (high - low)
    inside = [value for value in values if low - reach <= value <= high + reach]
    if reach == 0 or len(inside) == len(values):
        return None
    margin = 0.06 * (max(inside) - min(inside))
    return min(inside) - margin, max(inside) + margin


def _cut(axis: Axes, study: Study, rows: list[RuleSummary]) -> None:
    """Cuts the axis and writes the results beyond it at its ends."""
    limits = shown_range([t.metrics[study.metric] for t in study.trials if t.status == "finished"])
    if limits is None:
        return
    axis.set_xlim(*limits)
    for place, row in enumerate(rows):
        value = row.metrics[study.metric]
        style: dict[str, Any] = {"va": "center", "fontsize": "small", "color": "0.3"}
        if value.high > limits[1]:
            axis.text(limits[1], place, f"{value.high:.4g} → ", ha="right", **style)
        if value.low < limits[0]:
            axis.text(limits[0], place, f" ← {value.low:.4g}", ha="left", **style)
