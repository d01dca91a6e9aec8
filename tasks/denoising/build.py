"""From a configuration to networks, learners and packages."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import to_dict
from core.data.loader import EpochLoader
from core.registry import Registry
from core.task import Packaged, Part, data_record
from core.track.package import Package
from core.train.learner import Learner
from core.train.seeds import seed_everything
from tasks.denoising.config import MODELS, DenoisingConfig, DnCNNConfig, RIDNetConfig
from tasks.denoising.data import DenoisingData
from tasks.denoising.models.dncnn import DnCNN
from tasks.denoising.models.ridnet import RIDNet
from tasks.denoising.noise import NoisyPatches, check


def build_model(config: Any, channels: int) -> nn.Module:
    """Returns a new network for images of C channels.

    Raises:
        ConfigError: An option of the model is wrong.
    """
    shared = {"rule": config.rule, "rule_options": config.rule_options}
    if isinstance(config, DnCNNConfig):
        return DnCNN(channels, config.layers, config.width, config.variant, config.momentum, **shared)
    assert isinstance(config, RIDNetConfig)
    return RIDNet(channels, config.width, config.blocks, config.reduction, config.paper_skips, **shared)


LOSSES: Registry[Any] = Registry("loss")
LOSSES.register("l2")(F.mse_loss)
LOSSES.register("l1")(F.l1_loss)


@LOSSES.register("l2_sum")
def half_squared_sum(restored: Tensor, clean: Tensor) -> Tensor:
    """Returns ``sum |restored - clean|^2 / (2 B)``, eq. 1 of arXiv:1608.03981."""
    return F.mse_loss(restored, clean, reduction="sum") / (2 * len(clean))


class DenoisingLearner(Learner):
    """A denoiser with its loss.

    Args:
        model: Maps noisy to restored images ``(B, C, H, W)``.
        loss: One of ``LOSSES``.
    """

    def __init__(self, model: nn.Module, loss: str) -> None:
        super().__init__(model)
        self.loss = LOSSES[loss]

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch and its PSNR in dB."""
        restored = self.model(batch["noisy"]).float()
        loss = self.loss(restored, batch["clean"])
        with torch.no_grad():
            psnr = -10 / math.log(10) * F.mse_loss(restored, batch["clean"]).log()
        return loss, {"psnr": psnr}


def build_parts(config: DenoisingConfig, data: DenoisingData) -> list[Part]:
    """Returns the one part of a run."""
    check(config.data)
    assert data.train is not None
    seed_everything(config.seed, "weights")
    learner = DenoisingLearner(build_model(config.model, data.channels), config.train.loss)
    samples = NoisyPatches(data.train, config.data)
    source = EpochLoader(samples, config.train.batch_size, seed=config.seed, workers=config.train.workers)
    count = sum(p.numel() for p in learner.parameters())
    note = f"{config.model.name} with {count:,} parameters, {data.channels} channel(s)"
    return [Part("model", learner, source, note)]


def build_package(config: DenoisingConfig, data: DenoisingData, learners: dict[str, Any]) -> Packaged:
    """Returns the trained network and what rebuilds it."""
    model = learners["model"].model
    d = config.data
    real = data.train is not None and data.train.noisy is not None
    metadata = {
        "data": data_record(data, replace(d, channels=data.channels)),
        "options": {"scoring": to_dict(config.scoring)},
        "input": "images (H, W, C), 8 or 16 bit or float in [0, 1]",
        "normalisation": "divided by the white of the type; not clipped inside the network",
        "channels": data.channels,
        "patch": d.patch,
        "degradation": {"kinds": ["real"]} if real else {"kinds": d.kinds, "sigma": d.sigma},
    }
    return Packaged({"model": to_dict(config.model), "channels": data.channels}, model.state_dict(), metadata)


def load_model(package: Package) -> nn.Module:
    """Returns the trained network of a package, in evaluation mode.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    options = dict(package.config["model"])
    model = build_model(MODELS[options["name"]](**options), package.config["channels"])
    return package.load_into(model)
