"""A model that nnU-Net has trained becomes one of ours: ``python -m tasks.segmentation.from_nnunet --help``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from core.cli import argument_parser, with_one_line_errors
from core.config import to_dict
from core.errors import ConfigError, DataError
from core.task import Packaged
from tasks.segmentation.config import DataConfig, PlainConfig, ResEncConfig, SegScoringConfig

CHECKPOINT = "checkpoint_final.pth"


def package_nnunet(folder: Path) -> Packaged:
    """Returns the folds of a training of nnU-Net v2 as a package.

    Args:
        folder: ``<trainer>__<plans>__<configuration>``, with ``fold_0/checkpoint_final.pth`` and so on.

    Raises:
        DataError: There are no folds, a checkpoint cannot be read safely, or the network is none of those here.
        ConfigError: It is the second stage of a cascade.
    """
    from tasks.segmentation.build import named_tensors
    from tasks.segmentation.data.raw import read_labels_of
    from tasks.segmentation.models.build import build_network
    from tasks.segmentation.models.reference import read_nnunet_fold
    from tasks.segmentation.planning.nnunet_json import plans_of

    paths = sorted(folder.glob(f"fold_*/{CHECKPOINT}"))
    if not paths:
        raise DataError(
            f"{folder}: no fold_*/{CHECKPOINT}; give the folder TRAINER__PLANS__CONFIGURATION of nnU-Net"
        )
    folds = {path.parent.name: read_nnunet_fold(path) for path in paths}
    first = next(iter(folds.values()))
    plan = plans_of(first.plans, paths[0]).configurations[first.configuration]
    if plan.configuration == "3d_cascade_fullres":
        raise ConfigError(
            f"{folder} is the second stage of a cascade, which needs its first; take 3d_fullres"
        )
    labels = read_labels_of(paths[0], first.dataset)
    if labels is None:
        raise DataError(f"{paths[0]}: its dataset.json names no labels")
    names = first.dataset.get("channel_names") or first.dataset["modality"]
    channels = [names[key] for key in sorted(names, key=int)]
    model = ResEncConfig() if plan.residual else PlainConfig()
    networks = {}
    for name, fold in folds.items():
        network = build_network(model, plan, len(channels), labels.outputs)
        try:
            network.load_state_dict(fold.weights)
        except RuntimeError as error:
            raise DataError(f"{folder / name}: {' '.join(str(error).split())[:300]}") from None
        networks[name] = network
    settings: dict[str, Any] = {
        "objective": "segment",
        "labels": labels.to_dict(),
        "channels": channels,
        "plan": plan.to_dict(),
        "model": to_dict(model),
        "folds": list(networks),
        "mirror_axes": list(first.mirror_axes),
        "postprocessing": None,
        "previous": None,
        "members": [],
    }
    metadata = {
        "data": {"name": first.plans["dataset_name"], "config": to_dict(DataConfig())},
        "options": {"scoring": to_dict(SegScoringConfig())},
        "classes": [name for name, _ in labels.targets],
        "input": f"volume or image of {len(channels)} channel(s): {', '.join(channels)}",
        "output": f"label map, {dict(zip(labels.names, labels.values, strict=True))}",
        "provenance": {"trainer": first.trainer, "folder": folder.name},
    }
    return Packaged(settings, named_tensors(networks), metadata)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return with_one_line_errors(_convert, argv)


def _convert(argv: list[str]) -> int:
    parser = argument_parser(
        "tasks.segmentation.from_nnunet",
        "Turns the folds of a training of nnU-Net v2 into a model for --model. Nothing in their files is executed; "
        "postprocessing.pkl, which is a pickle, is not read.",
        "  python -m tasks.segmentation.from_nnunet "
        "nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres hippocampus",
    )
    parser.add_argument(
        "results", metavar="RESULTS", type=Path, help="folder TRAINER__PLANS__CONFIGURATION of nnU-Net"
    )
    parser.add_argument("package", metavar="PACKAGE", type=Path, help="new folder for the model")
    options = parser.parse_args(argv)
    from core.track.package import save_package

    if options.package.exists():
        raise ConfigError(f"{options.package} exists; give a new folder")
    packaged = package_nnunet(options.results)
    save_package(options.package, packaged, "segmentation")
    count, name = len(packaged.config["folds"]), packaged.metadata["data"]["name"]
    print(f"written    {options.package}: {count} fold(s) of {name}")
    print(f"           python -m tasks.segmentation.predict --model {options.package} --input FILE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
