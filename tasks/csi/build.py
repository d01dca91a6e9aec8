"""From a configuration to networks, learners and packages."""

from __future__ import annotations

from torch import nn

from core.config import to_dict
from core.data.loader import EpochLoader
from core.errors import ConfigError
from core.task import Packaged, Part, data_record
from core.track.package import Package
from core.train.seeds import seed_everything
from tasks.csi.config import MODELS, CsiConfig
from tasks.csi.data.dataset import CsiData
from tasks.csi.learner import CsiLearner
from tasks.csi.models.build import build_network
from tasks.csi.samples import CsiSamples


def build_parts(config: CsiConfig, data: CsiData) -> list[Part]:
    """Returns the one part of a run.

    Raises:
        ConfigError: Options are wrong, or do not fit the data.
    """
    train = config.train
    if (train.patience or train.validate_every) and not len(data.validation):
        raise ConfigError(
            "--train.patience and --train.validate_every need channels to look at: set --data.validation_share above 0"
        )
    _, antennas, history, subcarriers = data.train.history.shape
    seed_everything(config.seed, "weights")
    network = build_network(config.model, subcarriers, history, data.train.target.shape[2])
    learner = CsiLearner(network, data.validation, config.data, train.batch_size)
    source = EpochLoader(
        CsiSamples(data.train, config.data),
        min(train.batch_size, len(data.train)),
        seed=config.seed,
        workers=train.workers,
    )
    count = sum(p.numel() for p in network.parameters())
    note = f"{config.model.name} with {count:,} parameters, {antennas} antennas, {subcarriers} subcarriers"
    return [Part("model", learner, source, note)]


def build_package(config: CsiConfig, data: CsiData, network: nn.Module) -> Packaged:
    """Returns a trained network and all that is needed to apply it."""
    _, antennas, history, subcarriers = data.train.history.shape
    horizon = data.train.target.shape[2]
    settings = {
        "model": to_dict(config.model),
        "antennas": antennas,
        "subcarriers": subcarriers,
        "history": history,
        "horizon": horizon,
        "duplex": data.duplex,
        "spacing": data.spacing,
        "carrier": data.carrier,
        "interval": data.interval,
    }
    metadata = {
        "data": data_record(data, config.data),
        "options": {"scoring": to_dict(config.scoring)},
        "input": f"complex history (samples, antennas, {history} reports, {subcarriers} subcarriers)",
        "output": f"complex prediction (samples, antennas, {horizon} reports, {subcarriers} subcarriers)",
    }
    return Packaged(settings, network.state_dict(), metadata)


def load_network(package: Package) -> nn.Module:
    """Rebuilds the trained network of a package, in evaluation mode.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    settings = package.config
    model = MODELS[settings["model"]["name"]](**settings["model"])
    network = build_network(model, settings["subcarriers"], settings["history"], settings["horizon"])
    return package.load_into(network)
