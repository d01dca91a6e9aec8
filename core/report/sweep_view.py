"""A sweep as tables for the console and as figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from core.report.sweep import Row, Settings, Tested, baselines, best_of

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 10
"""Trials in the table on the console; all are in ``trials.csv``."""
FEWEST = 20
"""Finished trials below which importance is not shown: of the best tenth, which it looks at, there must be two."""
COLOURS = {"finished": "tab:blue", "pruned": "0.6"}


def tables(
    rows: list[Row], tested: list[Tested], settings: Settings, metric: str, higher_is_better: bool
) -> Iterator[Table]:
    """Yields the table of the best trials and that of the test."""
    done = [row for row in rows if row.state == "finished" and row.value is not None]
    done.sort(key=lambda row: (row.value or 0.0) * (-1 if settings.higher_is_better else 1))
    count = {state: sum(row.state == state for row in rows) for state in ("finished", "pruned", "failed")}
    said = ", ".join(f"{number} {state}" for state, number in count.items() if number)
    table = Table(title=f"{settings.metric} on validation data, {settings.direction}: {said}")
    for name in ("trial", settings.metric, *settings.space, "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in done[:SHOWN]:
        options = [_text(row.values.get(key)) for key in settings.space]
        table.add_row(str(row.number), f"{row.value:.5g}", *options, f"{row.seconds:.0f}")
    yield table
    reasons = {row.reason for row in rows if row.state == "failed"}
    for reason in sorted(reasons):
        failed = [str(row.number) for row in rows if row.reason == reason]
        yield Table(title=escape(f"trial {', '.join(failed)} failed: {reason}"), show_header=False)
    if tested:
        yield _test_table(tested, metric, higher_is_better)


def _test_table(tested: list[Tested], metric: str, higher_is_better: bool) -> Table:
    direction = "higher" if higher_is_better else "lower"
    table = Table(title=f"{metric} on the test data, {direction} is better")
    for name in ("", "trial", metric):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in tested:
        trial = "none" if entry.trial is None else str(entry.trial)
        value = f"{entry.metrics[metric]:.5g}" if metric in entry.metrics else escape(entry.reason)
        table.add_row(entry.name, trial, value)
    for name, score in baselines(tested, metric).items():
        table.add_row(name, "", f"{score:.5g}")
    return table


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw_sweep(study: optuna.Study, rows: list[Row], settings: Settings) -> Iterator[tuple[str, str, Figure]]:
    """Yields captions, names and figures: scores by trial and by option, and paths through the options."""
    done = [row for row in rows if row.value is not None]
    if not done:
        return
    yield (
        "Score by trial and by option, and what the options matter",
        "sweep",
        draw_slices(study, done, settings),
    )
    if len(settings.space) > 1 and sum(row.state == "finished" for row in done) > 1:
        yield "Options of each trial; dark is good", "parallel", draw_paths(done, settings)


def draw_slices(study: optuna.Study, rows: list[Row], settings: Settings) -> Figure:
    """Draws the score by trial with the best so far, by each option, and the importance of the options."""
    from matplotlib.figure import Figure

    importance = importances(study, settings)
    panels = 1 + len(settings.space) + bool(importance)
    columns = min(3, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(4 * columns, 3.1 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).ravel())
    limits = _limits(rows)
    for axis in axes[:panels]:
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
    _draw_history(axes[0], rows, settings)
    for axis, key in zip(axes[1:], settings.space, strict=False):
        _draw_slice(axis, rows, settings, key)
    for axis in axes[: 1 + len(settings.space)]:
        axis.set_ylim(*limits)
    if importance:
        names = list(importance)[::-1]
        axes[panels - 1].barh(names, [importance[name] for name in names], color="tab:blue")
        axes[panels - 1].set(title="importance (PED-ANOVA)", xlim=(0, 1))
    for axis in axes[panels:]:
        axis.set_visible(False)
    return figure


def importances(study: optuna.Study, settings: Settings) -> dict[str, float]:
    """Returns the importance of each option (PED-ANOVA, arXiv:2304.10255), in all 1; empty for few trials."""
    import optuna

    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    values = {trial.value for trial in done}
    if len(done) < FEWEST or len(values) < 2 or len(settings.space) < 2:
        return {}
    return optuna.importance.get_param_importances(study)


def _limits(rows: list[Row]) -> tuple[float, float]:
    """Returns limits of the score in which trials gone astray do not flatten the others."""
    values = sorted(row.value for row in rows if row.value is not None)
    low, high = values[0], values[-1]
    if len(values) > 3:
        first, _, third = statistics.quantiles(values, n=4)
        reach = 3 * (third - first)
        inside = [value for value in values if first - reach <= value <= third + reach]
        low, high = inside[0], inside[-1]
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - margin, high + margin


def _draw_history(axis: Axes, rows: list[Row], settings: Settings) -> None:
    from matplotlib.ticker import MaxNLocator

    choose = max if settings.higher_is_better else min
    for state, colour in COLOURS.items():
        chosen = [row for row in rows if row.state == state]
        axis.scatter(
            [r.number for r in chosen], [r.value or 0.0 for r in chosen], s=22, color=colour, label=state
        )
    finished = sorted((row for row in rows if row.state == "finished"), key=lambda row: row.number)
    best = [choose(r.value for r in finished[: i + 1] if r.value is not None) for i in range(len(finished))]
    axis.step([row.number for row in finished], best, where="post", color="tab:orange", label="best so far")
    axis.set(title=f"{settings.metric}, {settings.direction}", xlabel="trial")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize="small")


def _draw_slice(axis: Axes, rows: list[Row], settings: Settings, key: str) -> None:
    domain = settings.space[key]
    labels = [_text(value) for value in domain] if isinstance(domain, list) else None
    best = best_of(rows, settings)
    for row in rows:
        value: Any = row.values[key]
        place = domain.index(value) if labels is not None else value
        colour = "tab:orange" if row is best else COLOURS[row.state]
        axis.scatter(
            [place], [row.value or 0.0], s=40 if row is best else 22, color=colour, zorder=2 + (row is best)
        )
    if labels is not None:
        axis.set_xticks(range(len(labels)), labels)
    elif str(domain).startswith("log"):
        axis.set_xscale("log")
    axis.set_title(key)


def draw_paths(rows: list[Row], settings: Settings) -> Figure:
    """Draws one line a finished trial through its options (parallel coordinates)."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    finished = [row for row in rows if row.state == "finished"]
    sign = -1 if settings.higher_is_better else 1
    order = sorted(finished, key=lambda row: sign * (row.value or 0.0))
    keys = list(settings.space)
    heights = {key: _heights(finished, settings.space[key], key) for key in keys}
    figure = Figure(figsize=(2.2 * max(3, len(keys)), 3.6), layout="constrained")
    axis = figure.subplots()
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    shades = colormaps["viridis"](np.linspace(0, 0.95, len(order)))
    for row, shade in reversed(list(zip(order, shades, strict=True))):
        axis.plot(range(len(keys)), [heights[key][0][row.number] for key in keys], color=shade, lw=1.6)
    for place, key in enumerate(keys):
        axis.axvline(place, color="0.5", lw=0.8, zorder=0)
        for height, label in heights[key][1]:
            axis.text(place + 0.03, height, label, fontsize="small", va="center", bbox=box)
    axis.set_xlim(-0.15, len(keys) - 0.45)
    axis.spines[:].set_visible(False)
    axis.set_xticks(range(len(keys)), keys)
    axis.set_yticks([])
    axis.set_title(f"{settings.metric}: dark is good, yellow is bad", fontsize="medium")
    return figure


def _heights(rows: list[Row], domain: Any, key: str) -> tuple[dict[int, float], list[tuple[float, str]]]:
    """Returns the height from 0 to 1 of each trial on the axis of an option, and labels."""
    import numpy as np

    if isinstance(domain, list):
        top = len(domain) - 1
        places = {row.number: domain.index(row.values[key]) / top for row in rows}
        return places, [(i / top, _text(value)) for i, value in enumerate(domain)]
    scale = np.log if domain.startswith("log") else float
    values = {row.number: float(scale(row.values[key])) for row in rows}
    low, high = min(values.values()), max(values.values())
    width = (high - low) or 1.0
    ends = sorted(rows, key=lambda row: values[row.number])
    labels = [(0.0, _text(ends[0].values[key])), (1.0, _text(ends[-1].values[key]))]
    return {number: (value - low) / width for number, value in values.items()}, labels
