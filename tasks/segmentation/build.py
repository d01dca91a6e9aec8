"""From a configuration to plan, networks, learners and packages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from core.config import to_dict
from core.data.cache import Store
from core.data.loader import EpochLoader, Samples
from core.errors import ConfigError
from core.task import Packaged, Part, data_record
from core.track.networks import network_of
from core.track.package import Package
from core.train.learner import Learner
from core.train.seeds import seed_everything
from core.train.start import for_classes
from tasks.segmentation.checks import apply_options, check_scoring
from tasks.segmentation.config import MODELS, SegmentationConfig
from tasks.segmentation.data.cases import Fold, SegmentationData
from tasks.segmentation.labels import Labels
from tasks.segmentation.learner import SegmentationLearner
from tasks.segmentation.models.build import build_network
from tasks.segmentation.planning.choose import choose_plan
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.postprocess import choose_postprocessing
from tasks.segmentation.prepare import Previous, prepare_cases
from tasks.segmentation.preprocess import Prepared
from tasks.segmentation.samples import PatchSamples
from tasks.segmentation.segmenter import Segmenter

PREVIOUS = "previous."
"""What stands before the names of the weights of a cascade's coarser model."""
OUTPUTS = ("segment.", "output.", "network.segmentation_head.")
"""Where the names of weights begin that have a row for each output, in the networks of ``models/``."""


def resolve_plan(config: SegmentationConfig, data: SegmentationData, previous: Previous | None) -> Plan:
    """Returns the plan of a run; the same for the same configuration and data.

    Raises:
        ConfigError: An option of the plan does not fit the data or the model.
    """
    plan = choose_plan(data, config.plan, config.model, config.train.batch_size)
    if previous is not None:
        plan = replace(plan, previous_classes=len(previous.segmenter.labels.names) - 1)
    return plan


def labels_of(config: SegmentationConfig, data: SegmentationData) -> Labels:
    """Returns what the network's outputs mean."""
    return data.labels.binary() if config.model.sigmoid else data.labels


def build_parts(config: SegmentationConfig, data: SegmentationData, previous: Previous | None) -> list[Part]:
    """Returns a part for each fold.

    Raises:
        ConfigError: Options are wrong or contradict each other.
        DataError: A case cannot be preprocessed.
    """
    check_options(config)
    plan = resolve_plan(config, data, previous)
    prepared = prepare_for(config, data, plan, previous)
    return [_build_part(config, data, fold, plan, prepared) for fold in data.folds]


def check_options(config: SegmentationConfig) -> None:
    """Raises ``ConfigError`` for values that no training can use."""
    train = config.train
    if not 0 <= train.foreground <= 1:
        raise ConfigError(f"--train.foreground {train.foreground} must lie between 0 and 1")
    for name in ("batches_per_epoch", "validation_batches"):
        if getattr(train, name) < 1:
            raise ConfigError(f"--train.{name} {getattr(train, name)} must be 1 or more")
    if not config.augment.probability >= 0:
        raise ConfigError(f"--augment.probability {config.augment.probability} must be 0 or more")
    check_scoring(config.scoring)


def prepare_for(
    config: SegmentationConfig, data: SegmentationData, plan: Plan, previous: Previous | None = None
) -> dict[int, Prepared]:
    """Returns the preprocessed cases that the folds learn from and are watched by."""
    used = sorted({i for fold in data.folds for i in (*fold.train, *fold.validation)})
    store = Store(config.data.memory)
    prepared = prepare_cases(data, plan, used, config.data.cache, previous, store)
    data.notes += store.notes()
    return prepared


def patch_samples(
    config: SegmentationConfig,
    data: SegmentationData,
    plan: Plan,
    prepared: dict[int, Prepared],
    positions: Iterable[int],
) -> PatchSamples:
    """Returns the patches of some cases."""
    chosen = list(positions)
    names = [data.cases[i].name for i in chosen]
    cases = [prepared[i] for i in chosen]
    return PatchSamples(
        cases,
        names,
        plan,
        labels_of(config, data),
        config.train,
        config.augment,
        intensity=config.objective == "segment",
    )


