"""Training from Python, without a run: series in memory in, a forecaster out.

``forecaster = fit(from_gluonts(dataset))`` and ``to_gluonts(forecaster)`` make this a GluonTS estimator in two
calls. For tracking, tests against baselines and registration use the command line.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from core.config import per_part
from core.train.hardware import choose_device, choose_precision, keep_large_allocations
from core.train.loop import Observer, Trainer
from core.train.seeds import derive_seed
from tasks.forecasting.build import build_package, build_parts
from tasks.forecasting.config import ForecastingConfig
from tasks.forecasting.data.series import Group, SeriesData
from tasks.forecasting.forecaster import Forecaster, build_forecaster


def fit(
    data: SeriesData | Group, config: ForecastingConfig | None = None, observer: Observer | None = None
) -> Forecaster:
    """Trains one ensemble for each frequency.

    Args:
        data: Series; a test part is not looked at.
        config: Model, training and intervals; its ``data`` is not used.
        observer: Receives progress and curves.

    Raises:
        ConfigError: The configuration does not fit the data.
        TrainingError: The loss is not finite.
    """
    config = config or ForecastingConfig()
    if isinstance(data, Group):
        data = SeriesData(data.name, [data])
    if config.train.tune_allocator:
        keep_large_allocations()
    device = choose_device(config.train.device)
    dtype, _ = choose_precision(config.train.precision, device)
    parts = build_parts(config, data)
    with TemporaryDirectory() as folder:
        for part in parts:
            Trainer(
                part.learner.to(device),
                part.source,
                config.train,
                folder=Path(folder) / part.name,
                total_steps=per_part(config.train.steps or 100, part.name, "train.steps"),
                dtype=dtype,
                seed=derive_seed(config.seed, part.name),
                observer=observer,
            ).fit()
    learners = {part.name: part.learner for part in parts}
    packaged = build_package(config, data, learners, metric="")  # type: ignore[arg-type]
    return build_forecaster(packaged.config, packaged.tensors, packaged.metadata)
