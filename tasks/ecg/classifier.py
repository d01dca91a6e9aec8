"""A trained classifier: from records to probabilities of the findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from core.compress.folding import deploy
from core.config import to_dict
from core.errors import ConfigError
from core.registry import nearest
from core.train.hardware import choose_device
from tasks.ecg.config import DataConfig, EcgConfig, WindowConfig
from tasks.ecg.data.challenge import same_class
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.data.prepare import prepare
from tasks.ecg.data.records import Record
from tasks.ecg.normalise import make_normaliser
from tasks.ecg.windows import POOL, batches, pool, stride_of, window_counts

PREPARED = ("leads", "missing_leads", "rate", "centre", "highpass", "lowpass", "notch")
"""Options of the data that say how a record is brought into the form that networks see."""
PLAIN = 0.5
"""Threshold of a class that none was chosen for."""


class Classifier:
    """Names findings with trained networks.

    Args:
        settings: ``config.json`` of its package, see :func:`classifier_settings`.
        networks: Trained networks by name, one a fold; copies of them in their form for inference are used.
        metadata: Of its package.

    Attributes:
        classes: Names of the classes, in the order of the probabilities.
        codes: Their codes, ``""`` where there is none.
        leads: Names of the leads that networks see, in order.
        rate: Sampling rate, Hz.
        length: Samples of a window.
        thresholds: Least probability of a finding, for each class.
        networks: The networks.
        normalisers: What stands before each, from mV.
    """

    def __init__(
        self, settings: Mapping[str, Any], networks: Mapping[str, nn.Module], metadata: Mapping[str, Any]
    ) -> None:
        self.device = choose_device("auto")
        self.classes: list[str] = list(settings["classes"])
        self.codes: list[str] = list(settings["codes"])
        self.config = DataConfig(**settings["prepared"])
        self.leads, self.rate = list(self.config.leads), self.config.rate
        self.length = int(settings["samples"])
        self.networks = {name: deploy(network).to(self.device) for name, network in networks.items()}
        self.normalisers = {
            name: make_normaliser(settings["normalise"], settings["scaling"][name]).to(self.device)
            for name in networks
        }
        self.metadata = dict(metadata)
        self.thresholds = [float(t) for t in metadata.get("thresholds", [PLAIN] * len(self.classes))]

    @property
    def folds(self) -> dict[str, dict[str, list[str]]]:
        """What each network of a cross-validation was not trained on, see :mod:`tasks.ecg.unseen`."""
        return dict(self.metadata.get("folds", {}))

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on made records."""
        return bool(self.metadata.get("synthetic", False))

    def window(self, asked: WindowConfig | None = None) -> WindowConfig:
        """Returns how records become windows: as asked, and where that is left open, as when thresholds were chosen."""
        trained = self.metadata.get("options", {}).get("scoring", {})
        asked = asked or WindowConfig()
        return WindowConfig(
            stride=asked.stride if asked.stride is not None else trained.get("stride"),
            pool=asked.pool or trained.get("pool") or POOL,
            batch=asked.batch,
        )

    def stride(self, asked: WindowConfig | None = None) -> int:
        """Returns the samples from one window to the next."""
        return stride_of(self.window(asked).stride, self.length, self.rate)

    def prepare(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Brings a record into the form of the training: leads in order, no offset, filters, sampling rate.

        Where records without some lead were left out of the training, the lead is derived or zeros here.

        Returns:
            Signal ``(leads, samples)`` in mV, float32, and which leads are there, bool ``(leads,)``.

        Raises:
            ConfigError: A filter's corner is not below half the record's rate.
            DataError: The record has none of the leads, or is shorter than 1 s.
        """
        return prepare(record, self.config)

    def probabilities(
        self, signals: Sequence[np.ndarray], fold: str | None = None, window: WindowConfig | None = None
    ) -> np.ndarray:
        """Maps records ``(leads, samples)`` in mV, of any lengths, to probabilities ``(N, C)``, single precision.

        Args:
            signals: Records as :meth:`prepare` returns them.
            fold: Network to ask; the mean of all when not given.
            window: How they become windows; by default as in training.
        """
        window, stride = self.window(window), self.stride(window)
        assert window.pool is not None
        parts = [
            self.window_probabilities(windows, fold)
            for windows in batches(signals, self.length, stride, window.batch)
        ]
        values = np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)
        return pool(values, window_counts(signals, self.length, stride), window.pool)

    @torch.inference_mode()
    def window_probabilities(self, windows: np.ndarray, fold: str | None = None) -> np.ndarray:
        """Maps windows ``(B, leads, length)`` in mV to probabilities ``(B, C)``, of one network or the mean of all."""
        asked = list(self.networks) if fold is None else [fold]
        batch = torch.from_numpy(np.ascontiguousarray(windows)).to(self.device)
        outputs = [self.networks[name](self.normalisers[name](batch)).float().sigmoid() for name in asked]
        return torch.stack(outputs).mean(0).cpu().numpy()

    def ordered(self, classes: list[str]) -> Classifier:
        """Returns a classifier with these classes, by any of their names, in this order.

        Raises:
            ConfigError: It does not know one of them.
        """
        return self if classes == self.classes else _Ordered(self, classes)


class _Ordered(Classifier):
    """A classifier with other classes than its networks have."""

    def __init__(self, classifier: Classifier, classes: list[str]) -> None:
        self.__dict__.update(classifier.__dict__)
        self._from = np.array([_place(name, classifier.classes) for name in classes])
        self.classes = list(classes)
        self.codes = [classifier.codes[i] for i in self._from]
        self.thresholds = [classifier.thresholds[i] for i in self._from]

    def window_probabilities(self, windows: np.ndarray, fold: str | None = None) -> np.ndarray:
        """Maps windows ``(B, leads, length)`` in mV to probabilities ``(B, C)``."""
        return super().window_probabilities(windows, fold)[:, self._from]


def _place(name: str, classes: list[str]) -> int:
    same = same_class(name, classes)
    if not same:
        hint = nearest(name, classes) or f" It knows {', '.join(classes)}."
        raise ConfigError(f"--data.labels: the model does not know {name!r}; leave it out.{hint}")
    return classes.index(same[0])


def classifier_settings(config: EcgConfig, data: EcgData, learners: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a :class:`Classifier` is rebuilt from, beside weights and metadata.

    Args:
        config: Of the training.
        data: Records of the training.
        learners: A trained :class:`tasks.ecg.learner.EcgLearner` for each fold.
    """
    chosen = to_dict(config.data)
    prepared = {name: chosen[name] for name in PREPARED}
    if prepared["missing_leads"] == "drop":
        prepared["missing_leads"] = "derive"
    return {
        "model": to_dict(config.model),
        "classes": data.classes,
        "codes": data.codes,
        "prepared": prepared | {"leads": data.leads, "rate": data.rate},
        "samples": round(config.crop * data.rate),
        "normalise": config.normalise,
        "scaling": {name: learner.normaliser.scaling for name, learner in learners.items()},
        "folds": list(learners) if len(learners) > 1 else [],
    }
