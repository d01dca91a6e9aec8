"""The end of a sweep: the best configuration and the start are trained once more and tested, and all is reported."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console

from core.commands.nested import parent_tags, resumable, train_nested
from core.commands.sweep_study import Place, decode, encode, interrupted
from core.commands.sweep_train import configured
from core.config import dump_config
from core.report.pages import embed
from core.report.sweep import BEST, TABLE, Row, Tested, best_of, table, write_page
from core.report.sweep_view import draw_sweep, tables
from core.task import Task
from core.track.folder import write_atomic
from core.track.run import Nested, Run

STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def rows_of(place: Place, study: optuna.Study) -> list[Row]:
    """Returns the trials as rows; those that were made again as another one are left out."""
    again = interrupted(study)
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.WAITING or trial.number in again:
            continue
        # Of a trial that was pruned it is the last one that was reported.
        value = trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        attrs = trial.user_attrs
        rows.append(
            Row(
                trial.number,
                STATES[trial.state],
                value,
                decode(place.space, trial.params),
                attrs.get("seconds", 0.0),
                attrs.get("run", ""),
                attrs.get("reason", ""),
            )
        )
    return rows


def start_values(place: Place, config: Any) -> dict[str, Any] | None:
    """Returns the values of the start; None if it lies outside of the space."""
    values = {}
    for key, domain in place.space.items():
        value = config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
        if not domain.holds(value):
            return None
        values[key] = encode(value)
    return values


def test_best(task: Task, config: Any, place: Place, study: optuna.Study, parent: Run) -> list[Tested]:
    """Trains and tests the best configuration and the start in the normal way; what was tested before is kept.

    Args:
        task: The task.
        config: Configuration of the start.
        place: The sweep.
        study: Its trials.
        parent: The parent run.

    Returns:
        Both; the best alone if it is the start.

    Raises:
        Interrupted: What was trained is kept and will be gone on with.
    """
    rows = rows_of(place, study)
    best = best_of(rows, place.settings)
    if best is None:
        return []
    start = start_values(place, config)
    same = {row.number for row in rows if {k: encode(v) for k, v in row.values.items()} == start}
    chosen = configured(task, place.folder, [], best.values)
    chosen = replace(chosen, output=config.output, register=config.register)
    write_atomic(place.folder / BEST, dump_config(chosen))
    wanted: list[tuple[str, int | None, Any]] = [("best", best.number, chosen)]
    if best.number not in same:
        wanted.append(("start", min(same, default=None), replace(config, register=False)))
    return [_test(task, place, study, parent, *each) for each in wanted]


def _test(
    task: Task, place: Place, study: optuna.Study, parent: Run, name: str, trial: int | None, config: Any
) -> Tested:
    key = f"tested/{name}/{trial}"
    known = study.user_attrs.get(key, {})
    if "metrics" in known:
        return Tested(**known)
    runs: list[Run] = []

    def opened(run: Run) -> None:
        runs.append(run)
        study.set_user_attr(key, {"run": run.id})

    nested = Nested(
        name=name,
        params={} if trial is None else {"trial": trial},
        tags=parent_tags(parent.id, parent.mlflow_run_id),
        opened=opened,
        advance=_quiet,
    )
    config = replace(config, output=str(place.folder))
    half = resumable(place.folder, task, known.get("run", ""))
    tested = Tested(name, trial)
    tested.reason = train_nested(task, config, half, nested, str)
    tested.run = runs[0].id if runs else ""
    if not tested.reason:
        for metric, value in runs[0].record.metrics.items():
            if metric.startswith("test/"):
                tested.metrics[metric.removeprefix("test/")] = float(value)
            elif metric.startswith("baseline/"):
                tested.metrics[metric] = float(value)
        study.set_user_attr(key, asdict(tested))
    return tested


def _quiet(done: int, total: int) -> None:
    """Takes no notice of a step."""


def report(
    task: Task,
    place: Place,
    study: optuna.Study,
    parent: Run,
    tested: list[Tested],
    metric: str,
    console: Console,
) -> None:
    """Prints the tables and writes page, table and figures, into the folder and among the parent's artifacts.

    Args:
        task: The task.
        place: The sweep.
        study: Its trials.
        parent: The parent run.
        tested: What was tested; empty where the sweep was stopped.
        metric: Primary metric of the task.
        console: Where to.
    """
    folder, settings = place.folder, place.settings
    rows = rows_of(place, study)
    write_atomic(folder / TABLE, table(rows, settings))
    figures = []
    for caption, name, figure in draw_sweep(study, rows, settings):
        path = parent.save_figure(name, figure)
        shutil.copy(path, folder)
        figures.append((caption, embed(path.read_bytes())))
    title = f"Sweep: {task.title} on {settings.data}"
    path = folder / BEST
    best = path.read_text(encoding="utf-8") if path.exists() else "none yet"
    page = write_page(folder, title, settings, rows, tested, metric, task.higher_is_better, figures, best)
    for file in (page, folder / TABLE, path):
        if file.exists():
            shutil.copy(file, parent.folder)
    for each in tables(rows, tested, settings, metric, task.higher_is_better):
        console.print(each)
    for row in rows:
        if row.value is not None:
            parent.log_metrics({"trial/value": row.value}, step=row.number)
    for entry in tested:
        parent.log_metrics({f"{entry.name}/{k}": v for k, v in entry.metrics.items() if "/" not in k}, step=0)
    for label, what in (("report", page), ("trials", folder / TABLE), ("best", path)):
        if what.exists():
            console.print(f"{label:10} {what}", markup=False, soft_wrap=True)


def is_finished(study: optuna.Study) -> bool:
    """Whether no trial is being trained."""
    return not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
