"""``python -m tasks.compare``: one model trained with several residual rules and seeds, all else equal.

Whatever is not an option of the comparison goes to the task's own parser. Arguments are read before torch is
imported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from core.cli import default_config, with_one_line_errors
from core.config import RunConfig, check_train
from core.errors import ConfigError
from core.parser import parse, take
from core.task import Task, load_task

OPTIONS = {
    "--task": "Task to compare in.",
    "--rules": "Residual rules, separated by commas; all by default.",
    "--seeds": "Number of seeds for each rule, from --seed on; 3 by default.",
    "--resume": "Continue the comparison in this folder with its configuration; --rules and --seeds add to it.",
}

DESCRIPTION = """\
Trains a small model of a task with each residual rule and seed, prints mean and spread of its test metric, and
writes results.csv, results.json and a figure into the folder --output (by default a new one in runs/compare).
The trainings are nested MLflow runs; no model is registered. --model.rule_options go to --model.rule alone, the
other rules have their defaults. Trainings that the folder holds already are not made again."""

EXAMPLES = """\
Examples:
  python -m tasks.compare --task forecasting
  python -m tasks.compare --task forecasting --rules add,laurel_rw,orthogonal --seeds 5
  python -m tasks.compare --task forecasting --rules add,scaled --model.rule scaled --model.rule_options '{scale: 0.5}'
  python -m tasks.compare --task forecasting --data.path sales.csv --data.horizon 12 --train.steps 200
  python -m tasks.compare --resume runs/compare/20261125-103030-29ac5d --rules decayed
"""

SEVERAL = "With --task the options of that task follow: python -m tasks.compare --task TASK --help"


def main(argv: list[str] | None = None) -> int:
    """Runs the comparison; returns the exit code.

    Args:
        argv: Arguments; those of the process when not given.
    """
    return with_one_line_errors(_compare, argv)


def _compare(argv: list[str]) -> int:
    task, config, rules, seeds, folder = read_arguments(argv)
    from core.commands.compare import Wanted, run

    return run(task, config, Wanted(rules, seeds, folder))


def read_arguments(argv: list[str]) -> tuple[Task, Any, list[str] | None, int | None, Path | None]:
    """Returns the task, its configuration, the rules, the number of seeds and the folder.

    Raises:
        ConfigError: An option of the comparison is wrong; the task's own options end the process as in ``train``.
    """
    from tasks.__main__ import check_task

    options, rest = take(argv, (*OPTIONS, "--output"))
    resume, output = options.get("--resume"), options.get("--output")
    if resume is not None and output is not None:
        raise ConfigError("--resume continues in its own folder; give it without --output")
    known = _known_task(Path(resume)) if resume is not None else None
    name = options.get("--task") or known
    check_task(name, rest)
    rules = _rules(options.get("--rules"))
    seeds = _seeds(options.get("--seeds"))
    if resume is not None:
        rest = ["--config", str(Path(resume) / "config.yaml"), *rest]
    task = load_task(name) if name is not None else None
    config = parse(
        task.config_class if task else RunConfig,
        rest,
        prog=f"python -m tasks.compare{f' --task {name}' if name else ''}",
        description=DESCRIPTION if task else f"{DESCRIPTION}\n\n{SEVERAL}",
        epilog=EXAMPLES,
        models=task.models if task else None,
        default_config=default_config(task) if task and resume is None else None,
        extra=OPTIONS,
    )
    assert task is not None, "help has ended the process"
    check_train(config.train)
    folder = resume or output
    return task, config, rules, seeds, Path(folder) if folder is not None else None


def _known_task(folder: Path) -> str:
    """Returns the task of the comparison in a folder."""
    from core.report.compare import read_study

    study = read_study(folder)
    if study is None:
        raise ConfigError(
            f"--resume {folder}: there is no comparison; name the folder that an earlier one printed"
        )
    return study.task


def _rules(text: str | None) -> list[str] | None:
    """Splits the names; the registry of rules, which needs torch, checks them later."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"--rules {text!r} has an empty name; separate rules by commas")
    return list(dict.fromkeys(names))


def _seeds(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--seeds takes the number of seeds, 1 or more, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
