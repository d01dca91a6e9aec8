"""Where predictions go."""

from dataclasses import dataclass

import pytest

from core.commands import predict
from core.config import PredictConfig
from core.errors import ConfigError
from core.task import Task


@dataclass
class Halved(PredictConfig):
    factor: int = 2


class Asking:
    """Says nothing about outputs."""

    default_output = Task.default_output
    writes_to_stdout = Task.writes_to_stdout
    live_inputs = Task.live_inputs

    def predict(self, predictor, config):
        self.seen = (predictor, config)
        return []


class Deciding(Asking):
    def default_output(self, predictor, config):
        return f"{config.input}_{predictor}"


@pytest.fixture
def source(tmp_path, monkeypatch):
    def load(task, config, console):
        return None, "trained"

    monkeypatch.setattr(predict, "load_predictor", load)
    (tmp_path / "a.csv").write_text("x")
    return str(tmp_path / "a.csv")


def test_without_an_output_the_task_decides(source):
    task, config = Deciding(), Halved(input=source, factor=3)
    assert predict.run(task, config) == 0
    assert task.seen == ("trained", Halved(input=source, output=f"{source}_trained", factor=3))
    assert config.output is None
    predict.run(task, Halved(input=source, output="other"))
    assert task.seen[1].output == "other"


def test_a_task_that_does_not_decide_asks(source):
    task = Asking()
    with pytest.raises(ConfigError, match=r"^predict needs --output FILE\|FOLDER$"):
        predict.run(task, Halved(input=source))
    with pytest.raises(ConfigError, match=r"^predict needs --input FILE\|FOLDER$"):
        predict.run(task, Halved(output="b.csv"))
    assert predict.run(task, Halved(input=source, output="b.csv")) == 0


class Listening(Asking):
    live_inputs = ("-",)

    def writes_to_stdout(self, config):
        return config.output == "-"


def test_an_input_that_is_no_path_is_the_tasks(source):
    task = Listening()
    assert predict.run(task, Halved(input="-", output="b.csv")) == 0
    assert task.seen[1].input == "-"
    for asked, name in ((task, "+"), (Asking(), "-")):
        with pytest.raises(ConfigError, match=r"^--input \S does not exist$"):
            predict.run(asked, Halved(input=name, output="b.csv"))


def test_lines_do_not_mix_with_results(source, monkeypatch, capsys):
    def load(task, config, console):
        console.print("model      x")
        return None, "trained"

    monkeypatch.setattr(predict, "load_predictor", load)
    predict.run(Listening(), Halved(input=source, output="-"))
    assert capsys.readouterr() == ("", "model      x\n")
    predict.run(Listening(), Halved(input=source, output="b.csv"))
    assert capsys.readouterr() == ("model      x\n", "")
