"""A record as networks see it."""

from __future__ import annotations

import numpy as np

from core.errors import DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.leads import arrange, wanted_leads
from tasks.ecg.data.records import Record
from tasks.ecg.data.signal import filtered, resample

SHORTEST = 1.0
"""Seconds below which a record is of no use."""


def prepare(record: Record, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Arranges the leads, centres them, filters at the record's own rate, and resamples to ``config.rate``.

    Returns:
        The signal ``(leads, samples)`` float32 in mV, and ``(leads,)`` bool: present.

    Raises:
        ConfigError: A lead is unknown, or a filter's corner is not below half the record's rate.
        DataError: The record is shorter than 1 s, or as :func:`tasks.ecg.data.leads.arrange`.
    """
    seconds = record.signal.shape[1] / record.rate
    if seconds < SHORTEST:
        raise DataError(f"{record.name}: it lasts {seconds:.2g} s, less than {SHORTEST:g} s")
    signal, present = arrange(record, wanted_leads(config.leads), config.missing_leads)
    if config.centre:
        signal -= np.median(signal, axis=1, keepdims=True)
    signal = filtered(signal, record.rate, config.highpass, config.lowpass, config.notch)
    return resample(signal, record.rate, config.rate), present
