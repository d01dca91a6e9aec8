"""Names that steer a terminal or a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.faults.hostile.trial import Trial, input_of
from tests.faults.inputs.attempt import Answer
from tests.faults.inputs.cases import Good

SCRIPT = "<img src=x onerror=alert(1)>"
NAMES = ("new\nline", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "back\x08space", "\u202eright", "a\rb")


def names(tasks: list[str]) -> Iterator[Trial]:
    for task in tasks:
        for name in NAMES:

            def missing(place: Path, good: Good, name: str = name) -> list[str]:
                return [*good.model, f"--input={name}.png", "--output=out"]

            def damaged(place: Path, good: Good, name: str = name) -> list[str]:
                path = place / f"{name}{good.first().suffix}"
                path.write_bytes(b"nothing of use")
                return [
                    *good.model,
                    f"--input={path.name}",
                    f"--output={good.domain.output}",
                    *good.domain.predict,
                ]

            def modelled(place: Path, good: Good, name: str = name) -> list[str]:
                return [f"--model={name}", "--tracking=none", *input_of(good)]

            def configured(place: Path, good: Good, name: str = name) -> list[str]:
                (place / name).write_text("train: [1\n")
                return [f"--config={name}"]

            yield Trial("names", f"{task}: {name!r} is missing", task, "predict", missing)
            yield Trial("names", f"{task}: {name!r} is damaged", task, "predict", damaged, (1,))
            yield Trial("names", f"{task}: --model {name!r}", task, "predict", modelled, (1,), ("input",))
            yield Trial("names", f"{task}: --config {name!r}", task, "train", configured, (2,))
    for task, make in (
        ("speech", _scripted_words),
        ("detection", _scripted_classes),
        ("forecasting", _scripted_series),
    ):
        if task in tasks:
            yield Trial(
                "names", f"{task}: HTML in the report", task, "train", make, (0,), ("data",), _escaped
            )


def _scripted_words(place: Path, good: Good) -> list[str]:
    (place / "data" / "low").rename(place / "data" / SCRIPT)
    return good.train


def _scripted_classes(place: Path, good: Good) -> list[str]:
    path = place / "data" / "data.yaml"
    path.write_text(path.read_text().replace("[red, green]", json.dumps([SCRIPT, "green"])))
    return good.train


def _scripted_series(place: Path, good: Good) -> list[str]:
    path = place / "data" / f"{SCRIPT}.csv"
    (place / "data" / "long.csv").rename(path)
    path.write_text(path.read_text().replace("\na,", f"\n{SCRIPT},"))
    return [f"--data.path=data/{path.name}", *good.domain.train]


def _escaped(place: Path, answer: Answer) -> str | None:
    (report,) = place.rglob("report.html")
    text = report.read_text()
    if "onerror=alert(1)&gt;" not in text and "onerror=alert(1)\\u003e" not in text:
        return "the name is not in the report"
    return "the name is markup in the report" if "<img src=x" in text else None
