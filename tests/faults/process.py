"""The real commands as processes that may be killed.

A server process imports everything once and forks each command off, so that what is killed is the command and not
Python at its start.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

import core.cli

ROOT = Path(__file__).absolute().parents[2]
PATIENCE = 900.0
"""Seconds after which a process that goes on has hung."""
_LOCK = threading.RLock()  # multiprocessing's list of children is not made for threads


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        task: Task whose ``train`` it is; ``None`` for ``core.track``.
        argv: Arguments.
        folder: Where it works.
        log: File of its standard output; beside it are those of its errors and of the number of its changes.
        kill_at: Which of its changes of files, from 1, it is killed at.
    """

    task: str | None
    argv: list[str]
    folder: Path
    log: Path
    kill_at: int | None = None


@dataclass(frozen=True)
class Said:
    """How a process ended.

    Attributes:
        code: Exit code; -9 for one that was killed.
        out: Standard output.
        error: Standard error.
    """

    code: int
    out: str
    error: str


@dataclass(frozen=True)
class Started:
    """A process that is going on."""

    process: ForkServerProcess
    log: Path

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def code(self) -> int | None:
        """Exit code, ``None`` while it goes on."""
        with _LOCK:
            return self.process.exitcode

    @property
    def seconds(self) -> float:
        """CPU time that it has used, s; 0 when it has ended."""
        try:
            used = psutil.Process(self.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return used.user + used.system

    def kill(self) -> Said:
        """Sends SIGKILL and waits for the end."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> Said:
        """Waits for the end and returns how it was."""
        self.wait_until(lambda: False)
        assert self.code is not None
        error = self.log.with_suffix(".err")
        return Said(self.code, self.log.read_text(errors="replace"), error.read_text(errors="replace"))

    def wait_until(self, happened: Callable[[], Any]) -> bool:
        """Waits until something has happened or the process has ended, and returns whether it has happened."""
        until = time.monotonic() + PATIENCE
        while not happened():
            if self.code is not None:
                return bool(happened())
            assert time.monotonic() < until, f"{self.log} goes on for more than {PATIENCE:.0f} s"
            time.sleep(0.005)
        return True


def start(job: Job) -> Started:
    """Starts a process."""
    job.log.touch()
    job.log.with_suffix(".err").touch()
    with _LOCK:
        process = _server().Process(target=_work, args=(job,))
        process.start()
    return Started(process, job.log)


def one_line(said: Said, *words: str) -> list[str]:
    """Returns what is wrong with a failure: it has to be one line with these words in it, and exit code 1 or 2."""
    if said.code not in (1, 2):
        return [f"exit code {said.code}"]
    errors = [line for line in said.error.splitlines() if not line.startswith("warning: ")]
    if len(errors) != 1 or not errors[0].startswith("error: "):
        return [f"{len(errors)} lines, the last one: {(errors or ['-'])[-1]}"]
    return [f"{word!r} is not in: {errors[0]}" for word in words if word not in errors[0]]


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.warm"])
    former = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return context


def _work(job: Job) -> None:
    """The forked process: the real command, with its own streams and folder."""
    for stream, path in ((1, job.log), (2, job.log.with_suffix(".err"))):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, stream)
        os.close(target)
    os.chdir(job.folder)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    sys.argv = [f"{job.task or 'track'}.py", *job.argv]
    changes = _Changes(job.kill_at)
    sys.addaudithook(changes)

    if job.task is None:
        code = importlib.import_module("core.track.__main__").main(job.argv)
    else:
        code = core.cli.main(importlib.import_module(f"tasks.{job.task}.task").TASK, "train", job.argv)
    sys.stdout.flush()
    if job.kill_at is None:
        job.log.with_suffix(".changes").write_text(str(changes.count))
    sys.exit(code)


class _Changes:
    """Counts the changes of files that Python makes, and kills its process just before one of them.

    SQLite and other libraries in C are not seen, but there are changes before and after each of theirs.
    """

    KINDS = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})

    def __init__(self, kill_at: int | None) -> None:
        self.count, self.kill_at = 0, kill_at

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR) or isinstance(path, int):
                return
        elif event not in self.KINDS:
            return
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
