"""From a configuration to networks, learners and packages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import to_dict
from core.data.loader import EpochLoader
from core.errors import ConfigError
from core.registry import Registry
from core.task import Packaged, Part, data_record
from core.track.package import Package
from core.train.distributed import environment_world
from core.train.learner import Learner
from core.train.seeds import seed_everything
from tasks.super_resolution.config import MODELS, CARNMConfig, RCANConfig, SuperResolutionConfig
from tasks.super_resolution.data import SmallAndLarge, SuperResolutionData
from tasks.super_resolution.models.carn import CARN
from tasks.super_resolution.models.rcan import RCAN


def build_model(config: Any, scales: Sequence[int], channels: int) -> nn.Module:
    """Returns a new network for images of C channels.

    Raises:
        ConfigError: An option of the model is wrong, or the model has one scale and several are asked for.
    """
    shared = {"rule": config.rule, "rule_options": config.rule_options}
    if isinstance(config, CARNMConfig):
        return CARN(scales, channels, config.width, config.groups, config.recursive, **shared)
    assert isinstance(config, RCANConfig)
    if len(scales) > 1:
        raise ConfigError(
            f"{config.name} enlarges by one factor, not by {', '.join(map(str, scales))}; train one model for each, "
            "or take --model carn"
        )
    return RCAN(scales[0], channels, config.width, config.groups, config.blocks, config.reduction, **shared)


LOSSES: Registry[Any] = Registry("loss")
LOSSES.register("l1")(F.l1_loss)
LOSSES.register("l2")(F.mse_loss)


class SuperResolutionLearner(Learner):
    """A network that enlarges, with its loss.

    Args:
        model: Maps ``(B, C, h, w)`` to ``(B, C, scale h, scale w)``; with ``scales`` it is also told the scale.
        loss: One of ``LOSSES``.
    """

    def __init__(self, model: nn.Module, loss: str) -> None:
        super().__init__(model)
        self.loss = LOSSES[loss]

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, whose images are of one scale, and its PSNR in dB over all values."""
        low, high = batch["low"], batch["high"]
        several = hasattr(self.model, "scales")
        restored = (self.model(low, high.shape[-1] // low.shape[-1]) if several else self.model(low)).float()
        with torch.no_grad():
            psnr = -10 / math.log(10) * F.mse_loss(restored, high).log()
        return self.loss(restored, high), {"psnr": psnr}


def build_parts(config: SuperResolutionConfig, data: SuperResolutionData) -> list[Part]:
    """Returns the one part of a run."""
    assert data.train is not None
    if len(data.scales) > 1 and environment_world().size > 1:
        raise ConfigError(
            "several processes train one scale, since each step uses only a part of the network"
        )
    seed_everything(config.seed, "weights")
    learner = SuperResolutionLearner(build_model(config.model, data.scales, data.channels), config.train.loss)
    samples = SmallAndLarge(data.train, data.scales, config.data)
    source = EpochLoader(
        samples,
        config.train.batch_size,
        seed=config.seed,
        workers=config.train.workers,
        groups=samples.groups,
    )
    count = sum(p.numel() for p in learner.parameters())
    factors = ", ".join(f"x{scale}" for scale in data.scales)
    note = f"{config.model.name} {factors} with {count:,} parameters, {data.channels} channel(s)"
    return [Part("model", learner, source, note)]


def build_package(
    config: SuperResolutionConfig, data: SuperResolutionData, learners: dict[str, Any]
) -> Packaged:
    """Returns the trained network and what rebuilds it."""
    model = learners["model"].model
    d = replace(config.data, scales=list(data.scales))
    metadata = {
        "data": data_record(data, d),
        "options": {"scoring": to_dict(config.scoring)},
        "input": "images (H, W, C), 8 or 16 bit or float in [0, 1]",
        "normalisation": "divided by the white of the type; not clipped inside the network",
        "channels": data.channels,
        "scales": list(data.scales),
        "patch": d.patch,
        "degradation": {"kind": "real" if d.name == "pairs" else "MATLAB's bicubic", "jpeg": d.jpeg},
    }
    settings = {"model": to_dict(config.model), "scales": list(data.scales), "channels": data.channels}
    return Packaged(settings, model.state_dict(), metadata)


def load_model(package: Package) -> nn.Module:
    """Returns the trained network of a package, in evaluation mode.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    options = dict(package.config["model"])
    config = MODELS[options["name"]](**options)
    model = build_model(config, package.config["scales"], package.config["channels"])
    return package.load_into(model)
