"""What a task tells the shared machinery. Imports no heavy library: ``--help`` loads this file.

A task package exports ``TASK``, one object of a :class:`Task` subclass, from ``tasks/<name>/task.py``.
The commands of :mod:`core.cli` call its methods in the order in which they stand here.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from core.config import to_dict
from core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from core.registry import Registry
    from core.track.package import Package
    from core.train.learner import BatchSource, Learner


class Dataset(Protocol):
    """Data that was read and checked. Subclasses add what their task needs."""

    name: str
    """Short name: ``tourism``, or the file's name."""
    notes: list[str]
    """What the loader dropped, filled or assumed, one line each."""

    @property
    def size(self) -> int:
        """Number of samples (series, images, records)."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the content; equal digests mean the same data and the same split."""


def data_record(data: Dataset, options: Any = None) -> dict[str, Any]:
    """Returns what records say of data: name, number of samples, digest, and the options that read it.

    Args:
        data: The data.
        options: ``data`` of a configuration, with what was found in the files, so that others are read in the same way.
    """
    record = {"name": data.name, "size": data.size, "digest": data.digest}
    return record if options is None else record | {"config": to_dict(options)}


@dataclass
class Part:
    """One model of a run and the batches it learns from.

    Most tasks have one part; others fit several in turn under one progress bar: a frequency, a fold, a scale.
    """

    name: str
    learner: Learner
    source: BatchSource
    note: str = ""
    """What the task decided for it and the user should know, one line."""
    why: list[str] = field(default_factory=list)
    """Why it decided so, one line for each choice."""


@dataclass
class Evaluation:
    """Scores of one method on the held-out data.

    Attributes:
        metrics: Flat names to values, ``"mape"`` for the whole set and ``"Yearly/mape"`` for a part of it.
        rows: One row a sample; becomes the per-sample CSV.
        outputs: What figures need (forecasts, images); never written as is.
        notes: What the reader of the scores should know, one line each.
    """

    metrics: dict[str, float]
    rows: pd.DataFrame | None = None
    outputs: Any = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Packaged:
    """Content of a model package, see :mod:`core.track.package`."""

    config: dict[str, Any]
    tensors: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


