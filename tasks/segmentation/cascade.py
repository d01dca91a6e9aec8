"""The coarser model that a cascade reads (nnU-Net's 3d_lowres for 3d_cascade_fullres)."""

from __future__ import annotations

from core.commands.load import find_package
from core.errors import ConfigError
from core.task import Task
from core.track.package import Package
from core.track.store import resolve_uri
from tasks.segmentation.build import load_segmenter
from tasks.segmentation.config import SegmentationConfig
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
    folds = package.metadata["held_out"] if len(settings["folds"]) > 1 else {}
    held_out = {case: fold for fold, cases in folds.items() for case in cases}
    return Previous(
        load_segmenter(package), held_out, package.metadata["sha256"]["weights.safetensors"]
    ), package


def check_same_data(previous: Previous, package: Package, channels: list[str], classes: list[str]) -> str:
    """Checks that a coarser model reads and names what the finer one does; returns what the user should know of it.

    Raises:
        ConfigError: It does not.
    """
    known = [name for name, _ in previous.segmenter.labels.targets]
    if package.config["channels"] != channels or known != classes:
        raise ConfigError(
            f"--plan.previous finds {', '.join(known)} in {', '.join(package.config['channels'])}; this data has "
            f"{', '.join(classes)} in {', '.join(channels)}"
        )
    if previous.held_out:
        return "each case's coarse segmentation is by the network of the fold that did not see it"
    return (
        "the coarse segmentations of the training cases are by a network that learned from them, and better than those "
        "of new cases: train the 3d_lowres model with --data.folds 5"
    )
