"""Text that runs what it holds, or grows without end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.faults.hostile.trial import MARKER, Trial, input_of
from tests.faults.inputs.cases import Good
from tests.faults.inputs.domains import LOOP

TAGGED = f"!!python/object/apply:os.system ['touch {MARKER}']"
DEEP = 100_000


def texts(tasks: list[str]) -> Iterator[Trial]:
    bombs = {
        "tag": f"seed: {TAGGED}\n",
        "tag below a group": f"train:\n  lr: {TAGGED}\n",
        "aliases": _aliases("seed"),
        "itself": "train: &a\n  steps: *a\n",
        "brackets": "seed: " + "[" * DEEP + "\n",
        "braces": "{a: " * DEEP + "\n",
    }
    for task in tasks:
        for name, text in bombs.items():

            def configured(place: Path, good: Good, text: str = text) -> list[str]:
                (place / "mine.yaml").write_text(text)
                return ["--config=mine.yaml", *LOOP, "--data.path=nowhere"]

            yield Trial("text", f"{task} --config: {name}", task, "train", configured, (2,))
    if "detection" in tasks:
        for name, text in bombs.items():

            def described(place: Path, good: Good, text: str = text) -> list[str]:
                path = place / "data" / "data.yaml"
                path.write_text(path.read_text() + text)
                return good.train

            yield Trial("text", f"data.yaml: {name}", "detection", "train", described, (1,), ("data",))
        yield Trial("text", "COCO's JSON of brackets", "detection", "train", _coco)
        yield Trial("text", "VOC's XML of entities", "detection", "train", _entities)
    if "segmentation" in tasks:
        for name in ("dataset.json", "splits.json", "plans.json"):

            def planned(place: Path, good: Good, name: str = name) -> list[str]:
                (place / "data" / name).write_text("[" * DEEP)
                more = {
                    "splits.json": ["--data.splits=data/splits.json"],
                    "plans.json": ["--plan.file=data/plans.json"],
                }
                return [*good.train, *more.get(name, [])]

            yield Trial("text", f"{name} of brackets", "segmentation", "train", planned, needs=("data",))
    if "forecasting" in tasks:
        yield Trial("text", "JSON lines of brackets", "forecasting", "predict", _json_lines)
    task = tasks[0]
    yield Trial(
        "text", "metadata.json of brackets", task, "predict", _deep_metadata, (1,), ("model", "input")
    )
    yield Trial("text", "run.json of brackets", task, "train", _deep_record, needs=("data",))
    yield Trial("text", "registry.yaml with a tag", task, "train", _policy, needs=("data",))


def _aliases(key: str) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join([*lines, f"{key}: *a11"]) + "\n"


def _coco(place: Path, good: Good) -> list[str]:
    (place / "coco.json").write_text('{"images": ' + "[" * DEEP)
    return ["--data.path=coco.json", *good.domain.train]


def _entities(place: Path, good: Good) -> list[str]:
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    head = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{entities}]>'
    text = f"{head}<annotation><filename>&a11;</filename></annotation>"
    for name in ("Annotations", "JPEGImages"):
        (place / "voc" / name).mkdir(parents=True)
    for i in range(4):
        (place / "voc" / "Annotations" / f"{i}.xml").write_text(text)
        shutil.copy(good.folder / "input" / "view.png", place / "voc" / "JPEGImages" / f"{i}.png")
    return ["--data.path=voc", *good.domain.train]


def _json_lines(place: Path, good: Good) -> list[str]:
    (place / "deep.jsonl").write_text("[" * DEEP + "\n")
    return [*good.model, "--input=deep.jsonl", "--output=out.csv", "--data.freq=M"]


def _deep_metadata(place: Path, good: Good) -> list[str]:
    (place / "model" / "metadata.json").write_text('{"task": ' + "[" * DEEP)
    return ["--model=model", "--tracking=none", *input_of(good)]


def _deep_record(place: Path, good: Good) -> list[str]:
    folder = place / "runs" / good.domain.name / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("[" * DEEP)
    (folder / "config.yaml").write_text("seed: 1\n")
    return [*good.train, f"--resume={folder}"]


def _policy(place: Path, good: Good) -> list[str]:
    (place / "mlflow").mkdir()
    (place / "mlflow" / "registry.yaml").write_text(f"{good.domain.name}: {TAGGED}\n")
    return good.train