class Task(ABC):
    """Everything that the shared commands need to know of a task."""

    name: ClassVar[str]
    """Package name: ``forecasting``. Also the experiment ``skipway/<name>`` and the model ``skipway-<name>``."""
    summary: ClassVar[str]
    """One line for listings."""
    config_class: ClassVar[type]
    """Configuration of ``train``, a :class:`core.config.RunConfig`."""
    evaluate_class: ClassVar[type]
    """Configuration of ``evaluate``, a :class:`core.config.EvaluateConfig`."""
    predict_class: ClassVar[type]
    """Configuration of ``predict``, a :class:`core.config.PredictConfig`."""
    examples: ClassVar[dict[str, list[str]]]
    """Command lines for the help text of each command."""
    title: ClassVar[str]
    """Heading of the model's column in tables: ``N-BEATS``."""
    models: ClassVar[Registry[type]]
    """Model name to the dataclass that configures it."""
    datasets: ClassVar[dict[str, str]]
    """Names that ``--data.name`` takes, with one line on each."""
    higher_is_better: ClassVar[bool]
    """Direction of the primary metric."""
    unit: ClassVar[str] = ""
    """Unit in which two values of the primary metric are compared, such as dB; empty for percent."""
    trained_for: ClassVar[tuple[str, ...]] = ()
    """Options of ``data`` that ``evaluate`` takes over from the model where they are not given: what it is for."""
    bundled: ClassVar[dict[str, str]] = {}  # ClassVar
    """Trained models inside the package, ``tasks/<name>/weights/<model>``, with one line on each; the first is used
    where there is no champion."""
    more_commands: ClassVar[dict[str, str]] = {}  # ClassVar
    """Commands beside the usual ones, ``python -m tasks.<name>.<command>``, with one line on each."""
    limits: ClassVar[tuple[str, ...]] = ()
    """What its models are not for, one sentence each: a part of every model card."""
    live_inputs: ClassVar[tuple[str, ...]] = ()
    """What ``predict --input`` takes besides paths, such as ``-`` for standard input."""

    @property
    def registered_name(self) -> str:
        """Name in the model registry."""
        return f"skipway-{self.name}"

    def variant(self, objective: str | None) -> Task:
        """Returns the task for another objective than its own, such as pre-training; its own for ``None``.

        Args:
            objective: ``objective`` of a configuration, or of a package's ``config.json``.
        """
        return self

    def prepare(self, config: Any) -> Any:
        """Completes the configuration of a training by what it refers to, such as a model that is extended.

        What is returned is saved with the run; a run that is resumed or repeated comes here with it.
        """
        return config

    @abstractmethod
    def load(self, config: Any) -> Dataset:
        """Reads and checks the data of ``config.data``. Raises ``DataError``."""

    @abstractmethod
    def primary_metric(self, config: Any, data: Any) -> str:
        """Name of the metric that decides about promotion, for this data."""

    @abstractmethod
    def parts(self, config: Any, data: Any) -> list[Part]:
        """Builds the learners and their batches."""

    @abstractmethod
    def package(self, config: Any, data: Any, learners: dict[str, Any]) -> Packaged:
        """Turns trained learners into what is saved and shipped."""

    @abstractmethod
    def predictor(self, package: Package) -> Any:
        """Rebuilds the trained model from a package, ready to predict."""

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """Rebuilds the network of each part from a package, for ``--train.teacher``.

        Returns:
            Part name to a trained module with the interface of the part's ``learner.model``.

        Raises:
            ConfigError: The task has no such networks.
        """
        raise ConfigError(f"--train.teacher: the task {self.name} cannot learn from a teacher; leave it off")

    def first_weights(self, package: Package, part: str, data: Any) -> dict[str, Tensor]:
        """Returns the tensors of a trained package under the names of a part's ``learner.model``.

        For ``--train.start_from``. The default is right for tasks of one part whose package holds its model and whose
        outputs mean the same for all data.
        """
        return package.tensors()

    @abstractmethod
    def evaluate(self, predictor: Any, config: Any, data: Any) -> Evaluation:
        """Scores a predictor on the held-out data."""

    @abstractmethod
    def baselines(self, config: Any, data: Any) -> dict[str, Evaluation]:
        """Scores the classical methods on the same held-out data; the first one decides about promotion."""

    def notes(self, parts: list[Part]) -> list[str]:
        """Returns what the task decided before training and the user should know, one line each; equal ones once."""
        said = [part.note for part in parts] + [line for part in parts for line in part.why]
        return list(dict.fromkeys(line for line in said if line))

    @abstractmethod
    def figures(
        self, predictor: Any, config: Any, data: Any, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """Yields named pictures; ``results`` holds the model's evaluation under ``"model"`` and the baselines'."""

    @abstractmethod
    def predict(self, predictor: Any, config: Any) -> list[str]:
        """Reads ``config.input``, writes ``config.output``; returns one line for each input that failed."""

    def default_output(self, predictor: Any, config: Any) -> str | None:
        """Returns where ``predict`` writes without ``--output``; ``None`` where the user has to say it."""
        return None

    def writes_to_stdout(self, config: Any) -> bool:
        """Whether ``predict`` writes its results to standard output, where nothing else may stand then."""
        return False

    @abstractmethod
    def serve(self, predictor: Any, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers one request of the MLflow pyfunc."""

    @abstractmethod
    def example(self, predictor: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
        """An input example for :meth:`serve` and its default parameters."""

    @abstractmethod
    def export(self, predictor: Any, folder: Path, format: str) -> list[Path]:
        """Writes ``onnx`` or ``pt2`` programs and checks that they give the predictor's output.

        Networks go through :func:`core.compress.folding.deploy` first.
        """


def task_of(package: Package) -> Task:
    """Returns the task that made a package, for its objective."""
    return load_task(package.task).variant(package.config.get("objective"))


def load_task(name: str) -> Task:
    """Imports ``tasks.<name>.task`` and returns its ``TASK``."""
    if not name.isidentifier():
        raise ConfigError(f"{name!r} is not the name of a task")
    try:
        module = importlib.import_module(f"tasks.{name}.task")
    except ModuleNotFoundError as error:
        if error.name in ("tasks", f"tasks.{name}", f"tasks.{name}.task"):
            raise ConfigError(
                f"there is no task {name!r} in this installation; see `python -m tasks`"
            ) from None
        raise
    return module.TASK
