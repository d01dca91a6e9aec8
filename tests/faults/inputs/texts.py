"""Ways in which a text goes bad: tables, JSON, YAML, headers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.faults.inputs.damage import Damage

ODD = [
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1e30",
    "",
    "?",
    "é",
    "0",
    "-1",
    "1,5",
    "9" * 30,
    "2015-02-30",
    "True",
    "\\x00",
]
"""Values that replace one in a table."""


def _text(
    change: Callable[[list[str], random.Random], list[str]], encoding: str = "utf-8", end: str = "\n"
) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        lines = change(path.read_text(encoding="utf-8", errors="replace").splitlines(), rng)
        path.write_bytes((end.join(lines) + end).encode(encoding, errors="replace"))

    return damage


def _same(lines: list[str], rng: random.Random) -> list[str]:
    return lines


def _header_only(lines: list[str], rng: random.Random) -> list[str]:
    return lines[:1]


def _no_header(lines: list[str], rng: random.Random) -> list[str]:
    return lines[1:]


def _renamed(lines: list[str], rng: random.Random) -> list[str]:
    words = lines[0].split(",")
    words[rng.randrange(len(words))] = rng.choice(["", "x y", "größe", "ds", "unnamed"])
    return [",".join(words), *lines[1:]]


def _less(lines: list[str], rng: random.Random) -> list[str]:
    column = rng.randrange(len(lines[0].split(",")))
    return [",".join(w for i, w in enumerate(line.split(",")) if i != column) for line in lines]


def _more(lines: list[str], rng: random.Random) -> list[str]:
    return [f"{line},{rng.randrange(9)}" for line in lines]


def _twice(lines: list[str], rng: random.Random) -> list[str]:
    row = rng.randrange(len(lines))
    return [*lines[: row + 1], lines[row], *lines[row + 1 :]]


def _odd(count: int) -> Callable[[list[str], random.Random], list[str]]:
    def change(lines: list[str], rng: random.Random) -> list[str]:
        lines = list(lines)
        for _ in range(count):
            row = rng.randrange(len(lines))
            mark = next((mark for mark in ",: " if mark in lines[row]), " ")
            words = lines[row].split(mark)
            words[rng.randrange(len(words))] = rng.choice(ODD)
            lines[row] = mark.join(words)
        return lines

    return change


def _shorter(lines: list[str], rng: random.Random) -> list[str]:
    row = rng.randrange(len(lines))
    return [*lines[:row], lines[row][: rng.randrange(len(lines[row]) + 1)], *lines[row + 1 :]]


def _mixed(lines: list[str], rng: random.Random) -> list[str]:
    return [line.replace(",", ";") if rng.random() < 0.5 else line for line in lines]


def _decimal(lines: list[str], rng: random.Random) -> list[str]:
    return [line.replace(",", ";").replace(".", ",") for line in lines]


def _quoted(lines: list[str], rng: random.Random) -> list[str]:
    row = rng.randrange(len(lines))
    return [*lines[:row], '"' + lines[row], *lines[row + 1 :]]


def _shuffled(lines: list[str], rng: random.Random) -> list[str]:
    rest = lines[1:]
    rng.shuffle(rest)
    return [*lines[:1], *rest]


def _umlaut(lines: list[str], rng: random.Random) -> list[str]:
    return [*lines[:-1], lines[-1] + "ü"] if lines else lines


def _wide(lines: list[str], rng: random.Random) -> list[str]:
    return [*lines, "x" * 200_000]


TEXT: dict[str, Damage] = {
    "with a byte order mark": _text(_same, "utf-8-sig"),
    "with CRLF": _text(_same, end="\r\n"),
    "with CR": _text(_same, end="\r"),
    "in UTF-16": _text(_same, "utf-16"),
    "in Latin-1": _text(_umlaut, "latin-1"),
    "its header alone": _text(_header_only),
    "without its header": _text(_no_header),
    "a column renamed": _text(_renamed),
    "a column less": _text(_less),
    "a column more": _text(_more),
    "a row twice": _text(_twice),
    "an odd value": _text(_odd(1)),
    "odd values": _text(_odd(12)),
    "a row cut": _text(_shorter),
    "separators mixed": _text(_mixed),
    "decimal commas": _text(_decimal),
    "a quote left open": _text(_quoted),
    "rows shuffled": _text(_shuffled),
    "a line of 200,000 letters": _text(_wide),
}
