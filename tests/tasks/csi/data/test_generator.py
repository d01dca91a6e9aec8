import errno
import json
import os
import signal
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from rich.console import Console

from core.errors import DataError
from tasks.csi.config import ChannelConfig
from tasks.csi.data import generator, store
from tasks.csi.data.dataset import Condition
from tasks.csi.data.generator import batch_seed, ensure_channels
from tasks.csi.data.store import DOWNLINK, HISTORY, UPLINK, cache_folder, report_interval, sample_bytes

CONDITIONS = [Condition("A", 100.0, 10.0), Condition("D", 30.0, 1.0)]
QUIET = Console(quiet=True)


def make(folder, channel, samples=3, part="train", workers=1, conditions=CONDITIONS):
    return ensure_channels(folder, channel, 0, part, conditions, samples, workers, QUIET)


def content(folder):
    return {
        str(path.relative_to(folder)): torch.load(path, weights_only=True) for path in folder.rglob("*.pt")
    }


def test_channels_are_written_in_the_layout_of_the_authors(tmp_path, channel):
    assert make(tmp_path, channel) == 2
    found = content(tmp_path)
    assert {*found} == {
        f"train/regular/{name}/{file}"
        for name in ("cm_A_ds_100_ms_010", "cm_D_ds_030_ms_001")
        for file in (HISTORY, UPLINK, DOWNLINK)
    }
    shapes = {HISTORY: (3, 4, 4, 4), UPLINK: (3, 4, 2, 4), DOWNLINK: (3, 4, 2, 4)}
    for name, tensor in found.items():
        assert tensor.shape == shapes[name.rpartition("/")[2]]
        assert tensor.dtype == torch.complex64
    written = json.loads((tmp_path / "parameters.json").read_text())
    assert written["subcarriers"] == 4
    assert written["seed"] == 0


def test_what_is_there_is_kept_and_more_samples_begin_with_the_same(tmp_path, channel):
    make(tmp_path, channel)
    first = content(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    assert make(tmp_path, channel, samples=2) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")} == times
    assert make(tmp_path, channel, samples=18) == 2  # more than a batch
    for name, tensor in content(tmp_path).items():
        assert len(tensor) == 18
        assert torch.equal(tensor[:3], first[name])
        assert not torch.equal(tensor[16:], tensor[:2])


def test_a_missing_condition_and_a_damaged_file_are_made_again(tmp_path, channel):
    make(tmp_path, channel)
    first = content(tmp_path)
    (tmp_path / "train/regular/cm_A_ds_100_ms_010" / UPLINK).unlink()
    (tmp_path / "train/regular/cm_D_ds_030_ms_001" / HISTORY).write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "train/regular/.unfinished-abc").mkdir()
    assert make(tmp_path, channel) == 2
    assert all(torch.equal(tensor, first[name]) for name, tensor in content(tmp_path).items())
    assert not [*tmp_path.rglob(".unfinished*")]


@pytest.mark.slow  # two processes import Sionna
def test_processes_make_the_same_channels_as_one(tmp_path, channel):
    make(tmp_path / "one", channel)
    make(tmp_path / "two", channel, workers=2)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert {*one} == {*two}
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_each_batch_has_a_seed_of_its_own():
    seeds = {
        batch_seed(seed, part, condition, batch)
        for seed in (0, 1)
        for part in ("train", "test")
        for condition in (*CONDITIONS, Condition("A", 100.0, 1.5), Condition("A", 30.0, 10.0))
        for batch in range(5)
    }
    assert len(seeds) == 2 * 2 * 4 * 5


def test_a_run_that_stops_keeps_the_conditions_that_are_whole(tmp_path, channel, monkeypatch):
    original, calls = torch.save, []

    def interrupted(tensor, stream):
        calls.append(stream.name)
        if len(calls) == 5:
            raise KeyboardInterrupt
        original(tensor, stream)

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, channel)
    assert {name.split("/")[2] for name in content(tmp_path)} == {"cm_A_ds_100_ms_010"}
    assert make(tmp_path, channel) == 1


def test_a_request_to_end_is_as_an_interrupt_and_the_handler_is_put_back(tmp_path, channel, monkeypatch):
    former = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(generator, "_generate", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, channel)
    assert signal.getsignal(signal.SIGTERM) is former
    FileLock(tmp_path / "generating.lock").acquire(timeout=0)


