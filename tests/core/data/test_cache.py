"""The store of loaded arrays: its limit, files beyond it, equal values, and nothing left on the disk."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.data import cache
from core.data.cache import Store
from core.data.loader import EpochLoader
from core.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPWAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def arrays(count=5, size=1000):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(size // 10, 10)).astype(np.float32) for _ in range(count)]


def test_arrays_stay_in_memory_up_to_the_limit_and_are_mapped_beyond_it(folder):
    given, store = arrays(), Store(8000 / 1e9)
    kept = [store.keep(array) for array in given]
    assert [a is b for a, b in zip(given, kept, strict=True)] == [True, True, False, False, False]
    for array, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(array, other)
        assert other.dtype == array.dtype and other.shape == array.shape
    assert store.held == 8000 and store.mapped == 3 * 4032  # whole lines of the processor's cache
    assert store.notes()[0].startswith(f"1.21e-05 GB of the data lie in a file in {folder}")
    assert list(folder.iterdir()) == [], "the file has no name, so that nothing is left of it"


def test_all_fits_by_default_and_nothing_is_said():
    store = Store()
    assert all(store.keep(array) is array for array in arrays()) and store.notes() == []


def test_views_of_the_files_outlive_the_store():
    store = Store(0)
    kept = [store.keep(array) for array in arrays()]
    del store
    for array, other in zip(arrays(), kept, strict=True):
        np.testing.assert_array_equal(array, other)


def test_an_array_larger_than_a_file_gets_one_of_its_own(monkeypatch):
    monkeypatch.setattr(cache, "FILE", 4096)
    store = Store(0)
    given = [np.arange(size, dtype=np.int16) for size in (10, 5000, 20, 1)]
    kept = [store.keep(array) for array in given]
    for array, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(array, other)


def test_empty_arrays_need_no_file(folder):
    assert Store(0).keep(np.zeros((0, 3))).shape == (0, 3) and not folder.exists()


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_rows_are_added_and_taken_away_where_they_are(limit):
    store = Store(limit)
    rows = store.empty((4, 3), np.int16)
    rows[:] = np.arange(12).reshape(4, 3)
    rows = store.resized(rows, 2)
    assert rows.tolist() == [[0, 1, 2], [3, 4, 5]]
    rows = store.resized(rows, 5)
    rows[2:] = 7
    assert rows.tolist() == [[0, 1, 2], [3, 4, 5], [7] * 3, [7] * 3, [7] * 3]
    assert rows.flags.owndata == (limit == 1.0)


def test_rows_that_grow_beyond_the_limit_move_to_a_file():
    store = Store(64 / 1e9)
    rows = store.empty((4, 8), np.int16)
    rows[:] = 3
    grown = store.resized(rows, 6)
    assert not grown.flags.owndata and (grown[:4] == 3).all() and len(grown) == 6


def test_a_negative_limit_is_one_line():
    with pytest.raises(ConfigError, match=r"--data.memory -1 must be 0 or more"):
        Store(-1)


def test_the_default_is_a_quarter_of_what_a_container_may_take_shared_by_its_processes(monkeypatch, tmp_path):
    (tmp_path / "max").write_text("8000\n")
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: SimpleNamespace(total=10**6))
    monkeypatch.setattr(cache, "LIMITS", (str(tmp_path / "max"), str(tmp_path / "none")))
    assert Store().limit == 2000
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Store().limit == 1000


def test_a_full_disk_is_one_line(monkeypatch, folder):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError) as caught:
        Store(0).keep(np.ones(3))
    assert str(caught.value) == (
        f"{folder}: no file of 0.0671 GB for data beyond --data.memory (No space left on device); name another "
        "folder by SKIPWAY_CACHE, or raise --data.memory"
    )
    assert list(folder.iterdir()) == []


class Rows:
    """Samples out of a store."""

    def __init__(self, kept):
        self.kept = kept

    def __len__(self):
        return len(self.kept)

    def draw(self, index, rng):
        return {"x": torch.from_numpy(self.kept[index] + rng.normal(size=10).astype(np.float32))}


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_draw_the_same_from_a_file_as_from_memory(workers):
    batches = []
    for limit in (1.0, 0.0):
        store = Store(limit)
        samples = Rows([store.keep(array) for array in arrays(8)])
        stream = EpochLoader(samples, 2, seed=0, workers=workers).batches(0, torch.device("cpu"))
        batches.append([next(stream)["x"] for _ in range(6)])
        stream.close()
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one, other)
