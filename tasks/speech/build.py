"""From a configuration to networks, learners and packages."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.commands.load import find_package
from core.config import to_dict
from core.data.loader import EpochLoader
from core.errors import ConfigError
from core.task import Packaged, Part, Task
from core.track.package import Package
from core.track.store import resolve_uri
from core.train.learner import Learner
from core.train.seeds import seed_everything
from tasks.speech.config import MODELS, BackboneConfig, BCResNetConfig, FeatureConfig, ResConfig, SpeechConfig
from tasks.speech.data.augment import apply_masks
from tasks.speech.data.clips import Fold, SpeechData
from tasks.speech.data.samples import KeywordSamples
from tasks.speech.extend import ExtendedLearner, extend_network, new_clips, rebuild, stages
from tasks.speech.frontend import FrontEnd
from tasks.speech.models.backbone import BackboneNet
from tasks.speech.models.bcresnet import BCResNet
from tasks.speech.models.resnets import ResNet
from tasks.speech.windows import check_hop


def build_network(config: Any, frames: int, features: int, classes: int) -> nn.Module:
    """Returns a new network for features ``(B, T, F)``.

    Raises:
        ConfigError: An option of the model is wrong, or does not fit the features.
    """
    shared = {"rule": config.rule, "rule_options": config.rule_options}
    if isinstance(config, ResConfig):
        return ResNet(
            classes, config.width, config.layers, config.pool, config.dilated, config.scales, **shared
        )
    if isinstance(config, BCResNetConfig):
        return BCResNet(classes, features, config.tau, config.dropout, config.sub_bands, **shared)
    assert isinstance(config, BackboneConfig)
    return BackboneNet(config, frames, features, classes)


class SpeechLearner(Learner):
    """A keyword spotter with its loss.

    Args:
        model: Maps features ``(B, T, F)`` to logits ``(B, C)``.
        front: Makes the features where a batch holds waveforms.
        weights: Weights of the classes in the loss ``(C,)``; ``None`` for equal ones.
        smoothing: Label smoothing.
        validation: Waveforms ``(V, N)`` and labels ``(V,)`` for early stopping.
    """

    def __init__(
        self,
        model: nn.Module,
        front: FrontEnd,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        super().__init__(model)
        self.front, self.smoothing, self.validation = front, smoothing, validation
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)
        self._held_out: tuple[Tensor, Tensor] | None = None

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the cross entropy of a batch and its accuracy in percent."""
        logits = self.model(self.features(batch)).float()
        loss = self.cross_entropy(logits, batch["label"])
        return loss, {"accuracy": 100 * (logits.argmax(1) == batch["label"]).float().mean()}

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of logits ``(B, C)`` against labels ``(B,)``."""
        return F.cross_entropy(logits, labels, self.weights, label_smoothing=self.smoothing)

    @torch.no_grad()
    def features(self, batch: dict[str, Any]) -> Tensor:
        """Returns the features ``(B, T, F)`` of a batch, which holds them or waveforms."""
        if "features" in batch:
            return batch["features"]
        with torch.autocast(batch["wave"].device.type, enabled=False):
            features = self.front(batch["wave"])
        if "mel_masks" in batch:
            features = apply_masks(features, batch["mel_masks"], batch["time_masks"])
        return features

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the cross entropy of the validation clips, and it with their accuracy in percent.

        Raises:
            ConfigError: There are none.
        """
        if self.validation is None:
            raise ConfigError(
                "there are no recordings to validate on: set --data.validation_share above 0, or leave "
                "--train.patience and --train.validate_every at 0"
            )
        device = next(self.model.parameters()).device
        if self._held_out is None:
            waves, labels = self.validation
            self._held_out = (
                self.front(torch.from_numpy(waves).to(device)),
                torch.from_numpy(labels).to(device),
            )
        features, truth = self._held_out
        logits = torch.cat([self.model(part).float() for part in features.split(256)])
        loss = F.cross_entropy(logits, truth).item()
        accuracy = 100 * (logits.argmax(1) == truth).float().mean().item()
        return loss, {"loss": loss, "accuracy": accuracy}


def build_parts(config: SpeechConfig, data: SpeechData) -> list[Part]:
    """Returns a part for each fold.

    Raises:
        ConfigError: Options contradict each other.
    """
    return [_build_part(config, data, fold) for fold in data.folds]


