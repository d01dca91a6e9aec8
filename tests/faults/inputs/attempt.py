"""Runs a command in this process as a user would, and looks at what it said and left."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from core.cli import main
from core.task import Task
from tests.faults.inputs.sound import unsound

SECONDS, WALL = 20, 60
"""Of the processor, and of the clock: a hang uses none of the first, and a busy machine much of the second."""
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Control characters: what a terminal would obey. A line break ends a line and is looked at apart."""


class TimeUp(BaseException):
    """A command took too long."""


@dataclass
class Case:
    """One thing that a user gets wrong.

    Attributes:
        kind: Its category.
        text: What is wrong, for the list of failures.
        command: Command of the task.
        argv: Arguments.
        codes: Exit codes that are right.
        names: Words of which the error has to name one; none where it need not.
        outputs: Files that have to be there where the command succeeds.
        partial: Whether a folder is worked on, of which the good files give results whatever becomes of the bad one.
    """

    kind: str
    text: str
    command: str
    argv: list[str]
    codes: tuple[int, ...]
    names: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    partial: bool = False


@dataclass
class Answer:
    """What became of it.

    Attributes:
        code: Exit code; ``None`` where an exception came out.
        out: Standard output.
        error: Standard error.
        noise: Warnings of libraries and what they wrote past Python's streams.
        wrong: What is not as it has to be.
    """

    code: int | None
    out: str
    error: str
    noise: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def _time_up(*_: object) -> None:
    raise TimeUp


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    kinds = (signal.SIGPROF, signal.SIGALRM)
    before = [signal.signal(kind, _time_up) for kind in kinds]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


@contextlib.contextmanager
def _watched(noise: list[str]) -> Iterator[None]:
    """Takes what libraries write to the file of standard error, and their warnings."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            noise += file.read().decode(errors="replace").splitlines()
            noise += [f"{w.category.__name__}: {w.message}" for w in told]


def call(work: Callable[[], int]) -> Answer:
    """Runs a command; whatever comes out of it is an answer."""
    out, error = io.StringIO(), io.StringIO()
    answer = Answer(None, "", "")
    try:
        with (
            _watched(answer.noise),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(error),
            _limited(),
        ):
            answer.code = work()
    except SystemExit as stop:
        answer.code = stop.code if isinstance(stop.code, int) else 1
    except TimeUp:
        answer.wrong.append(f"takes more than {SECONDS} s of the processor, or {WALL} s")
    except BaseException as escaped:
        text = " ".join(str(escaped).split())[:200]
        answer.wrong.append(f"{type(escaped).__name__} comes out: {text} at {_place(escaped)}")
    answer.out, answer.error = out.getvalue(), error.getvalue()
    return answer


def _place(error: BaseException) -> str:
    """The last line of this repository that an exception went through."""
    place, frame = "", error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if re.search(r"/(core|tasks)/[^:]*$", name) and "site-packages" not in name:
            place = f"{'/'.join(Path(name).parts[-3:])}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place


def hashes(folder: Path) -> dict[str, str]:
    """The files below a folder and their digests."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def attempt(task: Task, case: Case, folder: Path) -> Answer:
    """Runs a case in a folder; ``wrong`` of the answer says what is not as it has to be."""
    before, place = hashes(folder), Path.cwd()
    os.chdir(folder)
    try:
        answer = call(lambda: main(task, case.command, case.argv))
    finally:
        os.chdir(place)
    answer.wrong += _said(case, answer)
    answer.wrong += _left(case, answer, folder, before)
    return answer


def _said(case: Case, answer: Answer) -> list[str]:
    if answer.code is None:
        return []
    wrong = []
    # What a format cannot hold is changed by another name for the output.
    if answer.code not in case.codes and not (
        answer.code == 2 and any(o in answer.error for o in case.outputs)
    ):
        wrong.append(f"exit code {answer.code}, not {' or '.join(map(str, case.codes))}")
    lines = answer.error.splitlines()
    if "Traceback" in answer.out + answer.error:
        wrong.append("a traceback is shown")
    if CONTROL.search(answer.error) or CONTROL.search(answer.out):
        wrong.append("control characters reach the terminal")
    if answer.code == 0:
        return wrong + [f"says on standard error: {line}" for line in lines if not _remark(line)]
    errors = [line for line in lines if re.match(r"(python -m [\w.]+: )?error: ", line)]
    if not errors:
        wrong.append("no line begins with error:")
    if others := [line for line in lines if line not in errors and not _remark(line)]:
        wrong.append(f"beside the error stands: {others[0]}")
    if len(errors) > 1 and case.command != "predict":
        wrong.append(f"{len(errors)} errors")
    if errors and len(max(errors, key=len)) > 3000:
        wrong.append(f"an error of {len(max(errors, key=len))} characters")
    said = " ".join(errors).lower()
    if errors and case.names and not any(name.lower() in said for name in case.names):
        wrong.append(f"names none of {', '.join(case.names)}")
    return wrong


def _remark(line: str) -> bool:
    return line.startswith(("warning: ", "note: "))


def _left(case: Case, answer: Answer, folder: Path, before: dict[str, str]) -> list[str]:
    after = hashes(folder)
    wrong = [f"{name} is lost" for name in before if name not in after]
    changed = [name for name in before if after.get(name, before[name]) != before[name]]
    resumed = any(word.startswith("--resume") for word in case.argv)  # a run keeps its own record
    wrong += [f"{name} is changed" for name in changed if not (resumed and name.startswith("runs/"))]
    new = [name for name in after if name not in before]
    wrong += [f"{name} is left behind" for name in new if name.endswith((".tmp", ".part", ".old"))]
    runs = [name for name in new if name.startswith("runs/")]
    for name in runs:
        if name.endswith("/run.json"):
            status = json.loads((folder / name).read_text())["status"]
            if status != ("FINISHED" if answer.code == 0 else "FAILED"):
                wrong.append(f"a run is {status} after exit code {answer.code}")
    if runs and answer.code == 2:
        wrong.append("a wrong option left a run")
    if answer.code == 0:
        outputs = [folder / name for name in case.outputs]
        if case.command == "train" and not any(name.endswith("package/metadata.json") for name in runs):
            wrong.append("no package")
        wrong += [f"{path.name} is missing" for path in outputs if not path.exists()]
        new = [name for name in new if not name.startswith("runs/") or name.endswith("samples.csv")]
        wrong += [f"{name}: {why}" for name in new if (why := unsound(folder / name))]
    elif answer.code is not None and not case.partial:
        wrong += [f"{name} is written and exit code {answer.code}" for name in new if name not in runs]
    return wrong