def _build_part(
    config: SegmentationConfig, data: SegmentationData, fold: Fold, plan: Plan, prepared: dict[int, Prepared]
) -> Part:
    seed_everything(config.seed, "weights")
    labels = labels_of(config, data)
    network = build_network(config.model, plan, len(data.channels) + plan.previous_classes, labels.outputs)
    samples = patch_samples(config, data, plan, prepared, fold.train)
    held_out = (
        patch_samples(config, data, plan, prepared, fold.validation).unchanged() if fold.validation else None
    )
    learner = SegmentationLearner(
        network,
        labels,
        batch_dice=plan.batch_dice,
        dice=config.train.loss == "dice_ce",
        validation=held_out,
        batches=config.train.validation_batches,
        batch_size=plan.batch_size,
        seed=config.seed,
    )
    watched = "" if fold.validation else ", none watched"
    size = f"{parameters(network):,} parameters, {labels.outputs} outputs"
    patch = " x ".join(map(str, plan.patch_size))
    note = (
        f"{config.model.name} for {plan.configuration}: {size}, patches of {patch}, {plan.batch_size} in a batch, "
        f"{len(fold.train)} cases to learn from{watched}"
    )
    return make_part(config, fold, plan, samples, learner, note)


def make_part(
    config: SegmentationConfig, fold: Fold, plan: Plan, samples: Samples, learner: Learner, note: str
) -> Part:
    """Returns the part of a fold; its learner knows what pre-training gives.

    Raises:
        ConfigError: Training is to stop early, and there is nothing to decide it on.
    """
    if config.train.patience and not fold.validation:
        raise ConfigError(
            "--train.patience: there are no cases to validate on; set --data.validation_share above 0, give more "
            "cases, or leave it at 0"
        )
    if isinstance(getattr(learner.model, "encoder", None), nn.Module):
        learner.late = ("encoder",)
    source = EpochLoader(
        samples, plan.batch_size, seed=config.seed, workers=config.train.workers, shuffle=False
    )
    return Part(fold.name, learner, source, note, list(plan.why))


def parameters(network: nn.Module) -> int:
    """Returns the number of parameters."""
    return sum(p.numel() for p in network.parameters())


def build_package(
    config: SegmentationConfig,
    data: SegmentationData,
    networks: dict[str, nn.Module],
    previous: tuple[Previous, Package] | None = None,
) -> Packaged:
    """Returns the trained networks, one a fold, and all that is needed to apply them.

    Args:
        config: Configuration of the run.
        data: Cases.
        networks: Fold to trained network.
        previous: Coarser model of a cascade, which becomes a part of the package.
    """
    plan = resolve_plan(config, data, previous[0] if previous else None)
    labels = labels_of(config, data)
    settings: dict[str, Any] = {
        "objective": config.objective,
        "labels": labels.to_dict(),
        "channels": data.channels,
        "plan": plan.to_dict(),
        "model": _without_files(to_dict(config.model)),
        "folds": list(networks),
        # Inference mirrors what training did; None is all axes.
        "mirror_axes": [] if config.augment.kind == "none" else config.augment.mirror,
        "postprocessing": None,
        "previous": as_part(previous[1]) if previous else None,
        "members": [],
    }
    size = " x ".join(map(str, plan.patch_size))
    metadata: dict[str, Any] = {
        "data": data_record(data, config.data),
        "options": {"scoring": to_dict(config.scoring)},
        "classes": [name for name, _ in labels.targets],
        "input": f"image or volume of {len(data.channels)} channel(s): {', '.join(data.channels)}; patches of {size}",
        "output": f"label map, {dict(zip(labels.names, labels.values, strict=True))}",
        # So that nobody is asked about cases that they learned from.
        "learned_from": {fold.name: [data.cases[i].name for i in fold.train] for fold in data.folds},
    }
    if config.objective == "segment" and config.postprocess and not labels.instances:
        segmenter = Segmenter(settings, networks, metadata, previous[0].segmenter if previous else None)
        settings["postprocessing"], metadata["postprocessing"] = _choose_postprocessing(
            config, segmenter, data
        )
    tensors = named_tensors(networks)
    if previous:
        tensors |= {PREVIOUS + name: tensor for name, tensor in previous[1].tensors().items()}
    return Packaged(settings, tensors, metadata)


