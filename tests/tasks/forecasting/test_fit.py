"""Training from Python on GluonTS data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.forecasting.config import ForecastingConfig, ForecastTrainConfig, GenericConfig
from tasks.forecasting.data.entries import from_gluonts
from tasks.forecasting.fit import fit


def test_a_gluonts_dataset_is_learnt():
    """A sine of period 6 on different levels: much better than the naive forecast after a few steps."""
    steps = np.arange(90)
    wave = np.sin(2 * np.pi * steps / 6)
    dataset = [
        {"start": pd.Period("2010-01", "M"), "target": 50 + 10 * i + 5 * wave, "item_id": str(i)}
        for i in range(12)
    ]
    group = from_gluonts(dataset, freq="M", horizon=6)
    config = ForecastingConfig(
        model=GenericConfig(lookbacks=[2, 3], losses=["mape"], blocks=2, width=32, layers=2),
        train=ForecastTrainConfig(steps=300, batch_size=64, lr=5e-3, tune_allocator=False),
    )
    forecast = fit(group, config).forecast(group)
    truth = np.stack([entry["target"][:6] for entry in dataset])  # 90 is a whole number of periods
    error = np.abs(forecast.median - truth).mean()
    naive = np.abs(truth - group.history[0][-1] - 10 * np.arange(12)[:, None]).mean()
    assert error < naive / 4, (error, naive)
    assert forecast.median.shape == (12, 6)
    low, high = forecast.intervals[95]
    assert (low <= forecast.median).all()
    assert (forecast.median <= high).all()
