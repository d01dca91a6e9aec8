"""Pages have one shape, their links lead somewhere, and the commands in them are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from core.cli import DESCRIPTIONS, _parse
from core.errors import ConfigError
from core.task import load_task
from tasks.__main__ import task_names
from tasks.compare import read_arguments

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for folder in (".", "docs", "docs/tutorials", "mlflow", *(f"tasks/{name}" for name in task_names()))
    for path in (ROOT / folder).glob("*.md")
)
SECTIONS = [
    "Train",
    "Results",
    "Predict",
    "Evaluate",
    "Export and serve",
    "Models and options",
    "Protocol and differences from the papers",
    "Limits",
    "Files",
]
BLOCK = re.compile(r"^```.*?^```$", re.S | re.M)
NOT_TYPED = re.compile(r"docs/commands\.md|CHANGELOG\.md|docs/tutorials/.*")
"""Pages that hold the help texts, what was true once, and what another test runs."""
FORM = re.compile(r"<|\.\.\.|\bTASK\b|\bCOMMAND\b|\bMODULE\b")
"""What tells the form of a command from a command."""


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def read(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", task_names())
def test_every_task_has_a_page_of_the_same_shape(name):
    page = BLOCK.sub("", read(ROOT / "tasks" / name / "README.md"))
    assert re.findall(r"^## (.*)$", page, re.M) == SECTIONS
    opening = page.partition("\n## ")[0]
    assert opening.startswith("# ") and len(opening.splitlines()) > 1, "what it is stands first"
    whole = read(ROOT / "tasks" / name / "README.md")
    assert not re.search(r"^## .*\n+(?=## |\Z)", whole, re.M), "a section says nothing"


def anchors(path):
    """The anchors of a page's headings, as code hosts make them."""
    heads = re.findall(r"^#+ (.*)$", BLOCK.sub("", read(path)), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(path):
    text = BLOCK.sub("", read(path))
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if "://" in link or link.startswith("mailto:"):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), f"{name_of(path)} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(path)} links to {link}"


def test_the_index_has_every_page():
    index = read(ROOT / "docs" / "README.md")
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "README.md"]
    assert not [
        name_of(path) for path in pages if f"({path.relative_to(ROOT / 'docs').as_posix()})" not in index
    ]


def commands_of(text):
    """Commands ``python -m ...`` of a page as written: in blocks a line each, elsewhere between backticks."""
    for block in BLOCK.findall(text):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if found := re.search(r"(?:^|[|$;] ?|&& )(python -m .*)", line):
                yield found.group(1)
    for span in re.findall(r"`(python -m\s[^`]+)`", BLOCK.sub("", text)):
        yield " ".join(span.split())


def words_of(command):
    """The words after ``python -m``, without comments, prompts and what a shell would do with the output."""
    words = shlex.split(command, comments=True)[2:]
    for i, word in enumerate(words):
        if word in ("|", ">", "&&", ";") or word.startswith(">"):
            return words[:i]
    return words


COMMANDS = sorted(
    {
        (name_of(path), command)
        for path in PAGES
        if not NOT_TYPED.fullmatch(name_of(path))
        for command in commands_of(read(path))
        if not FORM.search(command)
    }
)


def test_commands_are_found():
    text = "`python -m\na.b --c`\n```\n$ python -m d e | f\npython -m g \\\n  --h 1  # why\n```\n"
    assert [words_of(command) for command in commands_of(text)] == [
        ["d", "e"],
        ["g", "--h", "1"],
        ["a.b", "--c"],
    ]
    assert len(COMMANDS) > 150


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_in_a_page_is_a_command(page, command, capsys):
    words = words_of(command)
    module, *rest = words
    parts = module.split(".")
    if {"--resume", "--help"} & set(rest):  # need a run, or end the process
        rest = []
    try:
        if parts[0] == "tasks" and len(parts) == 3 and parts[2] in DESCRIPTIONS:
            _parse(load_task(parts[1]), parts[2], rest)
        elif module == "tasks.compare" and rest:
            read_arguments(rest)
        else:
            place = ROOT / module.replace(".", "/")
            known = place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
            assert known or parts[0] in ("pytest", "venv", "mlflow", "pip"), f"there is no module {module}"
    except (SystemExit, ConfigError) as error:
        raise AssertionError(f"{page}: {command}\n{error}\n{capsys.readouterr().err}") from None
