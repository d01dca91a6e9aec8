"""Small trainings of three tasks, and what has to be equal when they have ended."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.track.package import WEIGHTS, file_digest
from tests.faults.process import Job, Said, Started, start

_MEASURED = re.compile(r"^system/|cpu_s|seconds|real_time|_ms\b")


def is_measured(metric: str) -> bool:
    """Whether a metric is a time or a load of the machine, which no two trainings share."""
    return _MEASURED.search(metric) is not None


LOOP = (
    "--train.log_every=1",
    "--train.checkpoint_minutes=0",
    "--train.device=cpu",
    "--train.tune_allocator=false",
)
OPTIONS = {
    "forecasting": (
        "--data.path=sales.csv",
        "--model.lookbacks=[2, 3]",
        "--model.blocks=2",
        "--model.width=16",
        "--train.steps=8",
        "--train.batch_size=8",
    ),
    "speech": (
        "--data.path=words",
        "--data.least=8",
        "--data.rate=4000",
        "--data.variants=2",
        "--features.window=160",
        "--features.hop=80",
        "--features.high=2000",
        "--features.mels=20",
        "--features.coefficients=20",
        "--model.width=8",
        "--train.epochs=4",
        "--train.batch_size=8",
    ),
    "ecg": (
        "--data.path=records",
        r"--data.patient=P\d+",
        "--data.test_share=0.4",
        "--data.rate=50",
        "--crop=1.28",
        "--model=xresnet1d18",
        "--model.width=4",
        "--model.layers=[1, 1]",
        "--train.epochs=4",
        "--train.batch_size=4",
        "--scoring.bootstrap=20",
    ),
}
TASKS = tuple(OPTIONS)


def make_data(folder: Path) -> Path:
    """Writes what the trainings of all tasks read, and returns the folder."""
    import numpy as np
    import pandas as pd

    from tasks.ecg.data.synthetic import write_records
    from tasks.speech.data.synthetic import write_words

    folder.mkdir(parents=True)
    months = pd.period_range("2015-01", periods=60, freq="M").start_time.strftime("%Y-%m-%d")
    rng = np.random.default_rng(0)
    season = 10 * np.sin(2 * np.pi * np.arange(60) / 12)
    series = [
        pd.DataFrame({"unique_id": f"s{i}", "ds": months, "y": 50 * i + 50 + season + rng.normal(size=60)})
        for i in range(6)
    ]
    pd.concat(series).to_csv(folder / "sales.csv", index=False)
    write_words(folder / "words", words=("lana", "misu"), speakers=10, clips=1)
    write_records(folder / "records", records=40)
    return folder


@dataclass(frozen=True)
class Facts:
    """What a training has to end with, whatever happened to it.

    Attributes:
        metrics: Test and baseline metrics, without those that are times.
        weights: SHA-256 of the weights that ship.
    """

    metrics: dict[str, str]
    weights: str


@dataclass(frozen=True)
class Training:
    """A training of one task in its own folder, which holds links to the data.

    Attributes:
        task: Name of the task.
        folder: Where it works.
        tracking: Address of its store.
        output: Its output folder.
        options: Options beside those of :data:`OPTIONS`.
    """

    task: str
    folder: Path
    tracking: str = "sqlite:///mlflow.db"
    output: str = "runs"
    options: tuple[str, ...] = ()

    @classmethod
    def new(cls, task: str, folder: Path, world: World, **settings: Any) -> Training:
        """Makes its folder, with an empty store unless another one is named."""
        folder.mkdir(parents=True)
        for entry in world.data.iterdir():
            (folder / entry.name).symlink_to(entry)
        made = cls(task, folder, **settings)
        if made.tracking == cls.tracking:
            shutil.copy(world.store, folder / "mlflow.db")
        return made

    @property
    def place(self) -> tuple[str, str]:
        """Options that say where everything goes."""
        return f"--output={self.output}", f"--tracking={self.tracking}"

    def start(self, *words: str, kill_at: int | None = None) -> Started:
        """Starts the training.

        Args:
            words: More options; with ``--resume`` among them those of the task are the run's.
            kill_at: Which of its changes of files, from 1, it is killed at.
        """
        own = () if "--resume" in words else (*OPTIONS[self.task], *LOOP, *self.options)
        return self._start(self.task, [*own, *self.place, *words], kill_at)

    def run(self, *words: str) -> Said:
        """Trains to the end, whatever that is."""
        return self.start(*words).wait()

    def go_on(self, kill_at: int | None = None) -> Started:
        """Does what a user does after a failure: starts anew if there is no run, else resumes or uploads the last."""
        if not self.runs:
            return self.start(kill_at=kill_at)
        if self.record["status"] != "FINISHED":
            return self.start("--resume", "last", kill_at=kill_at)
        return self._start(None, ["sync", self.output], kill_at=kill_at)

    def _start(self, task: str | None, argv: list[str], kill_at: int | None = None) -> Started:
        log = self.folder / f"log.{len(list(self.folder.glob('log.*.out'))) + 1}.out"
        return start(Job(task, argv, self.folder, log, kill_at))

    @property
    def runs(self) -> list[Path]:
        """Its run folders that have begun, the oldest first."""
        found = (self.folder / self.output / self.task).glob("*/config.yaml")
        return sorted(path.parent for path in found if (path.parent / "run.json").exists())

    @property
    def last(self) -> Path:
        """Its newest run folder."""
        return self.runs[-1]

    @property
    def record(self) -> dict[str, Any]:
        """Content of the newest run's ``run.json``."""
        return json.loads((self.last / "run.json").read_text())

    @property
    def checkpoints(self) -> list[Path]:
        """The folders of checkpoints that hold one."""
        found = (self.folder / self.output / self.task).glob("*/checkpoints/*/last.pt")
        return sorted(path.parent for path in found)

    @property
    def facts(self) -> Facts:
        """What the newest run ended with."""
        metrics = {
            name: repr(value)
            for name, value in self.record["metrics"].items()
            if name.split("/")[0] in ("test", "baseline") and not is_measured(name)
        }
        return Facts(metrics, file_digest(self.last / "package" / WEIGHTS))

    def differences(self, expected: Facts, said: Said) -> list[str]:
        """Returns what differs between this run and an uninterrupted one, a line for each thing."""
        if said.code != 0:
            return [f"exit code {said.code}: {(said.error.splitlines() or ['nothing said'])[-1]}"]
        found = self.facts
        names = expected.metrics.keys() | found.metrics.keys()
        wrong = [name for name in sorted(names) if expected.metrics.get(name) != found.metrics.get(name)]
        lines = [f"{name}: {found.metrics.get(name)}, not {expected.metrics.get(name)}" for name in wrong[:3]]
        if found.weights != expected.weights:
            lines.append("the weights differ")
        return lines + [f"left over: {path.name}" for path in self.last.rglob(".*")]


@dataclass(frozen=True)
class World:
    """What all trainings share.

    Attributes:
        data: Folder of the data.
        store: An empty tracking database to copy; making one takes seconds.
    """

    data: Path
    store: Path

    @classmethod
    def make(cls, folder: Path) -> World:
        """Makes it below ``folder``, once."""
        from core.track.store import prepare, sqlite_uri

        world = cls(folder / "data", folder / "empty" / "mlflow.db")
        if not folder.exists():
            make_data(world.data)
            prepare(sqlite_uri(world.store))
        return world
