"""``python -m tasks.sweep``: options of a training searched by Optuna, scored on validation data.

Whatever is not an option of the sweep goes to the task's own parser. Arguments, the space and its corners are checked
before torch is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.cli import default_config, with_one_line_errors
from core.commands.sweep_space import Space, flags, read_space
from core.config import RunConfig, check_train, parse_duration
from core.errors import ConfigError
from core.parser import parse, take
from core.report.sweep import read_settings
from core.task import Task, load_task

OPTIONS = {
    "--task": "Task to search in.",
    "--space": "Options and their values, YAML or a YAML file: '{train.lr: log 1e-4..1e-2, model.width: [64, 128]}'; "
    "ranges are low..high, log low..high, and low..high step number.",
    "--trials": "Number of trainings, over all processes that work on the folder; 20 by default.",
    "--sampler": "tpe (learns from the trials before; the default), random, or grid (all combinations of lists).",
    "--pruner": "median (stops a trial that validates worse than the median of the others; the default) or none.",
    "--score": "Validation value to score, NAME or 'max NAME'; by default what early stopping watches.",
    "--max-time": "Time after which no trial begins, such as 90m; the best is still tested.",
    "--scheduler": "here (one trial after the other; the default) or ray (as many as Ray has room for).",
    "--cpus": "Cores of a trial under ray; 1 by default.",
    "--resume": "Continue the sweep in this folder with its configuration, or train along with the process that does.",
}

DESCRIPTION = """\
Searches options of `train` with Optuna. A trial is one training, scored on validation data: what early stopping
watches, at the end of the training. Tasks without validation data keep a fifth of their training images out of the
trials. The test data is not looked at until the end, when the best configuration and the start are trained and tested
once in the normal way; the best is registered. Writes report.html, trials.csv, figures and best.yaml into the folder
--output (by default a new one in runs/sweep); the trials are nested MLflow runs."""

EXAMPLES = """\
Examples:
  python -m tasks.sweep --task forecasting --space '{train.lr: log 1e-4..1e-2, model.width: [64, 128]}'
  python -m tasks.sweep --task csi --space space.yaml --trials 50 --max-time 8h --output runs/csi_sweep
  python -m tasks.sweep --task speech --space '{model.name: [res8, res15], train.lr: log 1e-3..1e-2}' --train.epochs 10
  python -m tasks.sweep --task ecg --space '{model.rule: [add, laurel_rw]}' --sampler grid --score 'max macro_auroc'
  python -m tasks.sweep --resume runs/csi_sweep --trials 80
  python -m tasks.forecasting.train --config runs/sweep/20261130-103030-29ac5d/best.yaml
"""

SEVERAL = "With --task the options of that task follow: python -m tasks.sweep --task TASK --help"


def main(argv: list[str] | None = None) -> int:
    """Runs the sweep; returns the exit code.

    Args:
        argv: Arguments; those of the process when not given.
    """
    return with_one_line_errors(_sweep, argv)


def _sweep(argv: list[str]) -> int:
    from tasks.__main__ import check_task

    argv = [word.replace("--max_time", "--max-time", 1) for word in argv]
    options, rest = take(argv, (*OPTIONS, "--output"))
    resume, output = options.get("--resume"), options.get("--output")
    if resume is not None and output is not None:
        raise ConfigError("--resume continues in its own folder; give it without --output")
    name = options.get("--task") or (_known_task(Path(resume)) if resume is not None else None)
    check_task(name, rest)
    trials, cpus = _count(options, "--trials", 0) or None, _count(options, "--cpus", 1)
    seconds = None
    if "--max-time" in options:
        try:
            seconds = parse_duration(options["--max-time"])
        except ConfigError as error:
            raise ConfigError(str(error).replace("--train.max_time", "--max-time")) from None
    scheduler = options.get("--scheduler", "here")
    if scheduler not in ("here", "ray"):
        raise ConfigError(f"--scheduler {scheduler!r}: use here or ray")
    if resume is not None:
        rest = ["--config", str(Path(resume) / "config.yaml"), *rest]
    task = load_task(name) if name is not None else None
    config = _parse(task, rest, resume is None)
    assert task is not None, "help has ended the process"
    space = _space(task, rest, options.get("--space"), resume is None)
    folder = resume or output
    try:
        from core.commands.sweep import run
        from core.commands.sweep_setup import Wanted
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError("a sweep needs Optuna: pip install '.[sweep]'") from None
    wanted = Wanted(
        argv=rest,
        space=space,
        trials=trials,
        sampler=options.get("--sampler"),
        pruner=options.get("--pruner"),
        metric=options.get("--score"),
        seconds=seconds,
        scheduler=scheduler,
        cpus=cpus,
        folder=Path(folder) if folder is not None else None,
    )
    return run(task, config, wanted)


def _parse(task: Task | None, argv: list[str], new: bool) -> Any:
    config = parse(
        task.config_class if task else RunConfig,
        argv,
        prog=f"python -m tasks.sweep{f' --task {task.name}' if task else ''}",
        description=DESCRIPTION if task else f"{DESCRIPTION}\n\n{SEVERAL}",
        epilog=EXAMPLES,
        models=task.models if task else None,
        default_config=default_config(task) if task and new else None,
        extra=OPTIONS,
    )
    check_train(config.train)
    return config


def _space(task: Task, argv: list[str], text: str | None, new: bool) -> Space | None:
    """Reads the space; its corners are made by the task's own parser."""
    if text is None:
        return None

    def configure(values: Mapping[str, Any]) -> Any:
        return _parse(task, [*argv, *flags(values)], new)

    return read_space(text, configure)


def _known_task(folder: Path) -> str:
    """Returns the task of the sweep in a folder."""
    settings = read_settings(folder)
    if settings is None:
        raise ConfigError(
            f"--resume {folder}: there is no sweep; name the folder that an earlier one printed"
        )
    return settings.task


def _count(options: Mapping[str, str], option: str, default: int) -> int:
    text = options.get(option)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} takes a number, 1 or more, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