def _without_files(model: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a network without the file of its first weights, which its own have replaced."""
    return {**model, "encoder_weights": None} if "encoder_weights" in model else model


def as_part(package: Package) -> dict[str, Any]:
    """Returns a package's configuration as a part of another's, which has no place for the part's metadata."""
    return {**package.config, "learned_from": package.metadata.get("learned_from", {})}


def named_tensors(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Returns the weights of all networks, with the fold's name in front."""
    return {
        f"{fold}.{name}": tensor
        for fold, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def _choose_postprocessing(
    config: SegmentationConfig, segmenter: Segmenter, data: SegmentationData
) -> tuple[dict[str, Any] | None, list[str]]:
    apply_options(segmenter, config.scoring)
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for fold in data.folds:
        for position in fold.validation:
            voxels = data.read(data.cases[position])
            assert voxels.labels is not None
            found = segmenter.segment(voxels, data.cases[position].name, folds=[fold.name])
            pairs.append((found.labels, voxels.labels))
    if not pairs:
        return None, []
    chosen, why = choose_postprocessing(pairs, segmenter.labels)
    return to_dict(chosen), why


def load_segmenter(package: Package) -> Segmenter:
    """Rebuilds a trained model, with its members and the coarser model of a cascade.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    return _load(package, package.config, "")


def load_networks(
    package: Package, settings: dict[str, Any] | None = None, prefix: str = ""
) -> dict[str, nn.Module]:
    """Returns the trained networks of a package, one a fold, in evaluation mode."""
    settings = settings or package.config
    plan = Plan.from_dict(settings["plan"])
    model = MODELS[settings["model"]["name"]](**settings["model"])
    channels = len(settings["channels"])
    outputs = channels if settings["objective"] == "masked" else Labels.from_dict(settings["labels"]).outputs

    def empty() -> nn.Module:
        return build_network(model, plan, channels + plan.previous_classes, outputs)

    return {name: package.load_into(empty(), f"{prefix}{name}.") for name in settings["folds"]}


def _load(package: Package, settings: dict[str, Any], prefix: str) -> Segmenter:
    members = [_load(package, member, f"{prefix}{i}.") for i, member in enumerate(settings["members"])]
    if members:
        return Segmenter(settings, {}, package.metadata, members=members)
    previous = _load(package, settings["previous"], prefix + PREVIOUS) if settings["previous"] else None
    known = settings.get("learned_from", package.metadata.get("learned_from", {}))
    metadata = {**package.metadata, "learned_from": known}
    return Segmenter(settings, load_networks(package, settings, prefix), metadata, previous)


def first_weights(package: Package, part: str, labels: Labels) -> dict[str, Tensor]:
    """Returns trained weights to start from, of the network of a fold, or else of the first.

    Those of the outputs are put into the order of the data's classes or regions; they are left out unless the model
    knows all of these. A network that was pre-trained without labels gives them as they are.
    """
    state = network_of(load_networks(package), part).state_dict()
    if package.config["objective"] == "masked":
        return state
    by_class = [name for name in state if name.startswith(OUTPUTS)]
    known = Labels.from_dict(package.config["labels"])
    if known.regions:
        labels = labels.binary()
    return for_classes(state, by_class, known.output_names, labels.output_names)
