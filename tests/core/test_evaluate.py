"""What ``evaluate`` takes over from the training where the user does not say otherwise."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.commands.evaluate import as_trained
from core.config import EvaluateConfig
from core.errors import ConfigError
from core.parser import parse
from core.track.package import Package


@dataclass
class Data:
    """Data.

    Args:
        path: Path.
        sigma: Level.
        seed: Seed.
    """

    path: str | None = None
    sigma: float | list[float] = 25.0
    seed: int = 0


@dataclass
class Scoring:
    """Scoring.

    Args:
        shave: Border.
        channel: Channel.
    """

    shave: int = 0
    channel: str = "rgb"


@dataclass
class Config(EvaluateConfig):
    """Evaluates.

    Args:
        data: Data.
        scoring: Scoring.
    """

    data: Data = field(default_factory=Data)
    scoring: Scoring = field(default_factory=Scoring)


class SomeTask:
    trained_for = ("sigma",)


def taken(*argv, **metadata):
    stored = {"config": {"path": "photos", "sigma": [0, 55], "seed": 7}}
    options = {"scoring": {"shave": 3, "channel": "y"}}
    package = Package(Path(), "x", {}, {"data": stored, "options": options} | metadata)
    config = parse(Config, list(argv), prog="evaluate", description="")
    return as_trained(SomeTask(), config, package)


def test_without_flags_all_is_as_in_training():
    config, said = taken()
    assert config.data == Data("photos", [0, 55], 7) and config.scoring == Scoring(3, "y")
    assert said == [
        "scoring.shave 3",
        "scoring.channel y",
        "data.path photos",
        "data.sigma [0, 55]",
        "data.seed 7",
    ]


def test_one_flag_does_not_change_the_data():
    config, _ = taken("--data.seed", "0")
    assert config.data == Data("photos", [0, 55], 0)


def test_named_data_keep_what_the_model_is_for():
    config, said = taken("--data.path", "other")
    assert config.data == Data("other", [0, 55], 0)
    assert said == ["scoring.shave 3", "scoring.channel y", "data.sigma [0, 55]"]


@pytest.mark.parametrize(
    "flags", [("--scoring.shave", "0"), ("--scoring.shave=0",), ("--scoring", "{shave: 0}")]
)
def test_what_is_given_wins_even_if_it_is_the_default(flags):
    config, _ = taken(*flags)
    assert config.scoring == Scoring(0, "y")


def test_flags_of_a_file_count_as_given(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {path: other, sigma: 25.0}\nscoring: {channel: rgb}\n")
    config, _ = taken("--config", str(tmp_path / "c.yaml"))
    assert config.data == Data("other", 25.0, 0) and config.scoring == Scoring(3, "rgb")


def test_a_model_that_was_handed_on_asks_for_data():
    with pytest.raises(ConfigError, match=r"comes without its data; give --data.test_path or --data.path"):
        taken(provenance={"commit": "c0ffee"})
    assert taken("--data.path", "mine", provenance={})[0].data.path == "mine"
    # The folder that is left in its record has the same name by chance.
    assert taken("--data.path", "photos", provenance={})[0].data == Data("photos", [0, 55], 0)


def test_data_of_the_training_that_are_named_again_are_read_as_in_training():
    for path in ("photos", "./photos", str(Path("photos").resolve())):
        config, _ = taken("--data.path", path)
        assert config.data == Data(path, [0, 55], 7)
