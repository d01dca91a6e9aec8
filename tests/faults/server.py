"""A tracking server that dies, or hangs, while a training goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from core.train.checkpoint import LAST
from tests.faults.kills import Whole
from tests.faults.process import PATIENCE
from tests.faults.scenario import Options, Outcome
from tests.faults.store import read_store
from tests.faults.training import Training, World

TASK = "forecasting"


@dataclass
class Server:
    """``mlflow server`` over a database, on the loopback interface.

    Attributes:
        store: The database; the artifacts lie beside it.
        port: Port that it listens on.
    """

    store: Path
    port: int = field(default_factory=lambda: _free_port())
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        words = [
            "--backend-store-uri",
            f"sqlite:///{self.store}",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        place = ["--artifacts-destination", str(self.store.parent / "mlruns"), "--workers", "1"]
        with open(self.store.with_name("server.log"), "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words, *place],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.store.parent,
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=5):
                return
            assert self._process.poll() is None, f"the server ended: {self.store.with_name('server.log')}"
            time.sleep(0.1)
        raise AssertionError(f"the server does not answer at {self.address}")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to it and its workers."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL to it and its workers."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def serving(folder: Path, world: World) -> Iterator[Server]:
    """A server over an empty store in ``folder``; it is killed in the end."""
    folder.mkdir(parents=True)
    store = folder / "mlflow.db"
    store.write_bytes(world.store.read_bytes())
    server = Server(store)
    try:
        server.start()
        yield server
    finally:
        server.kill()


MOMENTS: dict[str, Callable[[Training], bool]] = {
    "before the run": lambda training: True,
    "in training": lambda training: any((folder / LAST).exists() for folder in training.checkpoints),
    "with the package written": lambda training: any(
        run.joinpath("package", "metadata.json").exists() for run in training.runs
    ),
    "with the report written": lambda training: any(
        run.joinpath("report.html").exists() for run in training.runs
    ),
}
"""What there is when the server is struck."""


def run(options: Options) -> list[Outcome]:
    """Kills the server, and stops it, at several moments."""
    world = World.make(options.folder / "world")
    folder = options.folder / "server"
    with serving(folder / "whole" / "store", world) as server:
        training = Training.new(TASK, folder / "whole" / "work", world, tracking=server.address)
        said = training.run()
        assert said.code == 0 and not said.error, said.error
        server.kill()
        whole = Whole(training.facts, read_store(server.store), 0.0, 0)
    return [
        _strikes("is killed", signal.SIGKILL, list(MOMENTS), folder, world, whole),
        # Each takes as long as the training waits for an answer, a minute or so.
        _strikes("hangs", signal.SIGSTOP, ["in training"], folder, world, whole),
    ]


def _strikes(
    what: str, number: signal.Signals, moments: list[str], folder: Path, world: World, whole: Whole
) -> Outcome:
    failures = []
    for index, moment in enumerate(moments):
        place = folder / f"{number.name}{index}"
        wrong = strike(place, world, number, MOMENTS[moment], whole)
        failures += [f"{moment}, {place}: {'; '.join(wrong)}"] if wrong else []
    figures = f"{', '.join(moments)}: one line, then sync uploads the rest"
    passed = len(moments) - len(failures)
    return Outcome(f"the tracking server {what}", len(moments), passed, figures, failures)


def strike(
    folder: Path, world: World, number: signal.Signals, reached: Callable[[Training], bool], whole: Whole
) -> list[str]:
    """Strikes the server of a training, then starts it anew and uploads; returns what is wrong."""
    with serving(folder / "store", world) as server:
        training = Training.new(TASK, folder / "work", world, tracking=server.address)
        started = training.start()
        started.wait_until(lambda: reached(training))
        server.send(number)
        said = started.wait()
        wrong = training.differences(whole.facts, said)
        lines = said.error.splitlines()
        if len(lines) != 1 or not lines[0].startswith("warning: ") or "core.track sync" not in lines[0]:
            wrong.append(f"not one warning: {said.error.strip()[-300:]!r}")
        server.kill()
        server.start()
        synced = training.go_on().wait()
        if synced.code or synced.error:
            wrong.append(f"sync ended with {synced.code}: {synced.error.strip()[-300:]}")
        server.kill()
        return wrong or read_store(server.store).differences(whole.held)
