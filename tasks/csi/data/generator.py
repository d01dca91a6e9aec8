"""Generates the channels of many conditions into a folder, in parallel; what is there already is kept."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import psutil
import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.errors import DataError
from core.train.signals import interruptible
from tasks.csi.config import ChannelConfig
from tasks.csi.data.dataset import Condition
from tasks.csi.data.store import (
    DOWNLINK,
    HISTORY,
    UPLINK,
    antennas,
    claim,
    parameters,
    remove_unfinished,
    sample_bytes,
    stored_samples,
    write_condition,
)

PARTS = ("train", "test")
WORTHWHILE = 2**27
"""Values that a process should have to make: starting one takes the time in which about so many are made."""
REFRESH = 0.5
"""Seconds between two looks at what the processes made."""
_made: Synchronized[int]  # samples that all workers made; set in a worker alone


def part_folder(folder: Path, part: str) -> Path:
    """Returns where the conditions of a part, train or test, are."""
    return folder / part / "regular"


def batch_seed(seed: int, part: str, condition: Condition, batch: int) -> int:
    """Returns the seed of a batch; it depends on nothing that is not named here, such as the number of samples."""
    place = (ord(condition.model), round(condition.delay_spread), round(condition.speed * 1000))
    entropy = (seed, PARTS.index(part), *place, batch)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def ensure_channels(
    folder: Path,
    channel: ChannelConfig,
    seed: int,
    part: str,
    conditions: Sequence[Condition],
    samples: int,
    workers: int,
    console: Console | None = None,
) -> int:
    """Generates what is missing of a part, and says before how much disk it takes.

    A condition is written when all of it is there, so that a run that is killed loses what it was at and no more.
    The first samples of a condition are the same whatever their number and the processes.

    Args:
        folder: In the layout of CSI-4CAST's data.
        channel: Parameters.
        seed: Seed.
        part: train or test; their channels differ.
        conditions: Conditions.
        samples: Samples of each.
        workers: Processes; 0 uses the cores where that is worth their start.
        console: Where to speak.

    Returns:
        Conditions that were generated.

    Raises:
        ConfigError: Sionna is not installed.
        DataError: The folder holds other channels, the disk is full or not writable, or a process was killed.
    """
    console = console or Console()
    wanted = parameters(channel, seed)
    place = part_folder(folder, part)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with interruptible(), _locked(folder, console):
            claim(folder, wanted)
            place.mkdir(parents=True, exist_ok=True)
            remove_unfinished(place)
            missing = [item for item in conditions if stored_samples(place / item.name) < samples]
            if missing:
                _generate(place, channel, seed, part, missing, samples, workers, console)
    except BrokenProcessPool:
        raise DataError(
            "a generating process was killed, as happens when memory ends; give a lower --data.workers and start"
            " again: finished conditions are kept"
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}); make room or choose another folder with"
            " --data.cache or --output; finished conditions are kept"
        ) from None
    return len(missing)


@contextmanager
def _locked(folder: Path, console: Console) -> Iterator[None]:
    """Holds the folder's lock; waits for another run that generates into it."""
    lock = FileLock(folder / "generating.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"waiting    another run generates into {folder}", markup=False, soft_wrap=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _generate(
    place: Path,
    channel: ChannelConfig,
    seed: int,
    part: str,
    missing: Sequence[Condition],
    samples: int,
    workers: int,
    console: Console,
) -> None:
    size, free = len(missing) * samples * sample_bytes(channel), shutil.disk_usage(place).free
    total = len(missing) * samples
    console.print(
        f"generating {total:,} {part} samples ({len(missing)} conditions, {size / 1e9:.2f} GB) into {place}",
        markup=False,
        soft_wrap=True,
    )
    if size > free:
        raise DataError(
            f"{place} has {free / 1e9:.2f} GB free and {size / 1e9:.2f} GB are to be written; lower --data.samples or"
            " --data.subcarriers, or choose another folder with --data.cache or --output"
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("channels", total=total)
        processes = _processes(channel, samples, len(missing), workers)
        if processes == 1:

            def advance(count: int) -> None:
                progress.advance(bar, count)

            for condition in missing:
                make_condition(place, channel, seed, part, condition, samples, advance)
            return
        context = get_context("spawn")
        made = context.Value("q", 0)
        pool = ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(made,))
        try:
            jobs: set[Future[None]] = {
                pool.submit(make_condition, place, channel, seed, part, item, samples, _count)
                for item in missing
            }
            while jobs:
                done, jobs = wait(jobs, timeout=REFRESH, return_when=FIRST_COMPLETED)
                for job in done:
                    job.result()
                progress.update(bar, completed=made.value)
        except KeyboardInterrupt:
            console.print("stopping   when the conditions at hand are whole", markup=False)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _processes(channel: ChannelConfig, samples: int, conditions: int, workers: int) -> int:
    """Returns how many processes are used: as many as asked for, as memory holds, and as there are conditions."""
    fitting = int(psutil.virtual_memory().available * 0.8 / (samples * sample_bytes(channel)))
    if not workers:
        values = conditions * samples * antennas(channel) * (channel.history + channel.horizon)
        values *= channel.subcarriers + 100  # the paths' gains cost as much as about 100 subcarriers
        workers = min(len(os.sched_getaffinity(0)), 1 + values // WORTHWHILE)
    return max(1, min(workers, fitting, conditions))


def _start_worker(made: Synchronized[int]) -> None:
    global _made
    _made = made
    # An interrupt is for the parent, which lets the conditions at hand be finished; GPUs are not used.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: it would wait for work, with its memory, for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _count(samples: int) -> None:
    with _made.get_lock():
        _made.value += samples


def make_condition(
    place: Path,
    channel: ChannelConfig,
    seed: int,
    part: str,
    condition: Condition,
    samples: int,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Generates a condition and writes its files.

    Args:
        place: Folder of the part.
        channel: Parameters.
        seed: Seed.
        part: train or test.
        condition: Condition.
        samples: Its number of samples.
        advance: Called with the number of samples that were made.
    """
    from tasks.csi.data.cdl import BATCH, ChannelSampler

    sampler = ChannelSampler(channel, condition)
    shape = (samples, antennas(channel))
    files = {
        HISTORY: torch.empty(*shape, channel.history, channel.subcarriers, dtype=torch.complex64),
        UPLINK: torch.empty(*shape, channel.horizon, channel.subcarriers, dtype=torch.complex64),
        DOWNLINK: torch.empty(*shape, channel.horizon, channel.subcarriers, dtype=torch.complex64),
    }
    for start in range(0, samples, BATCH):
        uplink, downlink = sampler.draw(batch_seed(seed, part, condition, start // BATCH))
        count = min(BATCH, samples - start)
        here = slice(start, start + count)
        files[HISTORY][here] = torch.from_numpy(uplink[:count, :, : channel.history])
        files[UPLINK][here] = torch.from_numpy(uplink[:count, :, channel.history :])
        files[DOWNLINK][here] = torch.from_numpy(downlink[:count])
        if advance is not None:
            advance(count)
    write_condition(place / condition.name, files)