def test_with_processes_the_bar_moves_by_what_is_made_within_a_condition(tmp_path, channel, monkeypatch):
    jobs, shown = [], []

    class Pool:
        def __init__(self, processes, context, initializer, initargs):
            (self.made,) = initargs

        def submit(self, function, *arguments):
            monkeypatch.setattr(generator, "_made", self.made, raising=False)
            arguments[-1](16)  # a batch
            jobs.append(Future())
            return jobs[-1]

        def shutdown(self, cancel_futures):
            assert cancel_futures

    def update(progress, bar, completed):
        shown.append(completed)
        if len(shown) < 3:
            jobs[len(shown) - 1].set_result(None)

    monkeypatch.setattr(generator, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(generator.Progress, "update", update)
    monkeypatch.setattr(generator, "REFRESH", 0.01)
    make(tmp_path, channel, samples=40, workers=2)
    assert shown == [32, 32, 32]


def test_a_worker_ends_when_its_parent_was_killed(monkeypatch):
    steps = []
    parent = SimpleNamespace(join=lambda: steps.append("joined"))
    monkeypatch.setattr(generator, "parent_process", lambda: parent)
    monkeypatch.setattr(generator.os, "_exit", steps.append)
    generator._end_with_parent()
    assert steps == ["joined", 1]


def test_an_interrupt_of_processes_says_what_is_waited_for(tmp_path, channel, monkeypatch, capsys):
    stopped = []

    class Pool:
        def __init__(self, *arguments, **options):
            pass

        def submit(self, *arguments):
            return Future()

        def shutdown(self, cancel_futures):
            stopped.append(cancel_futures)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(generator, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_channels(tmp_path, channel, 0, "train", CONDITIONS, 3, 2, Console())
    assert "stopping   when the conditions at hand are whole" in capsys.readouterr().out
    assert stopped == [True]


def test_a_disk_that_fills_up_is_one_line(tmp_path, channel, monkeypatch):
    def full(tensor, stream):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598") from None

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\).*--data.cache"):
        make(tmp_path, channel)
    assert not [*tmp_path.rglob(".unfinished*")]


def test_too_small_a_disk_is_said_before_anything_is_made(tmp_path, channel, monkeypatch):
    monkeypatch.setattr(generator.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"0\.00 GB free and 0\.00 GB are to be written"):
        make(tmp_path, channel)


def test_a_folder_that_is_a_file_is_one_line(tmp_path, channel):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        make(tmp_path / "taken", channel)


def test_a_killed_process_is_one_line(tmp_path, channel, monkeypatch):
    def killed(*arguments):
        raise generator.BrokenProcessPool

    monkeypatch.setattr(generator, "_generate", killed)
    with pytest.raises(DataError, match=r"was killed.*lower --data\.workers"):
        make(tmp_path, channel)


def test_a_folder_of_other_channels_is_refused(tmp_path, channel):
    make(tmp_path, channel, conditions=CONDITIONS[:1])
    with pytest.raises(DataError, match=r"holds channels of other parameters \(gap 3\)"):
        make(tmp_path, ChannelConfig(**{**vars(channel), "gap": 5}))
    (tmp_path / "parameters.json").write_text("{")
    with pytest.raises(DataError, match=r"parameters\.json cannot be read"):
        make(tmp_path, channel)
    (tmp_path / "parameters.json").unlink()
    with pytest.raises(DataError, match=r"holds channels without parameters\.json"):
        make(tmp_path, channel)


def test_a_second_run_waits_for_the_first(tmp_path, channel, monkeypatch):
    first = FileLock(tmp_path / "generating.lock")
    first.acquire()
    said = []

    def hear(text, **options):
        said.append(text)
        first.release()

    monkeypatch.setattr(QUIET, "print", hear)
    monkeypatch.setattr(generator, "_generate", lambda *arguments: said.append("generated"))
    make(tmp_path, channel)
    assert said == [f"waiting    another run generates into {tmp_path}", "generated"]


def test_the_cache_is_named_by_what_fixes_the_channels(tmp_path, channel, monkeypatch):
    here = cache_folder(str(tmp_path), channel, 0)
    assert here == cache_folder(str(tmp_path), ChannelConfig(**vars(channel)), 0)
    assert here != cache_folder(str(tmp_path), channel, 1)
    assert here != cache_folder(str(tmp_path), ChannelConfig(**{**vars(channel), "slower": True}), 0)
    monkeypatch.setenv("SKIPWAY_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder(None, channel, 0) == tmp_path / "elsewhere/csi" / here.name


def test_missing_sionna_says_what_to_install(channel, monkeypatch):
    def missing(name):
        raise store.PackageNotFoundError(name)

    monkeypatch.setattr(store, "version", missing)
    with pytest.raises(store.ConfigError, match=r"pip install 'skipway\[csi\]'"):
        cache_folder(None, channel, 0)


def test_sizes_and_times_of_the_papers_channels():
    channel = ChannelConfig()
    assert sample_bytes(channel) == 32 * 24 * 300 * 8
    assert report_interval(channel) == pytest.approx(70 * 756 / 750 / 30e3)


def test_processes_are_as_many_as_asked_for_as_fit_and_as_are_useful(channel, monkeypatch):
    big = ChannelConfig()
    monkeypatch.setattr(generator.os, "sched_getaffinity", lambda process: range(6))
    memory = SimpleNamespace(available=10e9)
    monkeypatch.setattr(generator.psutil, "virtual_memory", lambda: memory)
    assert generator._processes(channel, 100, 9, 0) == 1  # a second, which is less than a start
    assert generator._processes(channel, 100, 9, 4) == 4
    assert generator._processes(channel, 100, 2, 4) == 2
    assert generator._processes(big, 100, 27, 0) == 6
    assert generator._processes(big, 1000, 27, 0) == 4  # 1.84 GB each
    memory.available = 1e9
    assert generator._processes(big, 1000, 27, 0) == 1
