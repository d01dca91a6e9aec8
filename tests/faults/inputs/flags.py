"""Wrong options, made from the options that a command has."""

from __future__ import annotations

import dataclasses
import random
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from core.config import ExportConfig
from core.task import Task

SLOW = {
    "steps",
    "epochs",
    "samples",
    "patches",
    "blocks",
    "layers",
    "workers",
    "bootstrap",
    "folds",
    "repeats",
    "depth",
}
"""Options of which a large value asks for long work, which is no mistake."""
LONG = 20_000


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        name: ``train.lr``.
        kinds: Its types, without ``None``.
        words: The words that it takes, if it takes only some.
    """

    name: str
    kinds: tuple[Any, ...]
    words: tuple[str, ...]


def options_of(task: Task, command: str) -> list[Option]:
    """The options of a command, with those of the task's first model."""
    root = {
        "train": task.config_class,
        "evaluate": task.evaluate_class,
        "predict": task.predict_class,
        "export": ExportConfig,
    }[command]
    return list(_options(root, "", task.models[next(iter(task.models))] if command == "train" else None))


def _options(root: type, prefix: str, model: type | None) -> typing.Iterator[Option]:
    hints = typing.get_type_hints(root)
    for field in dataclasses.fields(root):
        kind = model if field.name == "model" and model else hints[field.name]
        if field.name == "given":
            continue
        if dataclasses.is_dataclass(kind):
            yield from _options(typing.cast(type, kind), f"{prefix}{field.name}.", None)
            continue
        parts = (
            typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
        )
        kinds = tuple(part for part in parts if part is not type(None))
        words = tuple(
            w for part in kinds if typing.get_origin(part) is Literal for w in typing.get_args(part)
        )
        yield Option(prefix + field.name, kinds, words)


def wrong_value(option: Option, rng: random.Random) -> tuple[str, bool] | None:
    """A value for an option and whether it is wrong for certain; none where any value may be right."""
    kinds, last = option.kinds, option.name.rpartition(".")[2]
    if option.words:
        return rng.choice(["nope", option.words[0][:-1] + "q", "", "[]", option.words[-1] * 2]), True
    if kinds == (bool,):
        return rng.choice(["maybe", "2", "[]", "yes please"]), True
    if kinds in ((int,), (float,), (int, dict[str, int]), (float, dict[str, float])):
        sure = ["abc", "", "1,5", "[]", "0x", "½", "--", "nan", "1 2", "null null"]
        sure += ["1.5"] if kinds[0] is int else []
        unsure = ["-1", "0", "-1e-9", "1e-300"] if kinds[0] is float else ["-1", "0", "-9999999999"]
        if last not in SLOW:
            unsure += ["inf", "1e300"] if kinds[0] is float else [str(2**70)]
        if rng.random() < 0.5:
            return rng.choice(sure), True
        return rng.choice(unsure), False
    if typing.get_origin(kinds[0]) is list:
        element = typing.get_args(kinds[0])[0]
        if element in (int, float):
            sure = ["[a]", "x", "[1, [2]]", "{a: 1}", "[nan]"]
            return rng.choice([*((v, True) for v in sure), ("[]", False), ("[-1]", False), ("[0, 0]", False)])
        return rng.choice(["[1", "{", "{a: 1}"]), True
    if typing.get_origin(kinds[0]) is dict:
        return rng.choice(["[", "abc", "3"]), True
    return None


def wrong_path(rng: random.Random) -> str:
    """A path that does not exist, or cannot."""
    return rng.choice(
        [
            "nowhere",
            "",
            " ",
            "x" * 300,
            "a/" * LONG,
            "new\nline",
            "\x1b[31mred\x1b[0m",
            "<script>alert(1)</script>",
            "http://localhost/x",
            "~/nowhere",
            "nul\\x00",
            "größe/ñ",
            "/dev/null",
            ".",
            "../..",
            "models:/nothing@champion",
            "runs:/0123",
            "s3://bucket/x",
        ]
    )


def mistyped(name: str, rng: random.Random) -> str:
    """An option with one slip in its last part."""
    group, dot, last = name.rpartition(".")
    place = rng.randrange(len(last))
    slip = rng.choice(
        [last[:place] + last[place] * 2 + last[place + 1 :], last + "s", "z" + last, last[:-1] + "_x"]
    )
    return group + dot + slip
