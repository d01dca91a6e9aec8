"""Scores of a predictor and of the baselines on the test channels, under every disturbance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from core.task import Evaluation
from tasks.csi.baselines import BASELINES, LEARNING, Baseline
from tasks.csi.costs import TIMED, cpu_seconds, network_cost
from tasks.csi.data.dataset import CsiData
from tasks.csi.data.disturb import Disturbance, disturb, parse_disturbance
from tasks.csi.measures import decibel, join, measure
from tasks.csi.predictor import Predictor
from tasks.csi.remarks import check_fit, describe_means, learned_from, remark

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps histories ``(N, A, T, K)`` and the relative power of their disturbance ``(N,)`` to the next reports."""


def score_predictor(predictor: Predictor, config: Any, data: CsiData) -> Evaluation:
    """Scores a trained network.

    Metrics over all samples and disturbances, and for each disturbance as ``awgn_10dB/nmse``: ``nmse`` (each antenna
    and report on its own, as CSI-4CAST's authors), ``nmse_db`` (the same in dB), ``nmse_total`` (all errors over all
    power), ``spectral_efficiency`` in bit/s/Hz, ``cosine``. Under each disturbance the error by CDL model and by speed
    is ``clean/A/nmse`` and ``clean/10mps/nmse``, and the same as ``nmse_db``; that of a model at a speed, by delay
    spread, and of the models that were not learned from is ``clean/A_10mps/nmse``, ``clean/100ns/nmse`` and
    ``clean/unseen_model/nmse``. ``parameters``, ``gmacs`` and ``cpu_s_per_sample`` are those of
    :mod:`tasks.csi.costs`.

    Returns:
        Metrics; one row for each sample and disturbance, which are also the outputs.

    Raises:
        ConfigError: The network was made for other channels.
    """
    check_fit(predictor, config, data)
    batch = config.scoring.batch

    def predict(history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return predictor.predict(history, batch)

    result = _score("the network", predict, config, data, learned_from(predictor)["models"])
    antennas = data.test.history.shape[1]
    if config.scoring.cost:
        result.metrics |= network_cost(predictor, antennas)
    assert result.rows is not None
    result.notes += _summary(result.metrics, result.rows, config, antennas)
    result.notes += remark(predictor, config, data, result.rows)
    return result


def score_baselines(config: Any, data: CsiData) -> dict[str, Evaluation]:
    """Scores ``scoring.baselines`` on the same disturbed histories; without training channels those that need none.

    CDL models that were not learned from are those outside ``data.models``, which ar and wiener are fitted to.
    """
    names = [name for name in config.scoring.baselines if len(data.train) or name not in LEARNING] or ["last"]
    results = {}
    for name in dict.fromkeys(names):
        method: Baseline = BASELINES[name](data, config.data, config.scoring)
        results[name] = _score(name, method.predict, config, data, config.data.models)
    return results


def disturbed(
    data: CsiData, disturbance: Disturbance, which: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns test histories as predictors see them, and the power ``(n,)`` of what was added relative to each.

    Args:
        data: Channels.
        disturbance: What happens to them.
        which: Positions among the test samples ``(n,)``.
        seed: Of the channels.
    """
    clean = data.test.history[which]
    history = disturb(clean, disturbance, seed, which)
    added, power = (
        (np.abs(part) ** 2).mean((1, 2, 3), dtype=np.float64) for part in (history - clean, clean)
    )
    return history, added / power


def _score(name: str, predict: Predict, config: Any, data: CsiData, learned: list[str]) -> Evaluation:
    batches = _batches(len(data.test), config.scoring.batch)
    disturbances = [parse_disturbance(text) for text in dict.fromkeys(data.disturbances)]
    jobs = [(disturbance, which) for disturbance in disturbances for which in batches]
    parts = []
    for disturbance, which in track(jobs, f"scoring {name}", transient=True):
        history, noise = disturbed(data, disturbance, which, config.data.seed)
        parts.append(measure(predict(history, noise), data.test.target[which], config.scoring.snr))
    measures = join(parts)
    conditions = [data.test.conditions[i] for i in data.test.condition]
    frame = pd.DataFrame(
        {
            "disturbance": np.repeat([disturbance.name for disturbance in disturbances], len(data.test)),
            "model": [condition.model for condition in conditions] * len(disturbances),
            "delay_spread": [condition.delay_spread for condition in conditions] * len(disturbances),
            "speed": [condition.speed for condition in conditions] * len(disturbances),
            "sample": np.tile(np.arange(len(data.test)), len(disturbances)),
            "nmse": measures.nmse,
            **{
                f"nmse_{step + 1}": measures.step_nmse[:, step] for step in range(measures.step_nmse.shape[1])
            },
            "spectral_efficiency": measures.efficiency,
            "perfect_efficiency": measures.perfect,
            "cosine": measures.cosine,
            "error": measures.error,
            "power": measures.power,
        }
    )
    frame.insert(4, "unseen_model", ~frame["model"].isin(learned))
    metrics = summarise(frame)
    if config.scoring.cost:
        first, noise = disturbed(data, disturbances[0], batches[0], config.data.seed)
        first, noise = first[:TIMED], noise[:TIMED]
        metrics["cpu_s_per_sample"] = cpu_seconds(lambda: predict(first, noise)) / len(first)
    return Evaluation(metrics, frame, frame)


def summarise(frame: pd.DataFrame) -> dict[str, float]:
    """Turns rows into metrics, see :func:`score_predictor`."""
    metrics = _means(frame)
    for disturbance, part in frame.groupby("disturbance", sort=False):
        own = _means(part)
        for column, name in (("model", "{}"), ("speed", "{:g}mps")):
            for group, nmse in _groups(part, column, name).items():
                own |= {f"{group}/nmse": nmse, f"{group}/nmse_db": decibel(nmse)}
        own |= {f"{group}/nmse": nmse for group, nmse in _groups(part, "delay_spread", "{:g}ns").items()}
        for (model, speed), cell in part.groupby(["model", "speed"]):
            own[f"{model}_{speed:g}mps/nmse"] = float(cell["nmse"].mean())
        if part["unseen_model"].any() and not part["unseen_model"].all():
            own["unseen_model/nmse"] = float(part.loc[part["unseen_model"], "nmse"].mean())
        metrics |= {f"{disturbance}/{key}": value for key, value in own.items()}
    return metrics


def _means(frame: pd.DataFrame) -> dict[str, float]:
    nmse = float(frame["nmse"].mean())
    return {
        "nmse": nmse,
        "nmse_db": decibel(nmse),
        "nmse_total": float(frame["error"].sum() / frame["power"].sum()),
        "spectral_efficiency": float(frame["spectral_efficiency"].mean()),
        "cosine": float(frame["cosine"].mean()),
    }


def _groups(frame: pd.DataFrame, column: str, name: str) -> dict[str, float]:
    """Error for each value of a column, if there are several."""
    means = frame.groupby(column)["nmse"].mean()
    if len(means) < 2:
        return {}
    return {name.format(value): float(mean) for value, mean in means.items()}


def _batches(count: int, size: int) -> list[np.ndarray]:
    return np.split(np.arange(count), range(size, count, size))


def _summary(metrics: dict[str, float], frame: pd.DataFrame, config: Any, antennas: int) -> list[str]:
    """Says in a line each what the table of errors leaves out: the use of the predictions, and their price."""
    lines = [
        f"spectral efficiency at {config.scoring.snr:g} dB: {metrics['spectral_efficiency']:.2f} bit/s/Hz, "
        f"{frame['perfect_efficiency'].mean():.2f} with the true channel; cosine similarity {metrics['cosine']:.3f} "
        f"({describe_means(list(dict.fromkeys(frame['disturbance'])))})"
    ]
    if config.scoring.cost:
        lines.append(
            f"a sample of {antennas} antennas costs {metrics['gmacs']:.3g} GMACs and {metrics['cpu_s_per_sample']:.2g}"
            f" CPU-seconds; the network has {metrics['parameters']:,.0f} parameters"
        )
    return lines
