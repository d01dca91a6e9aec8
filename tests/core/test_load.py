"""Which model a command uses when none is named."""

import re
from pathlib import Path

import pytest

from core.commands.load import bundled_folder, load_predictor
from core.commands.results import make_console
from core.config import UseConfig
from core.errors import NoModelError, TrackingError
from core.task import load_task
from core.track.package import load_package

ROOT = Path(__file__).resolve().parents[2]
METRICS = {"denoising": "psnr", "super_resolution": "psnr", "segmentation": "dice", "speech": "accuracy"}
TASKS = [name for name in METRICS if load_task(name).bundled]
BUNDLED = [(task, name) for task in TASKS for name in load_task(task).bundled]
LARGEST = 3_000_000  # bytes of weights that come with the package


@pytest.mark.parametrize("task", TASKS)
def test_without_a_champion_it_is_the_one_that_comes_with_the_task(task, tracking, capsys):
    task = load_task(task)
    first = next(iter(task.bundled))
    for uri in ("none", tracking):
        package, _ = load_predictor(task, UseConfig(tracking=uri), make_console())
        assert package.folder == bundled_folder(task, first)
        assert f"{first}, which comes with skipway" in capsys.readouterr().out


def test_a_store_that_does_not_answer_is_an_error(monkeypatch):
    task = load_task(TASKS[0])

    def fail(*_):
        raise TrackingError("the server does not answer")

    monkeypatch.setattr("core.commands.load.fetch", fail)
    with pytest.raises(TrackingError, match="does not answer"):
        load_predictor(task, UseConfig(), make_console(quiet=True))


def test_a_task_without_models_of_its_own_needs_a_champion():
    with pytest.raises(NoModelError, match="tracking is none"):
        load_predictor(load_task("forecasting"), UseConfig(tracking="none"), make_console(quiet=True))


@pytest.mark.parametrize(("task", "name"), BUNDLED)
def test_what_comes_with_a_task_is_small_whole_and_tells_its_origin(task, name):
    package = load_package(bundled_folder(load_task(task), name))
    assert package.task == task
    assert (package.folder / "weights.safetensors").stat().st_size < LARGEST
    origin = package.metadata["provenance"]
    assert re.fullmatch("[0-9a-f]{40}", origin["commit"])
    assert origin["command"].startswith(f"python -m tasks.{task}.train --config tasks/{task}/configs/")
    scores = origin["scores"]
    # Of the whole test, not of a part: baseline/<method>/<metric>.
    metric = METRICS[task]
    overall = [v for k, v in scores.items() if re.fullmatch(rf"baseline/\w+/{metric}", k)]
    assert overall and scores[f"test/{metric}"] > max(overall)
    text = "".join(path.read_text() for path in package.folder.glob("*.json"))
    assert not re.search(r"[\s\"'\[]/\w", text), "no absolute path"
    load_task(task).predictor(package)


@pytest.mark.parametrize("task", TASKS)
def test_every_model_in_the_examples_exists(task):
    known = load_task(task)
    lines = [line for command in ("evaluate", "predict", "export") for line in known.examples[command]]
    named = {found for line in lines for found in re.findall(r"--model (\S+)", line)}
    assert named <= set(known.bundled)
    readme = (ROOT / "tasks" / task / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in known.bundled), "the README lists what there is"
