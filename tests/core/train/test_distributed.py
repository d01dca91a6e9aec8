"""Two processes of torchrun, with gloo on the CPU, train what one process trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_training

from core.data.loader import EpochLoader
from core.errors import DataError
from core.train.checkpoint import load_checkpoint
from core.train.distributed import World, environment_world

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes left, see ``toy_training.run_distributed``."""
    root = tmp_path_factory.mktemp("two")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(toy_training.__file__, "distributed", str(root)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return root


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("points", toy_training.distributed_point),
        ("windows", toy_training.distributed_windows),
        ("frozen", toy_training.distributed_frozen),
    ],
)
def test_two_processes_equal_one(name, train, two, tmp_path):
    train(tmp_path)
    one, both = load_checkpoint(tmp_path), load_checkpoint(two / name)
    assert both["step"] == one["step"]
    assert largest_difference(one["model"], both["model"]) < 2e-5
    if one["ema"]:
        assert largest_difference(one["ema"], both["ema"]) < 2e-5
        assert both["best"] == pytest.approx(one["best"], rel=1e-4)


def test_the_comparison_is_of_trained_weights(two, tmp_path):
    for name, build in (("points", toy_training.point_trainer), ("windows", toy_training.window_trainer)):
        learner = toy_training.PointLearner(0.0) if name == "points" else None
        options = {"learner": learner} if learner else {}
        start = build(tmp_path, toy_training.plain_config(), **options).learner.state_dict()
        assert largest_difference(start, load_checkpoint(two / name)["model"]) > 1e-2


def test_a_checkpoint_by_the_clock_of_one_process_does_not_hang(two):
    points, clock = load_checkpoint(two / "points"), load_checkpoint(two / "clock")
    assert largest_difference(points["model"], clock["model"]) == 0


def test_all_processes_stop_for_a_bad_sample_of_one(two):
    lines = [(two / f"rank-{rank}.txt").read_text().splitlines()[0] for rank in (0, 1)]
    assert all(line.startswith("bad sample: TrainingError: the loss") for line in lines)
    assert sum("is nan" in line for line in lines) == 1
    assert sum("of another process is not finite" in line for line in lines) == 1
    assert sum("point-7" in line for line in lines) == 1


def test_a_signal_to_one_process_stops_all_after_the_same_step(two):
    lines = [(two / f"rank-{rank}.txt").read_text().splitlines()[1] for rank in (0, 1)]
    assert all(line.startswith("signal: Interrupted: stopped by") for line in lines)
    assert all("after step 2 of 12" in line for line in lines)
    assert load_checkpoint(two / "signal")["step"] == 2


def test_only_rank_0_writes(two):
    names = {path.name for path in two.rglob("*") if path.is_file()}
    assert names == {"last.pt", "previous.pt", "rank-0.txt", "rank-1.txt"}


def test_world_is_read_from_the_environment(monkeypatch):
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    world = environment_world()
    assert (world.rank, world.size, world.local_rank, world.is_main) == (3, 4, 1, False)
    with pytest.raises(DataError, match="cannot be shared by 4 processes"):
        EpochLoader(toy_training.Points(), 6, seed=0)


def test_ranks_share_a_batch(tmp_path):
    whole = EpochLoader(toy_training.Points(), 4, seed=0)
    parts = [EpochLoader(toy_training.Points(), 4, seed=0, world=World(rank, 2)) for rank in (0, 1)]
    cpu = torch.device("cpu")
    batches = [next(loader.batches(3, cpu))["ids"] for loader in (whole, *parts)]
    assert len(batches[1]) == len(batches[2]) == 2
    assert sorted(batches[1] + batches[2]) == sorted(batches[0])
