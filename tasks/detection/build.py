"""From a configuration to networks, learners and packages."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from core.config import per_part, to_dict
from core.data.loader import EpochLoader
from core.errors import ConfigError
from core.task import Packaged, Part, data_record
from core.track.package import Package
from core.train.seeds import seed_everything
from core.train.start import for_classes
from tasks.detection.checks import check_training
from tasks.detection.config import MODELS, DetectionConfig, DetScoringConfig, RTMDetInsConfig
from tasks.detection.data.dataset import DetectionData, ImageSet
from tasks.detection.data.images import ImageCache
from tasks.detection.detector import Detector
from tasks.detection.learner import LEARNERS
from tasks.detection.models.build import build_network
from tasks.detection.samples import DetectionSamples
from tasks.detection.scoring import validation_score

ROWS = ".rtm_cls."
CLASS_LAYERS = (ROWS, ".classification_head.")
"""In the names of the tensors that tell classes apart."""
SMALLEST = 8
"""Pixels of the finest stride: objects with a shorter side are hardly found."""
NOTEWORTHY = 0.05
PLAIN_SHARE = 20 / 300
"""Share of the epochs without mosaic and mixup in the paper's training."""


def build_parts(config: DetectionConfig, data: DetectionData) -> list[Part]:
    """Returns the one part of a run.

    Raises:
        ConfigError: Options are wrong, contradict each other, or do not fit the data.
    """
    check_training(config)
    masks = isinstance(config.model, RTMDetInsConfig)
    if masks and data.train.polygons is None:
        raise ConfigError("--model rtmdet_ins learns masks, and the data has boxes alone; use --model rtmdet")
    train = config.train
    if not len(data.validation) and (train.patience or train.validate_every):
        raise ConfigError(
            "--train.patience and --train.validate_every need images to look at: set --data.validation_share above 0"
        )
    seed_everything(config.seed, "weights")
    network = build_network(config.model, len(data.classes))
    plain_from = _plain_from(config, len(data.train))
    samples = DetectionSamples(
        data.train,
        _cache(config, data.train),
        config.image_size,
        config.augment,
        plain_from=plain_from,
        masks=masks,
    )
    source = EpochLoader(
        samples, train.batch_size, seed=config.seed, workers=train.workers, collate=samples.collate
    )
    validate = partial(validation_score, images=data.validation, classes=data.classes, size=config.image_size)
    learner = LEARNERS[config.model.name](network, validate=validate if len(data.validation) else None)
    count = sum(p.numel() for p in network.parameters())
    note = f"{_title(config)} with {count:,} parameters, {len(data.classes)} classes, {config.image_size} px"
    mixes = config.augment.mosaic > 0 or config.augment.mixup > 0
    if mixes and plain_from:
        note += f"; mosaic and mixup until epoch {plain_from}, plain images from then on"
        if train.max_time or train.patience:
            note += " unless it is stopped before"
    return [Part("model", learner, source, note, _small_objects(data.train, config.image_size))]


def _cache(config: DetectionConfig, images: ImageSet) -> ImageCache:
    """Returns what reads the images: all stay in memory if they fit, else as many as mosaics are made of."""
    gigabytes = config.data.memory / max(1, config.train.workers)
    whole = 3e-9 * float(images.sizes.astype(float).prod(1).sum())
    recent = config.augment.cache + config.train.batch_size
    return ImageCache(images, gigabytes, recent if config.augment.cache and whole > gigabytes else None)


def _small_objects(images: ImageSet, size: int) -> list[str]:
    """Returns a line if many objects are too small to be found at an input size."""
    scales = size / images.sizes.max(1).repeat(np.diff(images.start))
    sides = (images.boxes[:, 2:] - images.boxes[:, :2]).min(1) * scales
    share = float((sides < SMALLEST).mean()) if len(sides) else 0.0
    if share < NOTEWORTHY:
        return []
    small = f"{100 * share:.0f} % of the objects are under {SMALLEST} pixels"
    return [f"{small} at --image_size {size}: a larger one finds more"]


def _title(config: DetectionConfig) -> str:
    """Returns what a network is called: ``rtmdet nano on resnet18``."""
    words = [config.model.name, getattr(config.model, "size", "")]
    if backbone := getattr(config.model, "backbone", None):
        words += ["on", backbone]
    return " ".join(filter(None, words))


def _plain_from(config: DetectionConfig, images: int) -> int:
    """Returns the first epoch without mosaic and mixup."""
    train = config.train
    batches = max(1, images // train.batch_size)
    if train.steps is None:
        epochs = train.epochs or 1
    else:
        epochs = -(-per_part(train.steps, "model", "train.steps") * train.accumulate // batches)
    plain = config.augment.plain_epochs
    if plain is None:
        plain = max(1, round(PLAIN_SHARE * epochs))
    return max(0, epochs - plain)


def build_package(config: DetectionConfig, data: DetectionData, network: nn.Module) -> Packaged:
    """Returns a trained network and all that is needed to apply it."""
    return pack(
        network,
        to_dict(config.model),
        data.classes,
        data.category_ids,
        config.image_size,
        {
            "data": data_record(data, config.data),
            "options": {"scoring": to_dict(config.scoring)},
        },
    )


def pack(
    network: nn.Module,
    model: dict[str, Any],
    classes: list[str],
    category_ids: list[int],
    image_size: int,
    metadata: dict[str, Any] | None = None,
) -> Packaged:
    """Returns the content of a package.

    Args:
        network: Trained network.
        model: Its configuration as plain values.
        classes: Names of the classes.
        category_ids: COCO's number of each.
        image_size: Side of the square that images are fitted into, pixels.
        metadata: What is known of the training; without it, data and scoring are the defaults.
    """
    settings = {
        # The trained weights have replaced those of the file.
        "model": {**model, "backbone_weights": None},
        "classes": classes,
        "category_ids": category_ids,
        "image_size": image_size,
    }
    known = {
        "options": {"scoring": to_dict(DetScoringConfig())},
        **(metadata or {}),
        "classes": classes,
        "input": f"image of any size, fitted into {image_size} x {image_size} pixels",
        "output": "left, top, right and bottom of each object in pixels, its score and its class",
    }
    return Packaged(settings, network.state_dict(), known)


def load_network(package: Package) -> nn.Module:
    """Rebuilds the trained network of a package, in evaluation mode.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    model = MODELS[package.config["model"]["name"]](**package.config["model"])
    return package.load_into(build_network(model, len(package.config["classes"])))


def first_weights(package: Package, classes: list[str]) -> dict[str, Tensor]:
    """Returns trained weights to start from.

    Those that tell classes apart are put into the order of the data's classes, by name. They are left out unless the
    model knows all of these, or where they are not a row for each class, as in SSDLite.

    Args:
        package: Trained model.
        classes: Names of the data's classes.
    """
    tensors, known = package.tensors(), package.config["classes"]
    by_class = {name for name in tensors if any(part in name for part in CLASS_LAYERS)}
    if known != classes and not all(ROWS in name for name in by_class):
        return {name: tensor for name, tensor in tensors.items() if name not in by_class}
    return for_classes(tensors, by_class, known, classes)


def load_detector(package: Package) -> Detector:
    """Rebuilds a trained detector."""
    settings = package.config
    return Detector(
        load_network(package),
        settings["classes"],
        settings["category_ids"],
        settings["image_size"],
        package.metadata,
    )
