"""The report of one run: results against baselines, curves, figures, configuration, environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import dump_config, flatten, to_dict
from core.errors import TrackingError
from core.report.pages import embed, embed_figure, figure_files, render
from core.report.summary import SUMMARY, Summary, read_summary, verdict, write_summary
from core.task import data_record
from core.track.folder import read_metrics, read_record, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from core.commands.results import Comparison
    from core.task import Dataset, Evaluation, Task

REPORT = "report.html"


def write_report(
    folder: Path,
    task: Task,
    config: Any,
    data: Dataset,
    rows: list[Comparison],
    results: dict[str, Evaluation],
    notes: list[str],
) -> Path:
    """Writes ``report.html`` into a run's folder and returns its path; pictures are inside the file.

    What it says that no other file of the folder holds goes into ``report.json``.

    Args:
        folder: The run's folder, with its metrics and figures.
        task: The task.
        config: Resolved configuration.
        data: Data that was used.
        rows: The primary metric against the baselines.
        results: All metrics of all methods.
        notes: What was assumed about data and model, one line each.
    """
    model = flatten(to_dict(config)).get("model.name", task.title)
    summary = Summary(
        title=f"{model} on {data.name}",
        model=task.title,
        data=data_record(data),
        higher_is_better=task.higher_is_better,
        rows=rows,
        metrics={method: result.metrics for method, result in results.items()},
        notes=notes,
    )
    write_summary(folder, summary)
    return _write(folder, summary, dump_config(config))


def rewrite_report(folder: Path) -> Path:
    """Writes the report of a run again, from its folder alone, and returns its path.

    Raises:
        TrackingError: The folder is no run's, or the run wrote no ``report.json``.
    """
    record = read_record(folder)
    summary = read_summary(folder)
    if summary is None:
        why = f"it has no {SUMMARY}: the run was made by an older version or has not come to its results"
        raise TrackingError(f"the report of run {record.id} cannot be written again; {why}")
    try:
        return _write(folder, summary, (folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrackingError(f"the report of run {record.id} cannot be written again: {error}") from None


def _write(folder: Path, summary: Summary, config: str) -> Path:
    names = list(summary.metrics["model"])
    page = render(
        "page.html",
        title=summary.title,
        run=read_record(folder),
        summary=summary,
        verdict=verdict,
        methods=list(summary.metrics),
        metrics=[(name, [values.get(name) for values in summary.metrics.values()]) for name in names],
        curves=embed_figure(draw_curves(read_metrics(folder))),
        figures=[(path.stem, embed(path.read_bytes())) for path in figure_files(folder)],
        config=config,
    )
    write_atomic(folder / REPORT, page)
    return folder / REPORT


def draw_curves(metrics: dict[str, list[tuple[int, float]]]) -> Figure:
    """Draws training curves, one panel for each kind of value and one line for each part of the run."""
    from matplotlib.figure import Figure

    curves = {name: points for name, points in metrics.items() if len(points) > 1}
    kinds = list(dict.fromkeys(name.split("/")[-1] for name in curves)) or ["loss"]
    figure = Figure(figsize=(4.2 * min(3, len(kinds)), 3 * -(-len(kinds) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(kinds) // 3), min(3, len(kinds)), squeeze=False).ravel()
    for axis, kind in zip(axes, kinds, strict=False):
        for name, points in curves.items():
            if name.split("/")[-1] == kind:
                axis.plot(*zip(*points, strict=True), label=name.rpartition("/")[0] or None)
        axis.set(title=kind, xlabel="step")
        if axis.get_legend_handles_labels()[1]:
            axis.legend(frameon=False, fontsize="small")
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    return figure
