"""What ``compare`` checks and reads before anything is trained or written."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.commands.nested import FREE, check_digest, check_folder, same_config
from core.commands.train import build_parts
from core.errors import ConfigError
from core.registry import check_options
from core.report.compare import Study, read_study
from core.residual import list_rules, rule_options
from core.task import Task
from core.track.run import Run

SEEDS = 3
"""Seeds of a new comparison."""


@dataclass(frozen=True)
class Wanted:
    """What to compare.

    Attributes:
        rules: Names of residual rules; None for all.
        seeds: Number of seeds, from the configuration's seed on; None for no more than there are.
        folder: Folder of the comparison; None makes one in ``runs/compare``.
    """

    rules: list[str] | None
    seeds: int | None
    folder: Path | None


def check_choice(task: Task, config: Any, rules: list[str] | None) -> None:
    """Raises ``ConfigError`` if the model has no rule to choose, or a rule or its options are unknown."""
    model: Any = getattr(config, "model", None)
    if not hasattr(model, "rule"):
        raise ConfigError(
            f"model {getattr(model, 'name', task.name)!r} of {task.name} has no option `rule`, so there is nothing "
            "to compare; choose another --model"
        )
    for rule in rules or ():
        rule_options(rule)
    if options := getattr(model, "rule_options", {}):
        if rules is not None and model.rule not in rules:
            raise ConfigError(
                f"--model.rule_options are those of --model.rule {model.rule}, which --rules does not name"
            )
        check_options(f"residual rule {model.rule!r}", rule_options(model.rule), options)


def open_study(task: Task, config: Any, data: Any, wanted: Wanted) -> Study:
    """Returns the state of the folder with what is wanted added to it.

    Raises:
        ConfigError: The folder holds something else, or a comparison of another configuration.
    """
    metric = task.primary_metric(config, data)
    study, folder = None, wanted.folder
    if folder is not None:
        study = read_study(folder)
    check_folder(folder, study is not None, "comparison")
    if study is None:
        study = Study(task.name, task.title, data.name, metric, task.higher_is_better)
    else:
        assert folder is not None
        if study.task != task.name:
            raise ConfigError(f"{folder} compares rules in {study.task}; give another --output")
        same_config(folder, config, (*FREE, "seed"))
    new = wanted.seeds if wanted.seeds is not None else 0 if study.trials else SEEDS
    study.extend(
        wanted.rules if wanted.rules is not None else [] if study.trials else list_rules(),
        range(config.seed, config.seed + new),
    )
    return study


def refused_rules(task: Task, config: Any, data: Any, study: Study) -> dict[str, str]:
    """Builds the model with each rule once; returns the reasons of those that do not fit.

    Raises:
        ConfigError: None fits, so that the configuration itself is wrong.
    """
    waiting = list(dict.fromkeys(trial.rule for trial in study.trials if trial.status != "finished"))
    refused = {}
    for rule in waiting:
        try:
            build_parts(task, configure(config, rule, config.seed), data)
        except ConfigError as error:
            refused[rule] = str(error)
        except Exception:  # a defect of the rule: its training meets it again and keeps the traceback
            continue
    if waiting and len(refused) == len(study.rules):
        raise ConfigError(refused[waiting[0]])
    return refused


def configure(config: Any, rule: str, seed: int) -> Any:
    """Returns the configuration of one training; a copy, so that none can change the next one's."""
    changes: dict[str, Any] = {"rule": rule}
    if rule != config.model.rule and hasattr(config.model, "rule_options"):
        changes["rule_options"] = {}
    return copy.deepcopy(replace(config, seed=seed, model=replace(config.model, **changes)))


def known_parent(folder: Path | None, study: Study, uri: str | None, data: Any) -> Run | None:
    """Opens the parent run of a comparison that goes on; None for a new one.

    Raises:
        ConfigError: The data is not what it was.
        TrackingError: The comparison is still running in another process.
    """
    if folder is None or not study.run:
        return None
    parent = Run.open(folder, study.run, uri, study.task)
    check_digest(folder, [known["digest"] for known in parent.record.datasets], data)
    return parent
