"""Turns SIGINT and SIGTERM into a flag that the loop reads between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


@contextmanager
def interruptible() -> Iterator[None]:
    """While active, SIGTERM raises ``KeyboardInterrupt`` as Ctrl-C does, so that what is open is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


SAME_SECONDS = 1.0
"""Signals so soon after the first are that one again: torchrun and SLURM pass on what all processes of a job got."""


class StopSignals:
    """While active, the first Ctrl-C or SIGTERM asks for a clean stop and a later one is immediate."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._since = 0.0
        self._former: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._former.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._since = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._since > SAME_SECONDS:
            raise KeyboardInterrupt
