"""A short form of the scenarios: one kill of each task, a full disk, two damaged checkpoints."""

from __future__ import annotations

import resource
from random import Random

import pytest

from core.train.checkpoint import LAST, load_checkpoint
from tests.faults import __main__ as command
from tests.faults import checkpoints, kills
from tests.faults.process import Said, one_line
from tests.faults.scenario import Options, Outcome
from tests.faults.store import Held
from tests.faults.training import TASKS, Facts, Training, World, make_data


@pytest.fixture(scope="module")
def world(tmp_path_factory, _migrated):
    return World(make_data(tmp_path_factory.mktemp("world") / "data"), _migrated)


@pytest.fixture(scope="module")
def untracked(tmp_path_factory, world):
    """A training that was killed, and what an uninterrupted one ends with."""
    return checkpoints.prepare(tmp_path_factory.mktemp("untracked"), world)


@pytest.mark.slow
# Where they are killed, as a share of their changes of files: in training, in the upload of the model, at the end.
@pytest.mark.parametrize(("task", "share"), list(zip(TASKS, (0.85, 0.3, 0.99), strict=True)))
def test_a_killed_training_ends_as_an_uninterrupted_one_and_is_in_the_store_once(
    task, share, world, tmp_path
):
    whole = kills.train_whole(task, tmp_path / "whole", world)
    training = Training.new(task, tmp_path / "killed", world)
    phases, wrong = kills.kill_and_finish(training, [kills.Kill(change=int(share * whole.changes))], whole)
    assert wrong == []
    assert phases[0] in ("training", "registration", "upload")
    assert whole.held.statuses == ["FINISHED"]
    assert whole.held.versions == [(f"skipway-{task}", 1)]
    assert len(whole.held.points) > 30 and len(whole.held.files) > 5


def test_a_full_disk_at_a_checkpoint_is_one_line_and_costs_nothing(untracked, world, tmp_path):
    training = Training.new("forecasting", tmp_path / "full", world, tracking="none")
    started = training.start()
    assert started.wait_until(lambda: training.checkpoints)
    size = (training.checkpoints[0] / LAST).stat().st_size
    resource.prlimit(started.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    said = started.wait()
    assert one_line(said, str(training.checkpoints[0] / LAST), "File too large", "--resume") == []
    assert training.record["status"] == "FAILED"
    assert load_checkpoint(training.checkpoints[0])["step"] >= 1
    assert training.differences(untracked[1], training.go_on().wait()) == []


@pytest.mark.parametrize("damage", [checkpoints.flipped, checkpoints.replaced])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, untracked, tmp_path):
    killed, facts = untracked
    training = checkpoints.copy_of(killed, tmp_path / "damaged")
    assert checkpoints.recover(training, damage, Random(1), facts) == []


def test_two_damaged_checkpoints_are_one_line(untracked, tmp_path):
    assert checkpoints.refuse(checkpoints.copy_of(untracked[0], tmp_path / "both"), Random(0)) == []


def test_the_comparisons_can_fail(untracked, tmp_path, monkeypatch):
    training, facts = untracked
    monkeypatch.setattr(Training, "last", tmp_path)  # its own folder is as the kill left it
    name, value = next(iter(facts.metrics.items()))
    other = Facts({**facts.metrics, name: "0.5"}, "f" * 64)

    monkeypatch.setattr(Training, "facts", facts)
    assert training.differences(facts, Said(0, "", "")) == []
    assert training.differences(other, Said(0, "", "")) == [f"{name}: {value}, not 0.5", "the weights differ"]
    assert training.differences(facts, Said(1, "", "error: x")) == ["exit code 1: error: x"]
    (tmp_path / ".last.pt.tmp").touch()
    assert training.differences(facts, Said(0, "", "")) == ["left over: .last.pt.tmp"]
    assert one_line(Said(1, "", "error: no room in /a"), "/a") == []
    assert one_line(Said(1, "", "Traceback\nerror: no room")) == ["2 lines, the last one: error: no room"]
    assert one_line(Said(1, "", "error: no room"), "/a") == ["'/a' is not in: error: no room"]
    assert one_line(Said(-9, "", "")) == ["exit code -9"]
    held = Held(["FINISHED"], {("run", "loss", 1, 0.5)}, set(), [("m", 1)], {})
    assert held.differences(held) == []
    assert held.differences(Held(["FINISHED"], set(), set(), [("m", 1), ("m", 2)], {})) == [
        "store: versions [('m', 1)], not [('m', 1), ('m', 2)]",
        "store: points [] lost, [('loss', 1, 0.5)] new",
    ]


def test_the_command_fails_if_a_scenario_does(monkeypatch, tmp_path, capsys):
    seen = []

    def run(options: Options) -> list[Outcome]:
        seen.append(options)
        return [Outcome("a | b", 2, options.kills, "figures", ["what was wrong"][options.kills - 1 :])]

    monkeypatch.setattr(
        command.importlib, "import_module", lambda name: type("Fake", (), {"run": staticmethod(run)})
    )
    given = ["--only", "kills", "--output", str(tmp_path / "kept"), "--seed=3", "--markdown"]
    assert command.main([*given, "--kills=1"]) == 1
    seen_out, seen_err = capsys.readouterr()
    assert seen_out.splitlines()[-1] == "| kills | a \\| b | 1 of 2 | figures |"
    assert "what was wrong" in seen_err
    assert command.main([*given, "--kills=2"]) == 0
    assert seen[0] == Options(kills=1, seed=3, folder=tmp_path / "kept")
