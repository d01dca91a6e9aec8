"""A record as networks see it."""

from __future__ import annotations

import numpy as np

from tasks.ecg.config import DataConfig
from tasks.ecg.data.leads import arrange, wanted_leads
from tasks.ecg.data.records import Record
from tasks.ecg.data.signal import filtered, resample


def prepare(record: Record, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Arranges the leads, filters at the record's own rate, and resamples to ``config.rate``.

    Returns:
        The signal ``(leads, samples)`` float32 in mV, and ``(leads,)`` bool: present.

    Raises:
        ConfigError: A lead is unknown, or a filter's corner is not below half the record's rate.
        DataError: As :func:`tasks.ecg.data.leads.arrange`.
    """
    signal, present = arrange(record, wanted_leads(config.leads), config.missing_leads)
    signal = filtered(signal, record.rate, config.highpass, config.lowpass, config.notch)
    return resample(signal, record.rate, config.rate), present
