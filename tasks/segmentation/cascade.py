"""The coarser model that a cascade reads (nnU-Net's 3d_lowres for 3d_cascade_fullres)."""

from __future__ import annotations

from core.commands.load import find_package
from core.errors import ConfigError
from core.task import Task
from core.track.package import Package
from core.track.store import resolve_uri
from tasks.segmentation.build import load_segmenter
from tasks.segmentation.config import SegmentationConfig
from tasks.segmentation.data.cases import SegmentationData
from tasks.segmentation.prepare import Previous


def find_previous(task: Task, config: SegmentationConfig) -> tuple[Previous, Package] | None:
    """Returns the model that ``--plan.previous`` names and its package; ``None`` without one.

    Raises:
        ConfigError: It is no single 3d_lowres model for segmentation.
        TrackingError: It cannot be found.
    """
    where = config.plan.previous
    if where is None:
        return None
    package = find_package(task, where, resolve_uri(config.tracking))
    settings = package.config
    if settings["objective"] != "segment" or settings["members"]:
        raise ConfigError(
            f"--plan.previous {where} is no single segmentation model; train one with 3d_lowres"
        )
    found = settings["plan"]["configuration"]
    if found != "3d_lowres":
        raise ConfigError(f"--plan.previous {where} is a {found} model; a cascade reads a 3d_lowres one")
    return Previous(load_segmenter(package), package.metadata["sha256"]["weights.safetensors"]), package


def check_same_data(previous: Previous, package: Package, data: SegmentationData) -> str:
    """Checks that a coarser model reads and names what the finer one does; returns what the user should know of it.

    Raises:
        ConfigError: It does not, or it learned from cases that the finer one is tested on.
    """
    channels, classes = data.channels, [name for name, _ in data.labels.targets]
    for position in sorted({i for fold in data.folds for i in (*fold.validation, *fold.test)}):
        if previous.segmenter.knows(name := data.cases[position].name):
            raise ConfigError(
                f"--plan.previous {package.folder} learned from {name}, which is tested here; split the data as there"
            )
    known = [name for name, _ in previous.segmenter.labels.targets]
    if package.config["channels"] != channels or known != classes:
        raise ConfigError(
            f"--plan.previous finds {', '.join(known)} in {', '.join(package.config['channels'])}; this data has "
            f"{', '.join(classes)} in {', '.join(channels)}"
        )
    if not any(previous.segmenter.knows(case.name) for case in data.training):
        return "each case's coarse segmentation is by the networks that did not learn from it"
    return (
        "the coarse segmentations of the training cases are by a network that learned from them, and better than those "
        "of new cases: train the 3d_lowres model with --data.folds 5"
    )
