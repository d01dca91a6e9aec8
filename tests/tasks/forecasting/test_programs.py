"""ONNX, pt2 and GluonTS give what the forecaster gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.forecasting.config import GenericConfig, InterpretableConfig
from tasks.forecasting.data.series import Group
from tasks.forecasting.ensemble import Ensemble
from tasks.forecasting.forecaster import Forecaster, GroupModel
from tasks.forecasting.programs import export_programs

HORIZON = 4


def forecaster(config, names=("Quarterly",)):
    models = {
        name: GroupModel("Q", 4, HORIZON, Ensemble(config, HORIZON, seed=i).eval())
        for i, name in enumerate(names)
    }
    return Forecaster(models, config, levels=[80], method="spread")


def small(losses, **options):
    return GenericConfig(lookbacks=[2, 3], losses=losses, blocks=2, width=8, layers=2, **options)


def group(count=5, seed=0):
    rng = np.random.default_rng(seed)
    history = [50 + 10 * rng.random(length) for length in rng.integers(3, 40, count)]
    return Group(
        name="Quarterly",
        freq="Q",
        seasonality=4,
        horizon=HORIZON,
        ids=[f"s{i}" for i in range(count)],
        history=history,
        starts=[pd.Period("2001Q1", freq="Q")] * count,
        future=50 + 10 * rng.random((count, HORIZON)),
    )


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # inside torch.onnx
def test_an_exported_program_gives_the_forecasts(kind, tmp_path):
    model = forecaster(small(["mape"]))
    (path,) = export_programs(model, tmp_path, kind)
    series = group()
    expected = model.forecast(series)
    lookback = 3 * HORIZON
    history = np.zeros((len(series), lookback), np.float32)
    mask = np.zeros_like(history)
    for i, values in enumerate(series.history):
        known = min(lookback, len(values))
        history[i, lookback - known :], mask[i, lookback - known :] = values[-known:], 1
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        median, members = session.run(None, {"history": history, "mask": mask})
        metadata = session.get_modelmeta().custom_metadata_map
    else:
        extra = {"metadata.json": ""}
        program = torch.export.load(path, extra_files=extra).module()
        median, members = (
            t.detach().numpy() for t in program(torch.from_numpy(history), torch.from_numpy(mask))
        )
        metadata = json.loads(extra["metadata.json"])
    np.testing.assert_allclose(median, expected.median, rtol=1e-4)
    np.testing.assert_allclose(members.transpose(1, 0, 2), expected.members, rtol=1e-4)
    assert metadata["lookback"] == str(lookback) and metadata["horizon"] == str(HORIZON)


def test_a_program_that_differs_is_not_kept(tmp_path, monkeypatch):
    from core.errors import PackageError
    from tasks.forecasting import programs

    model = forecaster(small(["mape"]))
    write = programs.write_program
    monkeypatch.setattr(
        programs, "write_program", lambda *args, **names: tuple(1.01 * x for x in write(*args, **names))
    )
    with pytest.raises(PackageError, match="differs from the model"):
        export_programs(model, tmp_path, "pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("losses", [["mape"], ["mape", "smape"], ["mape", "smape", "mase"]])
def test_gluonts_scores_serialises_and_reloads_the_predictor(losses, tmp_path):
    pytest.importorskip("lightning", reason="needs the extra gluonts-torch")
    from gluonts.dataset.common import ListDataset
    from gluonts.dataset.split import split
    from gluonts.ev.metrics import MASE, SMAPE
    from gluonts.model import evaluate_model
    from gluonts.model.predictor import Predictor

    from tasks.forecasting.gluonts import to_gluonts
    from tasks.forecasting.metrics import score

    model = forecaster(small(losses))
    series = group(seed=1)
    predictor = to_gluonts(model)
    whole = [np.concatenate([h, f]) for h, f in zip(series.history, series.future, strict=True)]
    data = ListDataset(
        [
            {"start": s, "target": x, "item_id": i}
            for s, x, i in zip(series.starts, whole, series.ids, strict=True)
        ],
        freq="QE",
    )
    test_data = split(data, offset=-HORIZON)[1].generate_instances(HORIZON)
    measured = evaluate_model(
        predictor, test_data=test_data, metrics=[SMAPE(0.5), MASE(0.5)], seasonality=4, axis=None
    )
    ours = score(series, model.forecast(series).median)[0]
    assert 100 * measured["sMAPE[0.5]"].item() == pytest.approx(ours["smape"], rel=1e-4)

    predictor.serialize(tmp_path)
    again = Predictor.deserialize(tmp_path)
    # One after the other: two of GluonTS' generators side by side leave torch's gradients switched off.
    first, second = list(predictor.predict(test_data.input)), list(again.predict(test_data.input))
    for a, b, median in zip(first, second, model.forecast(series).median, strict=True):
        assert np.array_equal(a.samples, b.samples)
        np.testing.assert_allclose(a.median, median, rtol=1e-4)


def test_gluonts_asks_which_model(tmp_path):
    pytest.importorskip("lightning", reason="needs the extra gluonts-torch")
    from core.errors import DataError
    from tasks.forecasting.gluonts import to_gluonts

    model = forecaster(small(["mape"]), names=("Yearly", "Quarterly"))
    with pytest.raises(DataError, match="Yearly, Quarterly"):
        to_gluonts(model)
    assert to_gluonts(model, "Yearly").prediction_length == HORIZON


def test_decomposition_adds_up_to_the_mean_of_the_members():
    config = InterpretableConfig(
        lookbacks=[2, 3], losses=["mape"], trend_width=8, seasonality_width=8, layers=2, scale="window_max"
    )
    model, series = forecaster(config), group(seed=2)
    parts = model.decompose(replace(series))
    total = parts["level"] + parts["trend"] + parts["seasonality"]
    np.testing.assert_allclose(total, model.forecast(series).members.mean(0), rtol=1e-4)
