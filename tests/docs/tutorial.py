"""Follows a tutorial: writes its files, makes its changes, runs its commands in a copy of the repository.

A line says what is done with the code block below it: `` `path`: `` a new file, ``Append to `path`:`` its end,
``Change `path`:`` a ``diff`` whose lines must be found once. Blocks of kind ``console`` hold commands behind ``$`` and
what they print, where ``...`` stands for any lines, and numbers may differ from machine to machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import warm

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("core", "tasks", "tests", "mlflow", "docs", "pyproject.toml", "MLproject", "README.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
HEADS = {
    "write": re.compile(r"^`([^`]+)`:$"),
    "append": re.compile(r"^Append to `([^`]+)`:$"),
    "change": re.compile(r"^Change `([^`]+)`:$"),
}
BORDERS = re.compile("[\u2500-\u257f]")
NUMBER = re.compile(r"[+-]?\d[\d.,:]*(?:e[+-]?\d+)?")
NAME_OF_RUN = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{6}\b")
DIGEST = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{12}\b")


@dataclass(frozen=True)
class Step:
    """One block: what is done, with which file (of commands none), and its text."""

    kind: str
    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command, and the lines that it is said to print."""

    words: str
    shown: list[str]


def read_steps(page):
    """The steps of a page in their order; a block that is neither is an error."""
    steps = []
    for fence in FENCE.finditer(page):
        kind, text = fence.groups()
        head = page[: fence.start()].rstrip("\n").rpartition("\n")[2]
        found = [(name, m.group(1)) for name, pattern in HEADS.items() if (m := pattern.match(head))]
        if kind == "console":
            steps.append(Step("run", "", text))
        elif found:
            steps.append(Step(*found[0], text))
        else:
            assert kind == "text", f"no line says what this block is for:\n{head}\n{fence.group(0)}"
    return steps


def read_commands(text):
    """The commands of a console block with what they print."""
    commands = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], []))
        else:
            commands[-1].shown.append(line)
    return commands


def copy_repository(folder):
    """Copies what a tutorial may change or run, with its compiled files."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc.*", "api"))
        else:
            shutil.copy2(source, target)


def follow(page, folder, tools):
    """Makes every step of a page in a copy of the repository, with the commands of a folder first."""
    for step in read_steps(page):
        path = folder / step.path
        if step.kind == "run":
            for command in read_commands(step.text):
                check_output(command, run(command.words, folder, tools))
        elif step.kind == "write":
            assert not path.exists(), f"{step.path} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
        elif step.kind == "append":
            with path.open("a", encoding="utf-8") as file:
                file.write(("\n\n" if path.suffix == ".py" else "") + step.text)
        else:
            path.write_text(changed(path.read_text(encoding="utf-8"), step), encoding="utf-8")


def changed(text, step):
    """The text after a diff without line numbers, parts of which are set apart by ``@@``."""
    for hunk in re.split(r"^@@.*\n", step.text, flags=re.M):
        lines = [(line[:1], line[1:]) for line in hunk.splitlines()]
        old = "".join(f"{line}\n" for sign, line in lines if sign != "+")
        new = "".join(f"{line}\n" for sign, line in lines if sign != "-")
        assert text.count(old) == 1, f"{step.path}: these lines are there {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    return text


@contextmanager
def warm_python():
    """A folder with a ``python`` that has the heavy libraries loaded, for :func:`follow`."""
    with tempfile.TemporaryDirectory() as name:  # a short one: the length of a socket's path is limited
        tools, path = Path(name), Path(name) / "socket"
        (tools / "python").write_text(warm.client(path), encoding="utf-8")
        (tools / "python").chmod(0o755)
        server = subprocess.Popen(
            [sys.executable, warm.__file__, str(path)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout.readline() == "ready\n"
            yield tools
        finally:
            server.terminate()
            server.communicate()


def run(words, folder, tools):
    """What a command prints on both streams, with the names of the copy's files relative to it."""
    done = subprocess.run(
        ["bash", "-c", words],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "COLUMNS": "110",
            # Of plugins that are loaded before pytest runs.
            "PYTEST_ADDOPTS": "-W ignore::pytest.PytestAssertRewriteWarning",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout.replace(f"{folder}/", "")


def check_output(command, output):
    """The lines that are shown stand in the output in their order, up to numbers, spaces and borders."""
    lines = iter([masked(line) for line in output.splitlines()])
    for line in filter(None, map(masked, command.shown)):
        assert line == "..." or line in lines, f"$ {command.words}\nlacks the line:\n{line}\nin:\n{output}"
    if not command.shown:
        assert not output.strip(), f"$ {command.words}\nsays:\n{output}"


def masked(line):
    """A line without what differs between machines and runs."""
    for pattern in (NAME_OF_RUN, DIGEST, NUMBER):
        line = pattern.sub("#", line)
    return " ".join(BORDERS.sub(" ", line).split())
