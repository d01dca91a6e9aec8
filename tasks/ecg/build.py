"""From a configuration to networks, learners and packages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from core.config import to_dict
from core.data.loader import EpochLoader
from core.data.split import Fold
from core.errors import ConfigError
from core.task import Packaged, Part, data_record
from core.track.networks import load_folds, named_tensors, network_of
from core.track.package import Package
from core.train.distributed import environment_world
from core.train.seeds import seed_everything
from core.train.start import for_classes
from tasks.ecg.checks import check_training
from tasks.ecg.classifier import Classifier, classifier_settings
from tasks.ecg.config import MODELS, EcgConfig
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.learner import EcgLearner
from tasks.ecg.losses import MultiLabelLoss, positive_weights
from tasks.ecg.models.build import build_network
from tasks.ecg.normalise import fit_normaliser
from tasks.ecg.remarks import training_records
from tasks.ecg.samples import EcgSamples
from tasks.ecg.unseen import folds_of
from tasks.ecg.windows import POOL, stride_of


def build_parts(config: EcgConfig, data: EcgData) -> list[Part]:
    """Returns a part for each fold.

    Raises:
        ConfigError: Options are wrong, or do not fit the data.
    """
    check_training(config)
    if (config.train.patience or config.train.validate_every) and not all(
        len(fold.validation) for fold in data.folds
    ):
        raise ConfigError(
            "--train.patience and --train.validate_every need records to look at: set --data.validation_share above 0"
        )
    return [_build_part(config, data, fold) for fold in data.folds]


def _build_part(config: EcgConfig, data: EcgData, fold: Fold) -> Part:
    train, length = config.train, round(config.crop * data.rate)
    seed_everything(config.seed, "weights")
    network = build_network(config.model, len(data.leads), len(data.classes), length)
    learner = EcgLearner(
        network,
        fit_normaliser(config.normalise, data.signals, data.present, fold.train),
        MultiLabelLoss(
            train.loss,
            train.focusing,
            train.margin,
            positive_weights(data.labels[fold.train]) if train.balance == "weights" else None,
        ),
        length,
        ([data.signals[i] for i in fold.validation], data.labels[fold.validation]),
        stride_of(config.scoring.stride, length, data.rate),
        config.scoring.pool or POOL,
    )
    samples = EcgSamples(data, fold, length, config.data)
    processes = environment_world().size
    # A fold of a small set need not fill a batch.
    batch = min(train.batch_size, len(samples) // processes * processes)
    _check_norms(network, train.batch_size, batch // processes, fold.name)
    source = EpochLoader(samples, batch, seed=config.seed, workers=train.workers)
    count = sum(p.numel() for p in network.parameters())
    note = f"{config.model.name} with {count:,} parameters, {len(data.classes)} classes, crops of {config.crop:g} s"
    return Part(fold.name, learner, source, note)


def _check_norms(network: nn.Module, asked: int, batch: int, fold: str) -> None:
    if batch < 2 and any(isinstance(module, nn.BatchNorm1d) for module in network.modules()):
        raise ConfigError(
            f"--train.batch_size {asked}: batch norms need 2 records or more in each process, and {fold} has {batch}; "
            "raise it, or give more records"
        )


def build_package(config: EcgConfig, data: EcgData, learners: dict[str, Any]) -> Packaged:
    """Returns the trained networks, one a fold, what rebuilds them, and the threshold of each class."""
    from tasks.ecg.scoring import calibrate

    networks = {name: learner.model.cpu().eval() for name, learner in learners.items()}
    settings = classifier_settings(config, data, learners)
    metadata: dict[str, Any] = {
        # The classes by name: other records would choose others.
        "data": data_record(data, replace(config.data, labels=data.classes)),
        "options": {"scoring": to_dict(config.scoring)},
        # Other options or records may split the data in another way.
        "folds": folds_of(data) if len(networks) > 1 else {},
        "records": training_records(data, config.data),
        "classes": data.classes,
        "codes": data.codes,
        "leads": data.leads,
        "rate": data.rate,
        "synthetic": data.synthetic,
        "input": f"record (leads, samples) in mV, cut into windows of {config.crop:g} s at {data.rate} Hz",
        "output": "probability of each finding; not a medical device",
    }
    classifier = Classifier(settings, networks, metadata)
    metadata["thresholds"] = [float(value) for value in calibrate(classifier, config.scoring, data)]
    return Packaged(settings, named_tensors(networks), metadata)


def load_networks(package: Package) -> dict[str, nn.Module]:
    """Returns the trained networks of a package, one a fold, in evaluation mode.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    settings = package.config
    model = MODELS[settings["model"]["name"]](**settings["model"])

    def empty() -> nn.Module:
        leads, classes = settings["prepared"]["leads"], settings["classes"]
        return build_network(model, len(leads), len(classes), settings["samples"])

    return load_folds(package, settings["folds"], empty)


def first_weights(package: Package, part: str, classes: list[str]) -> dict[str, Tensor]:
    """Returns trained weights to start from, of the network of a fold, or else of the first.

    Those of the last layer, a row for each class, are put into the order of the data's classes by name; they are left
    out unless the model knows all of these.
    """
    network = network_of(load_networks(package), part)
    last = {f"{name}.{kind}" for name in _last_layer(network) for kind in ("weight", "bias")}
    return for_classes(network.state_dict(), last, package.config["classes"], classes)


def _last_layer(network: nn.Module) -> list[str]:
    """Returns the name of the last linear layer, which tells classes apart in every network here."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
