"""A trained ensemble as a GluonTS predictor. Needs ``pip install 'skipway[gluonts-torch]'``.

GluonTS 0.17 has no N-BEATS for torch. The predictor made here takes any GluonTS ``Dataset``, is scored by
``gluonts.model.evaluate_model``, and is serialised and read back by GluonTS itself. Its samples are the members
of the ensemble and, where their number is even, their median: GluonTS takes a sample for the median, which so
is the ensemble's point forecast.
"""

from __future__ import annotations

from typing import Any

import torch
from gluonts.core.component import validated
from gluonts.model.forecast_generator import SampleForecastGenerator
from gluonts.torch.model.predictor import PyTorchPredictor
from gluonts.transform import AddObservedValuesIndicator, InstanceSplitter, TestSplitSampler
from torch import Tensor, nn

from core.config import to_dict
from core.errors import DataError
from tasks.forecasting.config import MODELS
from tasks.forecasting.ensemble import Ensemble
from tasks.forecasting.forecaster import Forecaster
from tasks.forecasting.programs import EnsembleProgram


class EnsembleNetwork(nn.Module):
    """The network inside the predictor; GluonTS rebuilds it from these arguments.

    Args:
        model: Configuration of the members, as in a package's ``config.json``.
        horizon: Forecast length H.
    """

    @validated()
    def __init__(self, model: dict[str, Any], horizon: int) -> None:
        super().__init__()
        self.program = EnsembleProgram(Ensemble(MODELS[model["name"]](**model), horizon))

    def forward(self, past_target: Tensor, past_observed_values: Tensor) -> Tensor:
        """Maps ``(B, L)`` values and their indicators to samples ``(B, M, H)``, or ``(B, M + 1, H)`` for even M."""
        observed = past_observed_values.float()
        median, members = self.program(past_target.float() * observed, observed)
        if members.shape[1] % 2:
            return members
        return torch.cat([members, median.unsqueeze(1)], dim=1)


def to_gluonts(forecaster: Forecaster, group: str | None = None, batch_size: int = 256) -> PyTorchPredictor:
    """Returns a GluonTS predictor of one frequency.

    Args:
        forecaster: A trained forecaster.
        group: Which of its models; may be left out when there is one.
        batch_size: Series in a batch.

    Raises:
        DataError: The group is unknown, or must be named.
    """
    names = list(forecaster.models)
    if (group is None and len(names) > 1) or (group is not None and group not in names):
        raise DataError(f"name one of the forecaster's models: {', '.join(names)}")
    model = forecaster.models[group or names[0]]
    network = EnsembleNetwork(model=to_dict(forecaster.config), horizon=model.horizon)
    trained = EnsembleProgram(model.ensemble.cpu())
    network.program.load_state_dict(trained.state_dict())
    splitter = InstanceSplitter(
        target_field="target",
        is_pad_field="is_pad",
        start_field="start",
        forecast_start_field="forecast_start",
        instance_sampler=TestSplitSampler(),
        past_length=trained.lookback,
        future_length=model.horizon,
        time_series_fields=["observed_values"],
    )
    return PyTorchPredictor(
        input_names=["past_target", "past_observed_values"],
        prediction_net=network,
        batch_size=batch_size,
        prediction_length=model.horizon,
        input_transform=AddObservedValuesIndicator(target_field="target", output_field="observed_values")
        + splitter,
        forecast_generator=SampleForecastGenerator(),
        device="cpu",
    )
