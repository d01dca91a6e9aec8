"""A training that is killed with SIGKILL and resumed ends with the same bits as one that is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_training
from toy_training import resumed_trainer

from core.errors import ConfigError, TrainingError
from core.train.checkpoint import LAST, PREVIOUS, load_checkpoint, save_checkpoint

SCENARIOS = {
    # Where it is killed, and the step that the newest whole checkpoint is of. A step draws two of an epoch's five
    # batches, so that the epochs end in steps 3, 5, 8, 10.
    "epoch:step:7": 5,
    "minutes:step:7": 6,
    "techniques:step:7": 6,
    "frozen:step:7": 6,
    "windows:step:5": 4,
    "epoch:write:7": 5,
    "epoch:rename:7": 5,
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder with the checkpoints of all killed trainings."""
    root = tmp_path_factory.mktemp("killed")
    root_of_code = Path(__file__).parents[3]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root_of_code)}
    command = [sys.executable, toy_training.__file__, "killed", str(root), *SCENARIOS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["9"] * len(SCENARIOS), done.stderr
    return root


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The killed trainings had one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def differences(a, b, where=""):
    """Names of the entries in which two checkpoints differ by a bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        return [d for key in a for d in differences(a[key], b[key], f"{where}/{key}") if key != "seconds"]
    if isinstance(a, list | tuple):
        assert len(a) == len(b), where
        return [
            d for i, pair in enumerate(zip(a, b, strict=True)) for d in differences(*pair, f"{where}/{i}")
        ]
    same = torch.equal(a, b) if torch.is_tensor(a) else a == b
    return [] if same else [where]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_and_resumed_equals_uninterrupted(scenario, killed, tmp_path):
    kind = scenario.split(":")[0]
    folder = killed / scenario
    assert load_checkpoint(folder)["step"] == SCENARIOS[scenario]

    resumed = resumed_trainer(kind, folder)
    resumed.fit()
    whole = resumed_trainer(kind, tmp_path)
    whole.fit()

    state, expected = load_checkpoint(folder), load_checkpoint(tmp_path)
    assert state["done"]
    assert state["optimizer"]["state"]
    assert differences(expected, state) == []
    assert differences(whole.learner.state_dict(), resumed.learner.state_dict()) == []
    assert not list(folder.glob(".*")), "temporary files are left"


def test_the_comparison_sees_one_lost_batch(killed, tmp_path):
    """The test above can fail: a training that skips a batch differs in the weights and the optimiser."""
    whole = resumed_trainer("windows", tmp_path / "whole")
    whole.fit()
    shifted = resumed_trainer("windows", tmp_path / "shifted")
    batches = shifted.source.batches
    shifted.source.batches = lambda start, device: batches(start + 1, device)
    shifted.fit()
    found = differences(load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "shifted"))
    assert any(name.startswith("/model") for name in found)
    assert any(name.startswith("/optimizer") for name in found)


def test_a_kill_between_the_renamings_leaves_the_previous_one(killed):
    """Seen before the resumed run above or after it, the folder holds what can be loaded."""
    assert (killed / "epoch:rename:7" / PREVIOUS).exists()


@pytest.fixture
def two(tmp_path):
    """A folder with two checkpoints, of the steps 1 and 2."""
    for step in (1, 2):
        save_checkpoint({"step": step, "weights": torch.full((1000,), float(step))}, tmp_path)
    return tmp_path


def damage(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_the_newest_is_loaded(two):
    assert load_checkpoint(two)["step"] == 2
    assert sorted(path.name for path in two.iterdir()) == [LAST, PREVIOUS]


def test_a_damaged_newest_falls_back(two, capsys):
    damage(two / LAST)
    assert load_checkpoint(two)["step"] == 1
    assert LAST in capsys.readouterr().err


def test_one_flipped_bit_of_a_weight_is_damage(two, capsys):
    content = bytearray((two / LAST).read_bytes())
    content[content.index(torch.full((1000,), 2.0).numpy().tobytes()) + 3] ^= 1
    (two / LAST).write_bytes(content)
    assert torch.load(two / LAST)["weights"][0] != 2.0, "torch itself sees nothing"
    assert load_checkpoint(two)["step"] == 1
    assert capsys.readouterr().err == f"warning: {two / LAST} is damaged (ValueError)\n"


def test_a_file_of_something_else_is_damage(two):
    torch.save([1, 2], two / LAST)
    assert load_checkpoint(two)["step"] == 1


def test_the_next_checkpoint_does_not_put_a_damaged_one_in_the_place_of_the_good_one(two):
    damage(two / LAST)
    assert load_checkpoint(two)["step"] == 1
    save_checkpoint({"step": 3}, two)
    damage(two / LAST)
    assert load_checkpoint(two)["step"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_as_such_and_leaves_both(two):
    (two / f".{LAST}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '{two / LAST}'"):
        save_checkpoint({"step": 3, "weights": torch.zeros(100_000)}, two)
    assert load_checkpoint(two)["step"] == 2
    damage(two / LAST)
    assert load_checkpoint(two)["step"] == 1


def test_both_damaged_is_one_line(two):
    damage(two / LAST)
    (two / PREVIOUS).write_bytes(b"")
    with pytest.raises(TrainingError, match="no readable checkpoint") as caught:
        load_checkpoint(two)
    assert "\n" not in str(caught.value)
    assert str(two) in str(caught.value)


def test_no_checkpoint_is_a_start(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


def test_a_pickle_with_code_is_not_run(tmp_path):
    torch.save({"step": Evil()}, tmp_path / LAST)
    with pytest.raises(TrainingError):
        load_checkpoint(tmp_path)
    assert not Evil.ran


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_another_number_of_steps_is_refused(killed, tmp_path):
    resumed_trainer("minutes", tmp_path, steps=3).fit()
    with pytest.raises(ConfigError, match="run of 3 steps, this one has 12"):
        resumed_trainer("minutes", tmp_path).fit()


def test_another_model_is_refused_in_one_line(tmp_path):
    resumed_trainer("minutes", tmp_path, steps=2).fit()
    trainer = resumed_trainer("minutes", tmp_path, steps=2)
    trainer.learner.model[0] = torch.nn.Linear(5, 9)
    with pytest.raises(ConfigError, match="another model") as caught:
        trainer.fit()
    assert "\n" not in str(caught.value)


def test_a_finished_part_is_not_trained_again(tmp_path):
    resumed_trainer("minutes", tmp_path, steps=2).fit()
    before = (tmp_path / LAST).read_bytes()
    again = resumed_trainer("minutes", tmp_path, steps=2)
    again.learner.loss_and_metrics = None  # calling it would fail
    assert again.fit().steps == 2
    assert (tmp_path / LAST).read_bytes() == before
