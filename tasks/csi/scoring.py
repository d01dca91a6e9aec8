"""Scores of a predictor and of the baselines on the test channels, under every disturbance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from core.errors import ConfigError
from core.task import Evaluation
from tasks.csi.baselines import BASELINES, LEARNING, Baseline
from tasks.csi.costs import cpu_seconds, network_cost
from tasks.csi.data.dataset import CsiData
from tasks.csi.data.disturb import Disturbance, disturb, parse_disturbance
from tasks.csi.measures import decibel, join, measure
from tasks.csi.predictor import Predictor

Predict = Callable[[np.ndarray, float], np.ndarray]
"""Maps histories and the relative power of their disturbance to the next reports."""


def score_predictor(predictor: Predictor, config: Any, data: CsiData) -> Evaluation:
    """Scores a trained network.

    Metrics over all samples and disturbances, and for each disturbance as ``awgn_10dB/nmse``: ``nmse`` (each antenna
    and report on its own, as CSI-4CAST's authors), ``nmse_db`` (the same in dB), ``nmse_total`` (all errors over all
    power), ``spectral_efficiency`` in bit/s/Hz, ``cosine``. The error by CDL model, speed and delay spread is
    ``clean/A/nmse``, ``clean/10mps/nmse`` and ``100ns/nmse``, that of a model at a speed ``clean/A_10mps/nmse_db``;
    ``unseen/nmse`` is that of CDL models that were not learned from. ``parameters``, ``gmacs`` and ``cpu_s`` are for
    one sample, see :mod:`tasks.csi.costs`.

    Returns:
        Metrics; one row for each sample and disturbance, which are also the outputs.

    Raises:
        ConfigError: The network was made for other channels.
    """
    _check(predictor, data)
    batch = config.scoring.batch

    def predict(history: np.ndarray, noise: float) -> np.ndarray:
        return predictor.predict(history, batch)

    result = _score("the network", predict, config, data)
    if config.scoring.cost:
        result.metrics |= network_cost(predictor, data.test.history.shape[1])
    result.notes += _notes(result, config, data)
    if not predictor.apart:
        result.notes.append(
            f"standardised over batches: predictions depend on what else is in a batch of {batch} samples"
        )
    return result


def score_baselines(config: Any, data: CsiData) -> dict[str, Evaluation]:
    """Scores ``scoring.baselines`` on the same disturbed histories; without training channels those that need none."""
    names = [name for name in config.scoring.baselines if len(data.train) or name not in LEARNING] or ["last"]
    results = {}
    for name in dict.fromkeys(names):
        method: Baseline = BASELINES[name](data, config.data, config.scoring)
        results[name] = _score(name, method.predict, config, data)
    return results


def disturbed(
    data: CsiData, disturbance: Disturbance, which: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Returns test histories as predictors see them, and the power of what was added relative to the channels'.

    Args:
        data: Channels.
        disturbance: What happens to them.
        which: Positions among the test samples ``(n,)``.
        seed: Of the channels.
    """
    clean = data.test.history[which]
    history = disturb(clean, disturbance, seed, which)
    return history, float((np.abs(history - clean) ** 2).mean() / (np.abs(clean) ** 2).mean())


def _score(name: str, predict: Predict, config: Any, data: CsiData) -> Evaluation:
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
    frame.insert(4, "unseen", ~frame["model"].isin(config.data.models))
    metrics = summarise(frame)
    if config.scoring.cost:
        first, noise = disturbed(data, disturbances[0], batches[0], config.data.seed)
        metrics["cpu_s"] = cpu_seconds(lambda history: predict(history, noise), first)
    return Evaluation(metrics, frame, frame)


def summarise(frame: pd.DataFrame) -> dict[str, float]:
    """Turns rows into metrics, see :func:`score_predictor`."""
    metrics = _means(frame)
    metrics |= _groups(frame, "delay_spread", "{:g}ns")
    if frame["unseen"].any() and not frame["unseen"].all():
        metrics["unseen/nmse"] = float(frame.loc[frame["unseen"], "nmse"].mean())
    for name, part in frame.groupby("disturbance", sort=False):
        metrics |= {f"{name}/{key}": value for key, value in _means(part).items()}
        own = _groups(part, "model", "{}") | _groups(part, "speed", "{:g}mps")
        for (model, speed), cell in part.groupby(["model", "speed"]):
            own[f"{model}_{speed:g}mps/nmse_db"] = decibel(cell["nmse"].mean())
        metrics |= {f"{name}/{key}": value for key, value in own.items()}
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
    return {f"{name.format(value)}/nmse": float(mean) for value, mean in means.items()}


def _batches(count: int, size: int) -> list[np.ndarray]:
    return np.split(np.arange(count), range(size, count, size))


def _check(predictor: Predictor, data: CsiData) -> None:
    pairs = {
        "subcarriers": (data.test.history.shape[3], predictor.subcarriers),
        "history": (data.test.history.shape[2], predictor.history),
        "horizon": (data.test.target.shape[2], predictor.horizon),
    }
    for option, (given, known) in pairs.items():
        if given != known:
            raise ConfigError(
                f"the model has {option} {known} and the channels {given}: set --data.{option} {known}"
            )


def _notes(result: Evaluation, config: Any, data: CsiData) -> list[str]:
    frame = result.rows
    assert frame is not None
    perfect = frame["perfect_efficiency"].mean()
    reached = result.metrics["spectral_efficiency"]
    notes = [
        f"spectral efficiency at {config.scoring.snr:g} dB: {reached:.2f} bit/s/Hz, {perfect:.2f} with the true channel"
    ]
    if unseen := sorted(set(frame.loc[frame["unseen"], "model"])):
        notes.append(f"CDL {', '.join(unseen)} {'was' if len(unseen) == 1 else 'were'} not learned from")
    if "wiener" in config.scoring.baselines and len(data.train):
        notes.append("wiener is told the noise power of the test; the network and ar are not")
    if not len(data.train) and (without := [name for name in config.scoring.baselines if name in LEARNING]):
        notes.append(f"no training channels: {' and '.join(without)} left out")
    if data.duplex == "fdd":
        notes.append("last and pad predict the uplink, and are compared with the downlink")
    return notes
