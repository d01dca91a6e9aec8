"""Load of the machine while a run goes on: processor, memory, disk, network and GPU memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from core.track.folder import SYSTEM_PREFIX

_MEGABYTE = 1e6


def read_system() -> dict[str, float]:
    """Returns today's readings under the names that MLflow's page of system metrics expects."""
    import psutil

    memory, disk, network = psutil.virtual_memory(), psutil.disk_usage("."), psutil.net_io_counters()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        "disk_usage_megabytes": disk.used / _MEGABYTE,
        "disk_usage_percentage": disk.percent,
        **_read_gpus(),
    }
    if network is not None:  # None in some containers
        values["network_receive_megabytes"] = network.bytes_recv / _MEGABYTE
        values["network_transmit_megabytes"] = network.bytes_sent / _MEGABYTE
    return {SYSTEM_PREFIX + key: value for key, value in values.items()}


def _read_gpus() -> dict[str, float]:
    import torch

    if not torch.cuda.is_initialized():  # asking would start the driver in a training on the CPU
        return {}
    values = {}
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        values[f"gpu_{index}_memory_usage_megabytes"] = (total - free) / _MEGABYTE
        values[f"gpu_{index}_memory_usage_percentage"] = 100 * (total - free) / total
    return values


class SystemSampler:
    """A thread that hands readings to ``log``; their step is seconds since the start of the run.

    Args:
        log: Takes values and step; called from the thread.
        started: Unix time at which the run started.
        interval: Seconds between readings.
    """

    def __init__(self, log: Callable[[dict[str, float], int], None], started: float, interval: float) -> None:
        self._log, self._started, self._interval = log, started, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="system-metrics", daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            with contextlib.suppress(OSError):  # of a full disk the training itself tells
                self._log(read_system(), int(time.time() - self._started))

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()
