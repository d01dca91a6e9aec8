"""``compare``: one model trained with several residual rules and seeds, all else equal."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from core.commands.compare_setup import Wanted, check_choice, known_parent, open_study, refused_rules
from core.commands.compare_train import train_trial
from core.commands.nested import start_parent, trials_bar
from core.commands.results import make_console
from core.errors import ConfigError, Interrupted, SkipwayError
from core.report.compare import FIGURE, STATE, TABLE, Study, Trial
from core.report.compare_view import draw_rules, tables
from core.task import Task
from core.track.folder import create_folder
from core.track.run import Run
from core.track.store import prepare, public_uri, resolve_uri
from core.train.distributed import environment_world
from core.train.hardware import choose_device, choose_precision
from core.train.signals import interruptible


def run(task: Task, config: Any, wanted: Wanted) -> int:
    """Trains every rule with every seed and reports; returns 1 if a training failed.

    Trainings that the folder has already are left as they are; those that are missing, failed or were
    interrupted are made.

    Args:
        task: The task.
        config: Its configuration of ``train``; ``model.rule_options`` go to ``model.rule`` alone.
        wanted: Rules, seeds and folder.

    Raises:
        ConfigError: Before anything is trained or written.
        Interrupted: What was trained is kept.
    """
    check_choice(task, config, wanted.rules)
    if environment_world().size > 1:
        raise ConfigError("compare trains in one process; start it without torchrun")
    choose_precision(config.train.precision, choose_device(config.train.device))
    config = task.prepare(config)
    data = task.load(config)
    study = open_study(task, config, data, wanted)
    refused = refused_rules(task, config, data, study)
    uri = resolve_uri(config.tracking)
    if uri is not None:
        prepare(uri)
    parent = known_parent(wanted.folder, study, uri, data)
    folder = wanted.folder or create_folder(Path("runs"), "compare")
    folder.mkdir(parents=True, exist_ok=True)
    config = replace(config, output=str(folder.absolute()), register=False)
    console = make_console()
    parent = parent or Run.create(task.name, folder, uri, name="compare", tags={"skipway.kind": "compare"})
    study.run = parent.id
    _start(parent, config, data, study, uri, console)
    try:
        with interruptible():
            _train_all(task, config, study, refused, parent, console)
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        _report(study, parent, console)
        parent.finish("KILLED" if stopped else "FAILED")
        done = f"{study.count('finished')} of {len(study.trials)} trainings done"
        if stopped:
            raise Interrupted(f"interrupted, {done}; continue with --resume {folder}") from None
        if isinstance(error, SkipwayError):
            raise type(error)(f"{error}; {done}, continue with --resume {folder}") from error
        raise
    _report(study, parent, console)
    parent.finish()
    return 1 if study.count("failed") else 0


def _start(parent: Run, config: Any, data: Any, study: Study, uri: str | None, console: Console) -> None:
    """Says what will be done, saves the configuration, and starts the parent run."""
    for label, text in (
        ("data", f"{data.name}: {data.size} samples, digest {data.digest[:12]}"),
        ("rules", ", ".join(study.rules)),
        ("seeds", ", ".join(map(str, study.seeds))),
        ("folder", config.output),
        ("tracking", public_uri(uri) if uri else "off"),
    ):
        console.print(f"{label:10} {text}", markup=False, soft_wrap=True)
    folder = Path(config.output)
    study.write(folder)
    names = {"rules": ",".join(study.rules), "seeds": ",".join(map(str, study.seeds))}
    start_parent(parent, folder, config, data, names)


def _train_all(
    task: Task, config: Any, study: Study, refused: dict[str, str], parent: Run, console: Console
) -> None:
    """Makes the trainings that have not finished, under one bar."""
    done = study.count("finished")
    with trials_bar(console) as progress:
        bar = progress.add_task("training", total=len(study.trials), completed=done)

        def show(share: float) -> None:
            progress.update(bar, completed=done + share)

        for trial in [trial for trial in study.trials if trial.status != "finished"]:
            progress.update(bar, description=f"{trial.rule}, seed {trial.seed}")
            try:
                if trial.rule in refused:
                    trial.status, trial.reason = "failed", refused[trial.rule]
                else:
                    train_trial(task, config, study, trial, parent, show)
            finally:
                study.write(Path(config.output))
            done += 1
            show(0)
            progress.console.print(_line(study, trial), markup=False, soft_wrap=True)


def _line(study: Study, trial: Trial) -> str:
    what = f"{trial.rule}, seed {trial.seed}:"
    if trial.status == "failed":
        return f"{what} failed: {trial.reason}"
    return f"{what} {study.metric} {trial.metrics[study.metric]:.4g}, {trial.cpu_seconds:.3g} CPU s"


def _report(study: Study, parent: Run, console: Console) -> None:
    """Prints the tables and writes figure and files, into the folder and among the artifacts of the parent."""
    folder = parent.folder.parent.parent
    study.write(folder)
    for name in (STATE, TABLE):
        shutil.copy(folder / name, parent.folder)
    for table in tables(study):
        console.print(table)
    console.print(f"results    {folder / TABLE}", markup=False, soft_wrap=True)
    means = {
        f"{row.rule}/{name}": value.mean for row in study.summary() for name, value in row.metrics.items()
    }
    if means:
        parent.log_metrics(means, step=0)
        shutil.copy(parent.save_figure("rules", draw_rules(study)), folder / FIGURE)
        console.print(f"figure     {folder / FIGURE}", markup=False, soft_wrap=True)
