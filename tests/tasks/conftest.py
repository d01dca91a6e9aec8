"""What the tests of all tasks share; they may import ``commands``, whatever pytest's mode."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder that the test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Options of a forecasting training of a moment, in an empty working directory."""
    from tasks.forecasting.task import TASK

    path = tmp_path / "sales.csv"
    rows = [
        f"{name},{2010 + t // 12}-{t % 12 + 1:02d}-01,{level + t + 5 * (t % 12)}"
        for name, level in (("a", 10), ("b", 20), ("c", 300))
        for t in range(60)
    ]
    path.write_text("\n".join(["unique_id,ds,y", *rows]) + "\n")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    # The pictures of a training take most of its time here; the tests of the task draw them.
    monkeypatch.setattr(type(TASK), "figures", lambda *arguments: iter(()))
    return [
        f"--data.path={path}",
        "--data.horizon=3",
        "--model.lookbacks=[2]",
        "--model.losses=[smape]",
        "--model.blocks=2",
        "--model.width=4",
        "--train.steps=6",
        "--train.batch_size=8",
        "--train.tune_allocator=false",
        "--tracking=none",
    ]
