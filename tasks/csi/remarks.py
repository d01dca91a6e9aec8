"""What the reader of the scores should know: what was learned from, what is compared, and on what terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import ConfigError
from tasks.csi.baselines import FITTED_ON, LEARNING
from tasks.csi.config import CsiEvaluateConfig, CsiScoringConfig
from tasks.csi.data.dataset import CsiData
from tasks.csi.predictor import Predictor

TRAINING = (
    "path",
    "models",
    "delay_spreads",
    "speeds",
    "slower",
    "samples",
    "validation_share",
    "snr",
    "seed",
)
"""Options of ``data`` that say what is learned from."""


def learned_from(predictor: Predictor) -> dict[str, Any]:
    """Returns the options of ``data`` that a network was trained with."""
    return predictor.metadata["data"]["config"]


def check_fit(predictor: Predictor, config: Any, data: CsiData) -> None:
    """Checks that a network is for these channels.

    Raises:
        ConfigError: It is not, or it was trained from files and nothing says what to test it on.
    """
    pairs = {
        "subcarriers": (data.test.history.shape[3], predictor.subcarriers),
        "history": (data.test.history.shape[2], predictor.history),
        "horizon": (data.test.target.shape[2], predictor.horizon),
        "duplex": (data.duplex, predictor.duplex),
    }
    for option, (given, known) in pairs.items():
        if given != known:
            raise ConfigError(
                f"the model has {option} {known} and the channels {given}: set --data.{option} {known}"
            )
    # A training may score an older model on its generated channels, which is no mistake.
    unsaid = isinstance(config, CsiEvaluateConfig) and config.data.name == "auto" and config.data.path is None
    if unsaid and (path := learned_from(predictor)["path"]):
        raise ConfigError(
            f"the model was trained on files ({path}): give --data.path FOLDER, or --data.name cdl for generated "
            "channels"
        )


def remark(predictor: Predictor, config: Any, data: CsiData, frame: pd.DataFrame) -> list[str]:
    """Returns what to know of a network's scores, one line each.

    Args:
        predictor: The network.
        config: Of the run.
        data: Channels.
        frame: Its rows.
    """
    lines = [_describe(predictor, data, frame), *_differences(predictor, data)]
    if new := _not_learned(predictor, frame):
        lines.append(f"not learned from: {new}")
    lines += _on_baselines(config.scoring, data)
    if _fits(config.scoring, data) and (other := _other_training(predictor, config)):
        lines.append(f"{_fits(config.scoring, data)}: fitted to other channels than the network ({other})")
    if not predictor.apart:
        lines.append(
            "standardised over batches: predictions depend on what else is in a batch of "
            f"{config.scoring.batch} samples"
        )
    return lines


def describe_means(disturbances: list[str]) -> str:
    """Says over which disturbances a mean is taken: ``mean over clean, awgn_10dB``."""
    return f"{'mean over ' if len(disturbances) > 1 else ''}{', '.join(disturbances)}"


def _describe(predictor: Predictor, data: CsiData, frame: pd.DataFrame) -> str:
    learned, tested = (
        ", ".join(names) for names in (learned_from(predictor)["models"], _values(frame, "model"))
    )
    return (
        f"{data.duplex.upper()}, CDL {learned} -> {tested}; {predictor.history} -> {predictor.horizon} reports every "
        f"{1e3 * data.interval:.3g} ms; {', '.join(_values(frame, 'disturbance'))}"
    )


def _differences(predictor: Predictor, data: CsiData) -> list[str]:
    """What a network was not trained for and yet takes."""
    pairs = {
        "reports every {:.3g} ms": (1e3 * predictor.interval, 1e3 * data.interval),
        "a carrier of {:.4g} GHz": (predictor.carrier / 1e9, data.carrier / 1e9),
        "subcarriers {:.4g} kHz apart": (predictor.spacing / 1e3, data.spacing / 1e3),
    }
    return [
        f"the model was trained for {text.format(known)}; these channels have {text.format(given)}"
        for text, (known, given) in pairs.items()
        if text.format(known) != text.format(given)
    ]


def _not_learned(predictor: Predictor, frame: pd.DataFrame) -> str:
    """Names of what is tested but was not learned from."""
    learned = learned_from(predictor)
    groups = {"model": "CDL {}", "delay_spread": "{:g} ns", "speed": "{:g} m/s"}
    return ", ".join(
        text.format(value)
        for column, text in groups.items()
        for value in _values(frame, column)
        if value not in learned[f"{column}s"]
    )


def _fits(scoring: CsiScoringConfig, data: CsiData) -> str:
    """Names of the baselines that were fitted."""
    return " and ".join(
        dict.fromkeys(name for name in scoring.baselines if name in LEARNING and len(data.train))
    )


def _on_baselines(scoring: CsiScoringConfig, data: CsiData) -> list[str]:
    lines = []
    if fitted := _fits(scoring, data):
        lines.append(
            f"{fitted}: one set of coefficients for all antennas, subcarriers and conditions, from "
            f"{min(FITTED_ON, len(data.train)):,} training samples"
        )
    elif without := [name for name in scoring.baselines if name in LEARNING]:
        lines.append(f"no training channels: {' and '.join(without)} left out")
    if "wiener" in fitted:
        lines.append("wiener is told the noise power of each test sample; the network and ar are not")
    if data.duplex == "fdd":
        lines.append("last and pad predict the uplink, and are compared with the downlink")
    return lines


def _other_training(predictor: Predictor, config: Any) -> str:
    """Options that say what is learned from and are not those of the network's training."""
    learned = learned_from(predictor)
    pairs = {name: (getattr(config.data, name), learned[name]) for name in TRAINING}
    own, other = pairs["path"]
    if own and other and Path(own).resolve() == Path(other).resolve():
        del pairs["path"]
    return ", ".join(f"{name} {own}, not {other}" for name, (own, other) in pairs.items() if own != other)


def _values(frame: pd.DataFrame, column: str) -> list[Any]:
    return list(dict.fromkeys(frame[column]))
