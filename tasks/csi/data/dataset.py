"""Channels in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from core.data.digest import add_arrays


@dataclass(frozen=True)
class Condition:
    """What a group of channels has in common.

    Attributes:
        model: CDL model, A to E.
        delay_spread: Root mean square delay spread, ns.
        speed: Of the user terminal, m/s.
    """

    model: str
    delay_spread: float
    speed: float

    @property
    def name(self) -> str:
        """Folder name in the layout of CSI-4CAST's data: ``cm_A_ds_030_ms_001``."""
        speed = f"{self.speed:g}".zfill(3)
        return f"cm_{self.model}_ds_{round(self.delay_spread):03d}_ms_{speed}"


@dataclass
class Channels:
    """Samples of one or several conditions.

    Attributes:
        history: complex64 ``(samples, antennas, reports, subcarriers)``, without noise.
        target: complex64 ``(samples, antennas, horizon, subcarriers)``.
        condition: ``(samples,)`` int64, places in ``conditions``.
        conditions: The conditions.
    """

    history: np.ndarray
    target: np.ndarray
    condition: np.ndarray
    conditions: list[Condition]

    def __len__(self) -> int:
        return len(self.history)

    def select(self, which: np.ndarray) -> Channels:
        """Returns some of the samples, by position or mask."""
        return Channels(self.history[which], self.target[which], self.condition[which], self.conditions)


@dataclass
class CsiData:
    """A :class:`core.task.Dataset` of channels.

    Attributes:
        name: Short name.
        duplex: tdd or fdd.
        train: To learn from; may have no samples.
        validation: For early stopping; may have no samples.
        test: Held out.
        disturbances: Of the test histories, as in ``--data.test_noise``.
        spacing: Subcarrier spacing, Hz.
        carrier: Carrier frequency, Hz.
        interval: Time from one report to the next, s.
        rows: Rows of the panel.
        columns: Columns of the panel.
        notes: What was dropped, changed or assumed.
    """

    name: str
    duplex: str
    train: Channels
    validation: Channels
    test: Channels
    disturbances: list[str]
    spacing: float
    carrier: float
    interval: float
    rows: int
    columns: int
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.train) + len(self.validation) + len(self.test)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the channels, their split and the disturbances."""
        total = hashlib.sha256(repr((self.duplex, self.disturbances)).encode())
        for part in (self.train, self.validation, self.test):
            total.update(repr(part.conditions).encode())
            add_arrays(total, (part.history, part.target, part.condition))
        return total.hexdigest()
