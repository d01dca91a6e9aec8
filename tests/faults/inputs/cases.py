"""One bad case after another for a task, drawn from a generator."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.faults.inputs import flags, models
from tests.faults.inputs.attempt import Case
from tests.faults.inputs.damage import Damage
from tests.faults.inputs.domains import Domain
from tests.faults.inputs.files import damages
from tests.faults.inputs.folders import FOLDER, files_below

SHARES = {
    "option": 24,
    "value": 36,
    "contradiction": 12,
    "path": 14,
    "configuration": 14,
    "input": 50,
    "data": 22,
    "folder": 10,
    "model": 18,
}
"""Cases of each category in 200."""


@dataclass(frozen=True)
class Good:
    """Good files of a task, which cases copy.

    Attributes:
        domain: The task and its commands.
        folder: ``data``, ``input`` and ``model``.
    """

    domain: Domain
    folder: Path

    def use(self, place: Path, *names: str) -> None:
        """Copies folders into the folder of a case."""
        for name in names:
            shutil.copytree(self.folder / name, place / name)

    @property
    def train(self) -> list[str]:
        """Options of a training that works."""
        return [f"--data.path={Path('data') / self.domain.path}", *self.domain.train]

    @property
    def model(self) -> list[str]:
        """Options that name the model."""
        return [f"--model={self.folder / 'model'}", "--tracking=none"]

    def options(self, command: str) -> list[str]:
        """Options of any command that works."""
        first = self.first().name
        return {
            "train": self.train,
            "evaluate": [*self.model, "--output=scores"],
            "predict": [
                *self.model,
                f"--input=input/{first}",
                f"--output={self.domain.output}",
                *self.domain.predict,
            ],
            "export": [*self.model, "--output=programs"],
        }[command]

    def first(self) -> Path:
        """The first of the inputs that works without further options."""
        return self.inputs()[0]

    def inputs(self) -> list[Path]:
        """Inputs that ``predict`` takes; the files of WFDB records are damaged as well."""
        return [path for path in files_below(self.folder / "input") if path.name in self.domain.works]


def draw(good: Good, place: Path, rng: random.Random) -> Case:
    """Makes the files of a case in an empty folder, and says what is done with them."""
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    return KINDS[kind](good, place, rng)


def _replaced(argv: list[str], option: str) -> list[str]:
    """Arguments without an option."""
    return [word for word in argv if word.partition("=")[0] != f"--{option}"]


def _command(rng: random.Random) -> str:
    return rng.choices(["train", "evaluate", "predict", "export"], [5, 2, 3, 1])[0]


def _option(good: Good, place: Path, rng: random.Random) -> Case:
    command = _command(rng)
    argv = good.options(command)
    names = {option.name for option in flags.options_of(good.domain.task, command)}
    name = rng.choice(sorted(names))
    kind = rng.choice(["mistyped", "no value", "a word too many", "a dash too few"])
    if kind == "mistyped":
        wrong = next(w for w in iter(lambda: flags.mistyped(name, rng), None) if w not in names)
        return Case("option", f"--{wrong}=1", command, [*argv, f"--{wrong}=1"], (2,), (wrong,))
    if kind == "no value":
        kinds = {o.name: o.kinds for o in flags.options_of(good.domain.task, command)}
        name = next(n for n in iter(lambda: rng.choice(sorted(names)), None) if kinds[n] != (bool,))
        return Case(
            "option", f"--{name} alone", command, [*_replaced(argv, name), f"--{name}"], (2,), (name,)
        )
    if kind == "a word too many":
        return Case("option", kind, command, [*argv, "surplus"], (2,), ("surplus",))
    return Case("option", f"-{name}=1", command, [*argv, f"-{name}=1"], (2,), (name,))


def _value(good: Good, place: Path, rng: random.Random) -> Case:
    command = _command(rng)
    while True:
        option = rng.choice(flags.options_of(good.domain.task, command))
        found = flags.wrong_value(option, rng)
        if found:
            break
    value, sure = found
    argv = [*_replaced(good.options(command), option.name), f"--{option.name}={value}"]
    good.use(place, "data", "input")
    codes = (2,) if sure else (0, 1, 2)
    return Case(
        "value", f"--{option.name}={value}", command, argv, codes, (option.name, value) if sure else ()
    )


def _contradiction(good: Good, place: Path, rng: random.Random) -> Case:
    good.use(place, "data", "input")
    kind = rng.randrange(3)
    if kind:
        wrong = rng.choice([*good.domain.wrong, *WRONG])
        keys = [word[2:].partition("=")[0] for word in wrong]
        argv = good.train
        for key in keys:
            argv = _replaced(argv, key)
        words = (
            *keys,
            *(key.rpartition(".")[2] for key in keys),
            *(_value_of(w) for w in wrong),
        )
        return Case("contradiction", " ".join(wrong), "train", [*argv, *wrong], (1, 2), words)
    command = _command(rng)
    some = [o for o in flags.options_of(good.domain.task, command) if o.words]
    if not some:
        return _option(good, place, rng)
    option = rng.choice(some)
    argv = [*good.options(command), f"--{option.name}={option.words[0]}", f"--{option.name}=nope"]
    return Case("contradiction", f"--{option.name} twice", command, argv, (2,), (option.name,))


def _value_of(word: str) -> str:
    return word.partition("=")[2].strip("[]{}").partition(":")[0]


WRONG = [
    ["--train.batch_size=0"],
    ["--train.lr=-1"],
    ["--train.momentum=1"],
    ["--train.teacher_weight=2"],
    ["--train.ema_warmup=true"],
    ["--train.max_time=soon"],
    ["--train.device=tpu"],
    ["--train.device=cuda:99"],
    ["--train.freeze=[nothing]"],
    ["--train.start_from=nowhere"],
    ["--train.teacher=nowhere"],
    ["--train.teeth=[3, 2, 1]"],
    ["--train.warmup_steps=50"],
    ["--promote=perhaps"],
    ["--model=nothing"],
    ["--model.rule=nothing"],
    ["--model.rule_options={nothing: 1}"],
    ["--resume=nothing"],
    ["--output=/dev/null/x"],
    ["--seed=-1"],
]
"""Options that are wrong in every task."""


def _path(good: Good, place: Path, rng: random.Random) -> Case:
    command = rng.choice(["train", "train", "evaluate", "predict", "predict", "export"])
    good.use(place, "data", "input")
    keys = {
        "train": ["data.path", "config", "train.start_from", "train.teacher", "data.test_path"],
        "evaluate": ["model", "data.path", "data.test_path", "config"],
        "predict": ["input", "model", "output"],
        "export": ["model", "output"],
    }[command]
    known = {option.name: option for option in flags.options_of(good.domain.task, command)}
    key = rng.choice([key for key in keys if key in known or key == "config"])
    value = flags.wrong_path(rng)
    given = value
    if key in known and "list" in str(known[key].kinds):
        given = yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()
    argv = [*_replaced(good.options(command), key), f"--{key}={given}"]
    codes = (0, 1, 2) if key == "output" or value in (".", "../..") else (1, 2)
    return Case("path", f"--{key}={value[:40]!r}", command, argv, codes)


def _configuration(good: Good, place: Path, rng: random.Random) -> Case:
    good.use(place, "data")
    nested: dict[str, object] = {}
    for word in good.train:
        key, _, value = word[2:].partition("=")
        inside = nested
        key = "model.name" if key == "model" else key
        *groups, last = key.split(".")
        for group in groups:
            inside = inside.setdefault(group, {})  # type: ignore[assignment]
        inside[last] = yaml.safe_load(value)
    path = place / "mine.yaml"
    path.write_text(yaml.safe_dump(nested, sort_keys=False))
    name = rng.choice(sorted(n for n in damages(path)))
    damages(path)[name](path, rng)
    # What is left of a file may ask for the whole of the default training.
    kept = ["--train.steps=1", "--tracking=none", "--data.path=data/nothing", "--train.device=cpu"]
    return Case("configuration", name, "train", ["--config=mine.yaml", *kept], (1, 2))


def _input(good: Good, place: Path, rng: random.Random) -> Case:
    good.use(place, "input")
    path = place / "input" / rng.choice(files_below(good.folder / "input")).name
    name, damage = _one(damages(path), rng)
    whole = rng.random() < 0.25
    target = path.with_suffix(".hea") if path.suffix == ".dat" else path
    damage(path, rng)
    argv = [*good.model, f"--input={'input' if whole else Path('input') / target.name}"]
    argv += [*good.domain.predict, f"--output={'many' if whole else good.domain.output}"]
    if whole and good.domain.table:
        argv[-1] = f"--output={good.domain.output}"
    codes = (0, 1) if target.exists() or whole else (2,)
    outputs = () if whole else (good.domain.output,)
    case = Case("input", f"{path.name}: {name}", "predict", argv, codes, _names(path), outputs)
    case.partial = whole
    return case


def _one(choices: dict[str, Damage], rng: random.Random) -> tuple[str, Damage]:
    name = rng.choice(sorted(choices))
    return name, choices[name]


def _names(path: Path) -> tuple[str, ...]:
    return path.name, path.stem.split("_0000")[0], path.parent.name


def _data(good: Good, place: Path, rng: random.Random) -> Case:
    good.use(place, "data")
    files = (
        files_below(place / "data" / good.domain.path) if good.domain.path else files_below(place / "data")
    )
    path = rng.choice(files or [place / "data" / good.domain.path])
    name, damage = _one(damages(path), rng)
    damage(path, rng)
    return _used(good, "data", f"{path.relative_to(place)}: {name}", rng)


def _folder(good: Good, place: Path, rng: random.Random) -> Case:
    good.use(place, "data")
    name = rng.choice(sorted(FOLDER))
    path = FOLDER[name](place / "data", rng)
    return _used(good, "folder", f"{path.relative_to(place)!s}: {name}", rng)


def _used(good: Good, kind: str, text: str, rng: random.Random) -> Case:
    command = rng.choice(["train", "train", "evaluate"])
    where = f"--data.path={Path('data') / good.domain.path}"
    argv = good.train if command == "train" else [*good.model, "--output=scores", where]
    return Case(kind, text, command, argv, (0, 1, 2))


def _model(good: Good, place: Path, rng: random.Random) -> Case:
    good.use(place, "model")
    sure = rng.random() < 0.5
    choices = models.SURE if sure else models.PERHAPS
    name = rng.choice(sorted(choices))
    choices[name](place / "model", rng)
    use = rng.choice(["predict", "predict", "evaluate", "export", "start_from", "teacher"])
    if use in ("start_from", "teacher"):
        good.use(place, "data")
        return Case(
            "model", f"{name}, --train.{use}", "train", [*good.train, f"--train.{use}=model"], _codes(sure)
        )
    if use == "predict":
        good.use(place, "input")
    argv = ["--model=model", "--tracking=none", *good.options(use)[2:]]
    return Case("model", f"{name}, {use}", use, argv, _codes(sure))


def _codes(sure: bool) -> tuple[int, ...]:
    return (1, 2) if sure else (0, 1, 2)


KINDS = {
    "option": _option,
    "value": _value,
    "contradiction": _contradiction,
    "path": _path,
    "configuration": _configuration,
    "input": _input,
    "data": _data,
    "folder": _folder,
    "model": _model,
}
