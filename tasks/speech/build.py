"""From a configuration to networks, learners and packages."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.config import to_dict
from core.data.loader import EpochLoader
from core.data.split import Fold
from core.errors import ConfigError
from core.task import Packaged, Part, data_record
from core.track.networks import load_folds, named_tensors, network_of
from core.track.package import Package
from core.train.learner import Learner
from core.train.seeds import seed_everything
from core.train.start import for_classes
from tasks.speech.config import (
    MODELS,
    BackboneConfig,
    BCResNetConfig,
    FeatureConfig,
    ResConfig,
    SpeechConfig,
)
from tasks.speech.data.clips import SpeechData
from tasks.speech.data.samples import KeywordSamples
from tasks.speech.extend import ExtendedLearner, extend_network, new_clips, rebuild, stages
from tasks.speech.frontend import FrontEnd
from tasks.speech.learner import SpeechLearner
from tasks.speech.models.backbone import BackboneNet
from tasks.speech.models.bcresnet import BCResNet
from tasks.speech.models.resnets import ResNet
from tasks.speech.streaming import OperatingPoints

OUTPUT = ("output.weight", "output.bias")
"""Weights of the networks that have a row for each class."""


def build_network(config: Any, frames: int, features: int, classes: int) -> nn.Module:
    """Returns a new network for features ``(B, T, F)``.

    Raises:
        ConfigError: An option of the model is wrong, or does not fit the features.
    """
    shared = {"rule": config.rule, "rule_options": config.rule_options}
    if isinstance(config, ResConfig):
        sizes = (frames, features)
        if len(config.pool) != 2 or not all(
            1 <= p <= size for p, size in zip(config.pool, sizes, strict=True)
        ):
            raise ConfigError(
                f"--model.pool {config.pool} must be two numbers from 1 to the {frames} frames and {features} features"
            )
        for option in ("width", "layers"):
            if getattr(config, option) < 1:
                raise ConfigError(f"--model.{option} {getattr(config, option)} must be 1 or more")
        return ResNet(
            classes, config.width, config.layers, config.pool, config.dilated, config.scales, **shared
        )
    if isinstance(config, BCResNetConfig):
        return BCResNet(classes, features, config.tau, config.dropout, config.sub_bands, **shared)
    assert isinstance(config, BackboneConfig)
    return BackboneNet(config, frames, features, classes)


def build_parts(config: SpeechConfig, data: SpeechData, base: Package | None = None) -> list[Part]:
    """Returns a part for each fold.

    Args:
        config: Configuration of the run; with a base it is of the base's network.
        data: Recordings.
        base: Model that is extended with new words.

    Raises:
        ConfigError: Options are wrong or contradict each other.
    """
    if not 0 <= config.train.smoothing < 1:
        raise ConfigError(f"--train.smoothing {config.train.smoothing} must lie between 0 and 1")
    return [_build_part(config, data, fold, base) for fold in data.folds]


def _build_part(config: SpeechConfig, data: SpeechData, fold: Fold, base: Package | None) -> Part:
    seed_everything(config.seed, "weights")
    front = FrontEnd(config.features, data.rate)
    samples = KeywordSamples(
        data, fold, config.data, front, config.train.balance, workers=config.train.workers
    )
    frames, classes = front.frames(data.clips.waves.shape[1]), len(data.classes)
    teacher, how = None, ""
    if base is None:
        network = build_network(config.model, frames, front.size, classes)
    else:
        teacher = load_networks(base)["model"]
        rule = (config.model.rule, config.model.rule_options)
        network = extend_network(teacher, config.extend, classes, *new_clips(data, fold, front), *rule)
        how = f", extended by {config.extend.method},"
        if config.extend.method != "distill" and not config.data.old_path:
            how += " which forgets the old words unless --data.old_path has recordings of them,"
    learner: Learner = SpeechLearner(
        network,
        front,
        _weights(samples.class_counts) if config.train.balance == "loss" else None,
        config.train.smoothing,
        (data.clips, fold.validation),
    )
    if teacher is not None:
        learner = ExtendedLearner(learner, teacher, config.extend)
    # A handful of new words need not fill a batch.
    batch = config.train.batch_size if base is None else min(config.train.batch_size, len(samples))
    source = EpochLoader(samples, batch, seed=config.seed, workers=config.train.workers)
    count = sum(p.numel() for p in network.parameters())
    size = f"{count:,} parameters, {classes} classes, {len(samples)} clips an epoch"
    note = f"{config.model.name}{how} with {size}{'; ' if samples.note else ''}{samples.note}"
    return Part(fold.name, learner, source, note)


def _weights(counts: np.ndarray) -> Tensor:
    """Weights of the classes against their numbers, of mean 1 over the clips."""
    present = np.maximum(counts, 1)
    return torch.from_numpy(counts.sum() / (np.count_nonzero(counts) * present)).float()


def build_package(
    config: SpeechConfig, data: SpeechData, learners: dict[str, Any], base: Package | None = None
) -> Packaged:
    """Returns the trained networks, one a fold, and what rebuilds them; ``base`` is the model that was extended."""
    from tasks.speech.scoring import calibrate
    from tasks.speech.spotter import Spotter

    networks = {name: learner.model.cpu() for name, learner in learners.items()}
    settings = {
        "model": to_dict(config.model),
        "stages": stages(next(iter(networks.values()))),
        "features": to_dict(config.features),
        "rate": data.rate,
        "samples": data.clips.waves.shape[1],
        "classes": data.classes,
        "folds": list(learners) if len(learners) > 1 else [],
    }
    d = replace(config.data, words=data.words)
    metadata: dict[str, Any] = {
        "data": data_record(data, d),
        "options": {"scoring": to_dict(config.scoring)},
        "classes": data.classes,
        "rate": data.rate,
        "duration": d.duration,
        "input": f"waveform (B, {settings['samples']}) in [-1, 1], {data.rate} Hz, one channel",
        "output": "probabilities (B, classes)",
    }
    spotter = Spotter(settings, networks, metadata)
    # A handful of new words tell little of false alarms.
    known = base.metadata.get("operating_points") if base and not config.data.old_path else None
    points = calibrate(spotter, config.scoring, data, OperatingPoints(**known) if known else None)
    metadata["operating_points"] = to_dict(points)
    return Packaged(settings, named_tensors(networks), metadata)


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

    return load_folds(package, settings["folds"], empty)


def first_weights(package: Package, part: str, classes: list[str]) -> dict[str, Tensor]:
    """Returns trained weights to start from, of the network of a fold, or else of the first.

    Those of the output layer are put into the order of the data's classes; they are left out unless the model knows
    all of these.
    """
    state = network_of(load_networks(package), part).state_dict()
    return for_classes(state, OUTPUT, package.metadata["classes"], classes)
