"""Writes the page: results against baselines, curves, figures, configuration, environment."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, select_autoescape

from core.config import dump_config
from core.track.folder import read_metrics, read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from core.commands.results import Comparison
    from core.task import Dataset, Evaluation, Task


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

    Args:
        folder: The run's folder, with its metrics and figures.
        task: The task.
        config: Resolved configuration.
        data: Data that was used.
        rows: The primary metric against the baselines.
        results: All metrics of all methods.
        notes: What was assumed about data and model, one line each.
    """
    environment = Environment(
        loader=PackageLoader("core.report", "."), autoescape=select_autoescape(), trim_blocks=True
    )
    record = read_record(folder)
    names = list(results["model"].metrics)
    page = environment.get_template("page.html").render(
        title=f"{task.title} on {data.name}",
        run=record,
        data=data,
        notes=notes,
        model=task.title,
        rows=rows,
        methods=list(results),
        metrics=[(name, [r.metrics.get(name) for r in results.values()]) for name in names],
        curves=embed_figure(draw_curves(read_metrics(folder))),
        figures=[
            (path.stem, embed(path.read_bytes()))
            for path in sorted((folder / "figures").glob("*.png"), key=written)
        ],
        config=dump_config(config),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def written(path: Path) -> int:
    """Returns when a file was written: figures stand in the order in which the task drew them."""
    return path.stat().st_mtime_ns


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


def embed_figure(figure: Figure) -> str:
    """Returns a figure as a ``data:`` address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return embed(buffer.getvalue())


def embed(png: bytes) -> str:
    """Returns a PNG as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
