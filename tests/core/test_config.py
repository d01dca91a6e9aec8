"""Configuration: flags, files, models chosen by name, and errors of one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import yaml

from core.config import (
    TrainConfig,
    check_train,
    check_values,
    dump_config,
    flatten,
    parse_duration,
    peak_lr,
    per_part,
)
from core.errors import ConfigError
from core.parser import parse
from core.registry import Registry

MODELS: Registry[type] = Registry("toy model")


@MODELS.register("small")
@dataclass
class Small:
    """A small one.

    Args:
        name: Model name.
        width: Units.
        depth: Layers.
    """

    name: str = "small"
    width: int = 4
    depth: int = 1


@MODELS.register("large")
@dataclass
class Large:
    """A large one.

    Args:
        name: Model name.
        width: Units.
        heads: Attention heads.
    """

    name: str = "large"
    width: int = 64
    heads: int = 8


@dataclass
class Train:
    """Training.

    Args:
        lr: Learning rate.
        steps: Steps.
        schedule: Shape.
        last_first: Order.
    """

    lr: float = 0.1
    steps: int | dict[str, int] | None = None
    schedule: Literal["constant", "cosine"] = "cosine"
    last_first: bool = False


@dataclass
class Root:
    """Everything.

    Args:
        seed: Seed.
        tags: Words.
        more_tags: Words by name.
        strict: Stop early.
        all_of_it: Everything, or nothing.
        train: Training.
        model: Model.
    """

    seed: int = 0
    tags: list[str] = field(default_factory=list)
    more_tags: dict[str, str] = field(default_factory=dict)
    strict: bool = True
    all_of_it: bool | None = None
    train: Train = field(default_factory=Train)
    model: Any = field(default_factory=Small)


@pytest.fixture
def default(tmp_path):
    path = tmp_path / "default.yaml"
    path.write_text("seed: 5\nmodel: {name: small, width: 7, depth: 3}\ntrain: {lr: 0.5}\n")
    return path


@pytest.fixture
def read(default):
    def run(*argv):
        return parse(Root, list(argv), prog="toy", description="Toy.", models=MODELS, default_config=default)

    return run


@pytest.fixture
def file(tmp_path):
    def write(text, name="a.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_the_default_file_applies_without_another(read):
    config = read()
    assert (config.seed, config.train, config.model) == (5, Train(lr=0.5), Small(width=7, depth=3))


def test_a_file_replaces_the_default_file(read, file):
    config = read("--config", file("train: {lr: 0.25}"))
    assert (config.seed, config.train, config.model) == (0, Train(lr=0.25), Small())


@pytest.mark.parametrize("form", ["--config {}", "--config={}"])
def test_flags_override_files_wherever_they_stand(form, read, file):
    words = form.format(file("seed: 1\ntrain: {lr: 0.25, steps: 3}")).split()
    for argv in (["--train.lr", "2", *words], [*words, "--train.lr", "2"], [*words, "--train.lr=2"]):
        config = read(*argv)
        assert (config.seed, config.train.lr, config.train.steps) == (1, 2.0, 3)


def test_a_later_file_overrides_an_earlier_one(read, file):
    config = read("--config", file("seed: 1\ntags: [a]"), "--config", file("seed: 2", "b.yaml"))
    assert (config.seed, config.tags) == (2, ["a"])


@pytest.mark.parametrize(
    "form", ["--model large", "--model=large", "--model.name large", "--model.name=large"]
)
def test_the_model_is_chosen_by_name(form, read):
    assert read(*form.split(), "--model.heads", "2").model == Large(width=7, heads=2)
    assert read("--model.heads=2", *form.split()).model == Large(width=7, heads=2)


def test_the_model_is_chosen_by_a_file_and_a_flag_wins(read, file):
    path = file("model: {name: large, heads: 3}")
    assert read("--config", path).model == Large(heads=3)
    assert read("--config", file("model: {width: 9}", "b.yaml"), "--model", "large").model == Large(width=9)
    assert read("--model.width", "5", "--config", path).model == Large(width=5, heads=3)


def test_values_of_several_types(read):
    assert read("--train.steps", "3").train.steps == 3
    assert read("--train.steps", "{a: 3, default: 4}").train.steps == {"a": 3, "default": 4}
    assert read("--tags", "[x, y]").tags == ["x", "y"]


@pytest.mark.parametrize(
    ("argv", "strict", "all_of_it", "last_first"),
    [
        ("", True, None, False),
        ("--all_of_it", True, True, False),
        ("--all-of-it", True, True, False),
        ("--all-of-it --train.last-first --seed 5", True, True, True),
        ("--train.last-first", True, None, True),
        ("--strict false --train.last_first true", False, None, True),
        ("--strict=false --all-of-it=false --train.last-first=true", False, False, True),
        ("--strict false --strict", True, None, False),
        ("--all-of-it null", True, None, False),
        ("--train.last_first --model small", True, None, True),
    ],
)
def test_flags_without_a_value_are_true(argv, strict, all_of_it, last_first, read):
    config = read(*argv.split())
    assert (config.strict, config.all_of_it, config.train.last_first) == (strict, all_of_it, last_first)
    assert config.seed == 5


def test_a_flag_without_a_value_overrides_a_file(read, file):
    path = file("strict: false\ntrain: {last_first: false}")
    config = read("--train.last-first", "--strict", "--config", path)
    assert (config.strict, config.train.last_first) == (True, True)


def test_hyphens_in_names_and_never_in_values(read):
    config = read("--more-tags", "{a-b: c-d}", "--tags=[--x-y, e-f]")
    assert (config.more_tags, config.tags) == ({"a-b": "c-d"}, ["--x-y", "e-f"])
    assert read("--more-tags={a: --b-c=d-e}").more_tags == {"a": "--b-c=d-e"}
    assert read("--more-tags.some-key", "x-y").more_tags == {"some-key": "x-y"}
    assert read("--model", "large", "--model.name=large").model.name == "large"


def test_an_option_with_hyphens_of_its_own(default):
    extra = {"--dry-run": "Nothing."}
    config = parse(
        Root, ["--dry-run", "x", "--all-of-it"], prog="toy", description="", models=MODELS, extra=extra
    )
    assert config.all_of_it is True


@pytest.mark.parametrize("argv", [[], ["--model", "large", "--model.heads", "1", "--train.steps", "{a: 1}"]])
def test_the_resolved_configuration_runs_again(argv, read, file):
    config = read(*argv)
    assert read("--config", file(dump_config(config))) == config


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--train.lrr", "1"], "unknown option --train.lrr. Did you mean '--train.lr'?"),
        (["--sed=1"], "unknown option --sed. Did you mean '--seed'?"),
        (["--train.l", "1"], "unknown option --train.l."),
        (["--model.dept", "1"], "unknown option --model.dept. Did you mean '--model.depth'?"),
        (["--seed", "x"], "--seed takes int, not 'x'."),
        (
            ["--train.schedule", "cosin"],
            "--train.schedule takes 'constant', 'cosine', not 'cosin'. Did you mean",
        ),
        (["--train.steps", "many"], "--train.steps takes int, dict[str, int], null, not 'many'."),
        (["--config", "missing.yaml"], "--config: File does not exist"),
        (["--seed"], "--seed"),
        (["--train.last-firs"], "unknown option --train.last-firs. Did you mean '--train.last_first'?"),
        (["--strict", "maybe"], "--strict takes bool, not 'maybe'."),
        (["--train.lr"], "--train.lr"),
    ],
)
def test_wrong_flags_are_one_line(argv, expected, read, capsys):
    with pytest.raises(SystemExit) as caught:
        read(*argv)
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("toy: error: ")
    assert expected in printed.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sead: 1", "unknown key sead. Did you mean 'seed'?"),
        ("train: {lrr: 1}", "unknown key train.lrr. Did you mean 'train.lr'?"),
        ("model: {name: large, depth: 1}", "unknown key model.depth."),
        ("seed: x", "--seed takes int, not 'x'."),
    ],
)
def test_wrong_files_are_one_line(text, expected, read, file, capsys):
    with pytest.raises(SystemExit) as caught:
        read("--config", file(text))
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert printed.count("\n") == 1
    assert expected in printed


@pytest.mark.parametrize("text", ["model: [", "model: {name: larg}"])
def test_wrong_models_in_files(text, read, file):
    with pytest.raises(ConfigError) as caught:
        read("--config", file(text))
    assert "\n" not in str(caught.value)
    assert ("is not YAML" if "[" in text else "Did you mean 'large'?") in str(caught.value)


def test_an_unknown_model_names_the_nearest(read):
    with pytest.raises(
        ConfigError, match=r"unknown toy model 'smal'\. Did you mean 'small'\? Known: small, large"
    ):
        read("--model", "smal")


def test_help_describes_every_option(read, capsys):
    with pytest.raises(SystemExit) as caught:
        read("--model", "large", "--help")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for option in (
        "--strict [{true,false}]",
        "--train.lr",
        "--model.heads",
        "Attention heads",
        "Learning rate",
        "default: 7",
    ):
        assert option in text
    assert "--model.depth" not in text


# ---------------------------------------------------------------- parts of the configuration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), (" 2h ", 7200), ("0s", 0)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1s", "3 days", "1h30m", "1e3"])
def test_wrong_durations(text):
    with pytest.raises(ConfigError, match="is not a duration; write 90s, 30m or 2h"):
        parse_duration(text)


def test_per_part():
    assert per_part(3, "Yearly", "x") == 3
    assert per_part({"Yearly": 1, "default": 2}, "Yearly", "x") == 1
    assert per_part({"Yearly": 1, "default": 2}, "Monthly", "x") == 2
    with pytest.raises(
        ConfigError, match=r"--train\.steps has no number for Monthly; it has Yearly: add Monthly"
    ):
        per_part({"Yearly": 1}, "Monthly", "train.steps")


def test_flatten():
    nested = {"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}
    assert flatten(nested) == {"a": 1, "b.c": [2], "b.d.e": None, "f": {}}


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {name: 0}
            for name in ("batch_size", "accumulate", "log_every", "epochs", "steps", "lr", "grad_clip")
        ),
        *({name: -1} for name in ("weight_decay", "warmup_steps", "grad_noise", "patience", "workers")),
        *({name: -1} for name in ("orthonormal", "gate_cost", "teacher_weight", "teacher_temperature")),
        {"teacher_weight": 1.5},
        {"teacher_temperature": 0.0},
        {"ema_warmup": True},
        {"teacher": "runs/a", "compile": True},
        {"gate_cost": 0.1, "compile": True},
        {"steps": {"a": 3, "b": 0}},
        {"ema": 1.0},
        {"ema": -0.1},
        {"ema_gamma": 0.0, "ema": 0.9},
        {"ema_gamma": 5.0, "ema": 0.9, "ema_warmup": True},
        {"ema_gamma": 5.0},
        {"ema_steps": 0, "ema": 0.9},
        {"ema_steps": 5},
        {"flat": 1.0},
        {"flat": -0.1},
        {"final_lr": 1.1},
        {"final_lr": -0.1},
        {"lr_base_batch": 0},
        {"lr": float("nan")},
        {"max_time": "soon"},
    ],
)
def test_values_out_of_range(changes):
    with pytest.raises(ConfigError) as caught:
        check_train(TrainConfig(**changes))
    assert f"--train.{next(iter(changes))}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batch_size": 8}, 0.004),
        ({"batch_size": 8, "lr_base_batch": 256}, 0.000125),
        ({"batch_size": 8, "lr_base_batch": 256, "accumulate": 4}, 0.0005),
        ({"batch_size": 1024, "lr_base_batch": 256}, 0.016),
    ],
)
def test_the_learning_rate_follows_the_samples_of_a_step(changes, expected):
    assert peak_lr(TrainConfig(lr=0.004, **changes)) == pytest.approx(expected, rel=1e-12)


def test_values_in_range():
    check_train(TrainConfig())
    check_train(TrainConfig(ema=0.9, ema_warmup=True, orthonormal=0.1, gate_cost=0.1, teacher="runs/a"))
    check_train(TrainConfig(ema=0.9, ema_gamma=0.5, ema_steps=1, flat=0.0, final_lr=0.0, lr_base_batch=1))
    check_train(TrainConfig(ema=0.9, ema_steps=5, ema_warmup=True, final_lr=1.0))
    check_train(TrainConfig(steps={"a": 1}, ema=0.0, grad_clip=0.1, max_time="2h", checkpoint_minutes=0))


def test_the_resolved_configuration_is_plain_yaml():
    content = yaml.safe_load(dump_config(Root(tags=["a"], train=Train(steps={"x": 1}))))
    assert content["train"] == {"lr": 0.1, "steps": {"x": 1}, "schedule": "cosine", "last_first": False}
    assert content["model"]["name"] == "small"


@dataclass
class Inner:
    share: float = 0.5
    levels: list[float] = field(default_factory=list)
    bins: dict[str, float] = field(default_factory=dict)


@dataclass
class Outer:
    seed: int = 0
    test_seed: int = 0
    inner: Inner = field(default_factory=Inner)
    width: int = 1
    test_path: list[str] | None = None
    path: str | None = None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Outer(seed=-1), "--seed -1 is no seed"),
        (Outer(test_seed=2**32), "--test_seed 4294967296 is no seed"),
        (Outer(width=-(2**63)), "--width -9223372036854775808 is too large"),
        (Outer(path=""), "--path is empty"),
        (Outer(test_path=["a", ""]), "--test_path is empty"),
        (Outer(inner=Inner(share=float("nan"))), "--inner.share nan is not finite"),
        (Outer(inner=Inner(share=float("-inf"))), "--inner.share -inf is not finite"),
        (Outer(inner=Inner(levels=[1.0, float("inf")])), "--inner.levels"),
        (Outer(inner=Inner(bins={"a": float("nan")})), "--inner.bins"),
    ],
)
def test_values_that_no_command_can_use(config, said):
    check_values(Outer(seed=2**32 - 1))
    with pytest.raises(ConfigError, match=said):
        check_values(config)