def _build_part(config: SpeechConfig, data: SpeechData, fold: Fold) -> Part:
    seed_everything(config.seed, "weights")
    front = FrontEnd(_features(config, data), data.rate)
    check_hop(
        config.scoring.hop, front.hop, data.rate
    )  # not only when the detector is measured, after training
    samples = KeywordSamples(
        data, fold, config.data, front, config.train.balance, workers=config.train.workers
    )
    frames, classes = front.frames(data.clips.waves.shape[1]), len(data.classes)
    teacher = None
    if data.base is None:
        network = build_network(config.model, frames, front.size, classes)
        name = config.model.name
    else:
        teacher = load_networks(data.base)["model"]
        model = data.base.config["model"]
        rule = (model["rule"], model["rule_options"])
        network = extend_network(teacher, config.extend, classes, *new_clips(data, fold, front), *rule)
        name = f"{model['name']}, extended by {config.extend.method},"
        if config.extend.method != "distill" and config.data.old_path is None:
            name = f"old words will be forgotten without --data.old_path, or with --extend.method distill less; {name}"
    learner: Learner = SpeechLearner(
        network,
        front,
        _weights(samples.class_counts) if config.train.balance == "loss" else None,
        config.train.smoothing,
        _held_out(data, fold.validation),
    )
    if teacher is not None:
        learner = ExtendedLearner(learner, teacher, config.extend)
    source = EpochLoader(samples, config.train.batch_size, seed=config.seed, workers=config.train.workers)
    count = sum(p.numel() for p in network.parameters())
    size = f"{count:,} parameters, {classes} classes, {len(samples)} clips an epoch"
    note = f"{name} with {size}{'; ' if samples.note else ''}{samples.note}"
    return Part(fold.name, learner, source, note)


def _features(config: SpeechConfig, data: SpeechData) -> FeatureConfig:
    """Features of the model that is extended, or those of the configuration."""
    return config.features if data.base is None else FeatureConfig(**data.base.config["features"])


def _held_out(data: SpeechData, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    if not len(indices):
        return None
    return np.stack([data.clips.wave(i) for i in indices]), data.clips.labels[indices]


def _weights(counts: np.ndarray) -> Tensor:
    """Weights of the classes against their numbers, of mean 1 over the clips."""
    present = np.maximum(counts, 1)
    return torch.from_numpy(counts.sum() / (np.count_nonzero(counts) * present)).float()


def build_package(config: SpeechConfig, data: SpeechData, learners: dict[str, Any]) -> Packaged:
    """Returns the trained networks, one a fold, and what rebuilds them."""
    from tasks.speech.scoring import calibrate
    from tasks.speech.spotter import Spotter

    networks = {name: learner.model.cpu() for name, learner in learners.items()}
    settings = {
        "model": to_dict(config.model) if data.base is None else data.base.config["model"],
        "stages": stages(next(iter(networks.values()))),
        "features": to_dict(_features(config, data)),
        "rate": data.rate,
        "samples": data.clips.waves.shape[1],
        "classes": data.classes,
        "folds": list(learners) if len(learners) > 1 else [],
    }
    old_words = None if data.base is None else data.base.config["classes"]
    duration = settings["samples"] / data.rate
    d = replace(config.data, words=data.words, old_words=old_words, rate=data.rate, duration=duration)
    metadata: dict[str, Any] = {
        "data": {"name": data.name, "size": data.size, "digest": data.digest, "config": to_dict(d)},
        "options": {"scoring": to_dict(config.scoring)},
        "classes": data.classes,
        "rate": data.rate,
        "duration": duration,
        "input": f"waveform (B, {settings['samples']}) in [-1, 1], {data.rate} Hz, one channel",
        "output": "probabilities (B, classes)",
    }
    spotter = Spotter(settings, networks, metadata)
    metadata["operating_points"] = to_dict(calibrate(spotter, config.scoring, data))
    several = len(networks) > 1
    tensors = {
        f"{name}.{key}" if several else key: tensor
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }
    return Packaged(settings, tensors, metadata)


def load_networks(package: Package) -> dict[str, nn.Module]:
    """Returns the trained networks of a package, one a fold, in evaluation mode.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    settings = package.config
    front = FrontEnd(FeatureConfig(**settings["features"]), settings["rate"])
    model = MODELS[settings["model"]["name"]](**settings["model"])
    build = partial(build_network, model, front.frames(settings["samples"]), front.size)

    def empty() -> nn.Module:
        return rebuild(build, settings["stages"], model.rule, model.rule_options)

    if not settings["folds"]:
        return {"model": package.load_into(empty())}
    return {name: package.load_into(empty(), f"{name}.") for name in settings["folds"]}


def with_base(task: Task, config: SpeechConfig) -> tuple[SpeechConfig, Package | None]:
    """Returns the configuration of the data for a model that is extended, and its package; ``None`` without one.

    Raises:
        ConfigError: It has several networks, or there are no new words.
        TrackingError: It cannot be found.
    """
    where = config.extend.model
    if where is None:
        return config, None
    package = find_package(task, where, resolve_uri(config.tracking))
    if package.config["folds"]:
        raise ConfigError(
            f"--extend.model {where} has {len(package.config['folds'])} networks, of cross-validation; "
            "extend a model of one network"
        )
    if config.data.folds:
        raise ConfigError("--data.folds and --extend.model exclude each other; leave one of them out")
    if not config.data.path:
        raise ConfigError("--extend.model needs --data.path FOLDER with recordings of the new words")
    settings = package.config
    data = replace(
        config.data,
        old_words=settings["classes"],
        rate=settings["rate"],
        duration=settings["samples"] / settings["rate"],
    )
    return replace(config, data=data), package
