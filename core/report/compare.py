"""Results of one model trained with several residual rules and seeds: state on disk, mean and spread.

``results.json`` is the whole state, rewritten after every training; ``results.csv`` has one row a training.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.files import load_json
from core.track.folder import finite, write_atomic

STATE, TABLE, FIGURE, CONFIG = "results.json", "results.csv", "rules.png", "config.yaml"
REFERENCE = "add"
"""Rule that the others are compared with."""


@dataclass
class Trial:
    """One training.

    Attributes:
        status: ``waiting``, ``finished``, ``failed`` or ``interrupted``.
        reason: Why it failed.
        metrics: Test metrics.
        cpu_seconds: Processor time of the fit, all threads.
        seconds: Wall-clock time of the fit.
        run: Name of the run's folder.
    """

    rule: str
    seed: int
    status: str = "waiting"
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    run: str = ""


@dataclass(frozen=True)
class Spread:
    """Statistics of a few values: sample standard deviation (n - 1; nan for one value), smallest, largest."""

    count: int
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class RuleSummary:
    """What the seeds of a rule come to.

    Attributes:
        metrics: The primary metric and its parts over the seeds that finished.
        difference: Primary metric minus that of ``add`` with the same seed; None without a common seed.
        cpu_seconds: Of the fits; None if none finished.
        failures: Trainings that failed.
    """

    rule: str
    metrics: dict[str, Spread]
    difference: Spread | None
    cpu_seconds: Spread | None
    failures: list[Trial]


@dataclass
class Study:
    """All trainings of a comparison.

    Attributes:
        run: Folder name of the parent run.
        metric: Primary metric.
    """

    task: str
    title: str
    data: str
    metric: str
    higher_is_better: bool
    run: str = ""
    trials: list[Trial] = field(default_factory=list)

    @property
    def rules(self) -> list[str]:
        """Rules in the order in which they were asked for."""
        return list(dict.fromkeys(trial.rule for trial in self.trials))

    @property
    def seeds(self) -> list[int]:
        """Seeds in the order in which they were asked for."""
        return list(dict.fromkeys(trial.seed for trial in self.trials))

    def extend(self, rules: Iterable[str], seeds: Iterable[int]) -> None:
        """Adds the trainings that are missing for every rule, old or new, with every seed."""
        known = {(trial.rule, trial.seed): trial for trial in self.trials}
        all_rules = dict.fromkeys([*self.rules, *rules])
        # Seed by seed, so that a comparison that is stopped has all rules with as many seeds.
        self.trials = [
            known.get((rule, seed)) or Trial(rule, seed)
            for seed in dict.fromkeys([*self.seeds, *seeds])
            for rule in all_rules
        ]

    def count(self, status: str) -> int:
        """Number of trainings with this status."""
        return sum(trial.status == status for trial in self.trials)

    def metric_names(self) -> list[str]:
        """The primary metric and then its parts, of any training that has finished."""
        names = dict.fromkeys(name for trial in self.trials for name in trial.metrics)
        return sorted((n for n in names if n.split("/")[-1] == self.metric), key=lambda n: n != self.metric)

    def summary(self) -> list[RuleSummary]:
        """Returns one entry a rule, the best first; rules without a result, or an infinite one, come last."""
        reference = {t.seed: t for t in self._finished(REFERENCE)}
        rows = []
        for rule in self.rules:
            done = self._finished(rule)
            metrics = {
                name: spread([t.metrics[name] for t in done if name in t.metrics])
                for name in self.metric_names()
                if any(name in t.metrics for t in done)
            }
            differences = [
                t.metrics[self.metric] - reference[t.seed].metrics[self.metric]
                for t in done
                if t.seed in reference
            ]
            rows.append(
                RuleSummary(
                    rule,
                    metrics,
                    spread(differences) if differences else None,
                    spread([t.cpu_seconds for t in done]) if done else None,
                    [t for t in self.trials if t.rule == rule and t.status == "failed"],
                )
            )
        return sorted(rows, key=self._rank)

    def _finished(self, rule: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.rule == rule and trial.status == "finished"]

    def _rank(self, row: RuleSummary) -> tuple[bool, float]:
        mean = row.metrics[self.metric].mean if row.metrics else math.nan
        return not math.isfinite(mean), (-mean if self.higher_is_better else mean) if row.metrics else 0.0

    def write(self, folder: Path) -> None:
        """Writes ``results.json`` and ``results.csv`` into a folder."""
        content = asdict(self) | {"summary": [asdict(row) for row in self.summary()]}
        text = json.dumps(finite(content), indent=2, allow_nan=False)
        write_atomic(folder / STATE, text + "\n")
        write_atomic(folder / TABLE, self._csv())

    def _csv(self) -> str:
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.metrics))
        plain = ("rule", "seed", "status", "cpu_seconds", "seconds", "run", "reason")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*plain, *names])
        for trial in self.trials:
            values = [getattr(trial, name) for name in plain]
            writer.writerow([*values, *(trial.metrics.get(name, "") for name in names)])
        return text.getvalue()


def spread(values: Sequence[float]) -> Spread:
    """Returns the statistics of one or more values."""
    count = len(values)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    deviation = math.sqrt(squares / (count - 1)) if count > 1 else math.nan
    return Spread(count, mean, deviation, min(values), max(values))


def read_study(folder: Path) -> Study | None:
    """Reads the state of a comparison; None where there is none.

    Raises:
        ConfigError: The file cannot be read.
    """
    path = folder / STATE
    if not path.exists() or not (folder / CONFIG).exists():
        return None
    try:
        content: dict[str, Any] = load_json(path.read_text(encoding="utf-8"))
        content.pop("summary")
        trials = [Trial(**entry) for entry in content.pop("trials")]
        for trial in trials:  # strict JSON has nan as a string
            trial.metrics = {name: float(value) for name, value in trial.metrics.items()}
        return Study(**content, trials=trials)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read as a comparison ({error}); start again with another --output"
        ) from None
