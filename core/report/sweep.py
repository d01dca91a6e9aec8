"""Results of a sweep: what it is, one row a trial, ``trials.csv`` and the page."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigError
from core.report.pages import render
from core.track.folder import write_atomic

STATE, TABLE, PAGE, BEST = "sweep.yaml", "trials.csv", "report.html", "best.yaml"
DEFAULT_METRIC = "score"
"""What early stopping watches."""


@dataclass(frozen=True)
class Settings:
    """What a sweep is; the content of ``sweep.yaml``.

    Attributes:
        task: Name of the task.
        space: What :func:`core.commands.sweep_space.read_space` reads.
        trials: Number of trainings.
        sampler: How values are drawn.
        pruner: Which trainings are stopped early.
        metric: Validation value that is scored; :data:`DEFAULT_METRIC` is what early stopping watches.
        higher_is_better: Its direction.
        seed: Seed of the draws.
        data: Name of the data.
        digest: Its digest.
        run: Folder name of the parent run.
        mlflow_run_id: Of the parent run.
    """

    task: str
    space: dict[str, Any]
    trials: int
    sampler: str
    pruner: str
    metric: str
    higher_is_better: bool
    seed: int
    data: str
    digest: str
    run: str = ""
    mlflow_run_id: str | None = None

    @property
    def direction(self) -> str:
        """``higher is better`` or ``lower is better``."""
        return f"{'higher' if self.higher_is_better else 'lower'} is better"


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        number: Its number.
        state: ``finished``, ``pruned``, ``failed`` or ``running``.
        value: Its score on the validation data; that of the last validation for a pruned one.
        values: Option to value.
        seconds: Wall-clock time.
        run: Name of the run's folder.
        reason: Why it failed, or when it was pruned.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]
    seconds: float = 0.0
    run: str = ""
    reason: str = ""


@dataclass
class Tested:
    """One of the two configurations that were tested.

    Attributes:
        name: ``best`` or ``start``.
        trial: Number of the trial with these values; None where no trial was the start.
        run: Name of the run's folder.
        metrics: Metrics on the test data, those of the classical methods under ``baseline/<method>/``.
        reason: Why the training failed; empty if it did not.
    """

    name: str
    trial: int | None
    run: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def read_settings(folder: Path) -> Settings | None:
    """Reads what the sweep in a folder is; None where there is none.

    Raises:
        ConfigError: The file cannot be read.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return Settings(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path} cannot be read as a sweep ({' '.join(str(error).split())}); start again with another --output"
        ) from None


def best_of(rows: list[Row], settings: Settings) -> Row | None:
    """Returns the finished trial with the best score; the earliest of equal ones."""
    done = [row for row in rows if row.state == "finished" and row.value is not None]
    sign = -1 if settings.higher_is_better else 1
    return min(done, key=lambda row: (sign * (row.value or 0.0), row.number), default=None)


def table(rows: list[Row], settings: Settings) -> str:
    """Returns ``trials.csv``: a row a trial, its options under their names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", settings.metric, *settings.space, "seconds", "run", "reason"])
    for row in rows:
        value = "" if row.value is None else row.value
        options = [row.values.get(key, "") for key in settings.space]
        writer.writerow([row.number, row.state, value, *options, f"{row.seconds:.1f}", row.run, row.reason])
    return text.getvalue()


def baselines(tested: list[Tested], metric: str) -> dict[str, float]:
    """Returns the test scores of the classical methods by name."""
    found: dict[str, float] = {}
    for entry in tested:
        for key, value in entry.metrics.items():
            kind, _, rest = key.partition("/")
            method, _, name = rest.partition("/")
            if kind == "baseline" and name == metric:
                found.setdefault(method, value)
    return found


def write_page(
    folder: Path,
    title: str,
    settings: Settings,
    rows: list[Row],
    tested: list[Tested],
    metric: str,
    higher_is_better: bool,
    figures: list[tuple[str, str]],
    best: str,
) -> Path:
    """Writes the page and returns its path; pictures are inside the file.

    Args:
        folder: Folder of the sweep.
        title: Heading.
        settings: What the sweep is.
        rows: Trials.
        tested: What was tested.
        metric: Primary metric of the test.
        higher_is_better: Direction of the test metric.
        figures: Captions and ``data:`` addresses.
        best: The best configuration as YAML.
    """
    sign = -1 if settings.higher_is_better else 1
    order = sorted(rows, key=lambda row: (row.state != "finished", sign * (row.value or 0.0), row.number))
    page = render(
        "sweep.html",
        title=title,
        settings=settings,
        rows=order,
        tested=tested,
        metric=metric,
        baselines=baselines(tested, metric),
        test_direction="higher" if higher_is_better else "lower",
        figures=figures,
        best=best,
        counts={s: sum(row.state == s for row in rows) for s in ("finished", "pruned", "failed", "running")},
    )
    path = folder / PAGE
    write_atomic(path, page)
    return path
