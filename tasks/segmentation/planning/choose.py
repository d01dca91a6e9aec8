"""The plan of one run: the planner's, changed by what the user asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError
from tasks.segmentation.config import FixedConfig, PlanConfig, PlannedConfig, ResEncConfig, SMPConfig
from tasks.segmentation.data.cases import FLAT, SegmentationData
from tasks.segmentation.labels import Labels
from tasks.segmentation.planning.configure import Planner
from tasks.segmentation.planning.fingerprint import Fingerprint, take_fingerprint
from tasks.segmentation.planning.nnunet_json import read_plans
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.planning.presets import PRESETS, Preset
from tasks.segmentation.planning.schemes import masked, schemes_of
from tasks.segmentation.planning.topology import times

CASCADE = "3d_cascade_fullres"
FIXED_BATCH = 32
"""Largest batch of networks that are not planned; R2U-Net's on vessels (arXiv:1802.06955)."""


def fingerprint_of(data: SegmentationData) -> Fingerprint:
    """Returns the fingerprint of the training cases; images are taken whole, since they are not cropped."""
    scans = [case.scan for case in data.training]
    if data.flat:
        scans = [
            replace(
                case.scan,
                shape=case.geometry.shape,
                spacing=(FLAT, case.scan.spacing[1], case.scan.spacing[2]),
                relative_size=1.0,
            )
            for case in data.training
        ]
    return take_fingerprint(scans, len(data.channels))


def count_labels(labels: Labels) -> int:
    """Returns how many labels nnU-Net counts: classes or regions, the background, and what is ignored."""
    classes = len(labels.regions) + 1 if labels.regions else len(labels.names)
    return classes + (labels.ignore is not None)


def choose_plan(
    data: SegmentationData, config: PlanConfig, model: Any, batch_size: int | None = None
) -> Plan:
    """Plans the configuration that is trained.

    Args:
        data: Cases.
        config: What the user asks for.
        model: Configuration of the network: one of ``MODELS``.
        batch_size: Patches in a batch; by default the planned number, up to ``config.max_batch``.

    Returns:
        The plan, which says why in ``why``.

    Raises:
        ConfigError: What is asked for does not fit the data, the network or itself.
        DataError: The plans file cannot be read.
    """
    name = _configuration(data, config, model)
    _check(config, 2 if name == "2d" else 3)
    plan = _from_file(data, config, model, name) if config.file else _planned(data, config, model, name)
    why = list(plan.why)
    if not isinstance(model, PlannedConfig):
        plan = _unplanned(plan, config, model, why)
    plan = _batch(plan, config, batch_size, why)
    if data.flat and not config.file:
        plan = replace(plan, crop=False)
    off = any(not np.allclose(case.scan.spacing[1:], plan.spacing[-2:]) for case in data.cases)
    plan = replace(plan, resample=not data.flat or off)
    if data.flat:
        why.append(f"images are {'resampled, since their spacings differ' if off else 'not resampled'}")
    return replace(plan, why=tuple(why))


def _configuration(data: SegmentationData, config: PlanConfig, model: Any) -> str:
    """Returns the name of the configuration, and checks that data, network and options allow it."""
    images_only = isinstance(model, SMPConfig)
    name = config.configuration
    if name == "auto":
        name = "2d" if data.flat or images_only else "3d_fullres"
    if name != "2d" and data.flat:
        raise ConfigError(
            f"--plan.configuration {name} needs volumes, and all cases of {data.name} are images; use 2d"
        )
    if name != "2d" and images_only:
        raise ConfigError(
            f"--plan.configuration {name}: the model smp is for images; use 2d, or another --model"
        )
    if name == CASCADE and not config.previous:
        raise ConfigError(f"--plan.configuration {name} needs --plan.previous, a trained model of 3d_lowres")
    if name != CASCADE and config.previous:
        raise ConfigError(f"--plan.previous is for --plan.configuration {CASCADE}, not {name}")
    return name


def _check(config: PlanConfig, dims: int) -> None:
    patch = config.patch_size
    if patch is not None and len(patch) != dims:
        raise ConfigError(
            f"--plan.patch_size has {len(patch)} entries; this configuration works in {dims} dimensions"
        )
    values: dict[str, Sequence[float | None]] = {
        "memory": [config.memory],
        "spacing": config.spacing or [],
        "patch_size": patch or [],
        "max_batch": [config.max_batch],
    }
    for option, given in values.items():
        if any(value is not None and not 0 < value < math.inf for value in given):
            raise ConfigError(f"--plan.{option} must be above 0, and finite")
    if config.file and config.spacing:
        raise ConfigError("--plan.spacing and --plan.file: the spacing is in the file; leave one of them off")
    if config.file and config.memory:
        raise ConfigError("--plan.memory and --plan.file: the file is planned already; leave one of them off")


def rules_for(preset: Preset, model: Any) -> Preset:
    """Returns the preset for a network: its encoder, widths and blocks, or a larger batch where it is not planned.

    Raises:
        ConfigError: A width or number of blocks is below 1.
    """
    if not isinstance(model, PlannedConfig):
        return replace(preset, max_batch=FIXED_BATCH)
    preset = preset.with_encoder(isinstance(model, ResEncConfig))
    blocks = model.blocks if isinstance(model, ResEncConfig) else None
    numbers: dict[str, Sequence[int | None]] = {
        "base_width": [model.base_width],
        "max_width": [model.max_width],
        "blocks": [None] if blocks is None else blocks,
    }
    for option, values in numbers.items():
        if not values or any(value is not None and value < 1 for value in values):
            raise ConfigError(f"--model.{option} takes numbers from 1 on")
    return replace(
        preset,
        base_width=model.base_width or preset.base_width,
        max_width_3d=model.max_width or preset.max_width_3d,
        max_width_2d=model.max_width or preset.max_width_2d,
        blocks=tuple(blocks) if blocks else preset.blocks,
    )


def _planned(data: SegmentationData, config: PlanConfig, model: Any, name: str) -> Plan:
    spacing = asked_spacing(config.spacing, data.flat)
    planner = Planner(
        fingerprint_of(data),
        count_labels(data.labels),
        data.channels,
        rules_for(PRESETS[config.preset], model),
        config.memory,
        spacing=None if name == "3d_lowres" else spacing,
        normalisation=config.normalisation,
        tell_stages=isinstance(model, PlannedConfig),
    )
    patch = config.patch_size
    if name == "2d":
        plan = planner.flat(patch_size=patch)
    elif name == "3d_lowres" and spacing is not None:
        plan = planner.coarse_at(np.array(spacing)[list(planner.transpose)], patch_size=patch)
        plan = replace(plan, why=(f"spacing {times(plan.spacing)} mm: as asked for", *plan.why))
    else:
        plan = _volume(planner, name, patch)
    planned = isinstance(model, PlannedConfig)
    network = f"; channels {plan.widths}, blocks {plan.blocks}" if planned else ""
    return replace(plan, why=(f"{name} by the preset {config.preset}{network}", *planner.why, *plan.why))


def _volume(planner: Planner, name: str, patch: Sequence[int] | None) -> Plan:
    plans = planner.configurations()
    if "3d_fullres" not in plans:
        raise ConfigError("most cases have a single slice; use --plan.configuration 2d")
    if name == CASCADE:
        plan = replace(planner.full(batch_dice=True, patch_size=patch), configuration=name)
        return replace(plan, why=(*plan.why, "as 3d_fullres, on the output of 3d_lowres"))
    if name not in plans:
        raise ConfigError(
            f"--plan.configuration {name}: the planner has {planner.why[-1]}; use 3d_fullres, or give --plan.spacing"
        )
    plan = plans[name]
    if patch is None:
        return plan
    if name == "3d_lowres":
        return planner.coarse_at(np.array(plan.spacing), patch_size=patch)
    return planner.full(batch_dice=plan.batch_dice, patch_size=patch)


def asked_spacing(spacing: Sequence[float] | None, flat: bool) -> list[float] | None:
    """Returns the spacing that is asked for, mm, with three entries.

    Raises:
        ConfigError: It has another number of entries than the data have axes.
    """
    if spacing is None:
        return None
    if len(spacing) == 2 and flat:
        return [FLAT, *spacing]
    if len(spacing) != 3:
        wanted = "2 for images" if flat else "3, first axis of the files first"
        raise ConfigError(f"--plan.spacing has {len(spacing)} entries; it takes {wanted}")
    return [FLAT, *spacing[1:]] if flat else list(spacing)


def _from_file(data: SegmentationData, config: PlanConfig, model: Any, name: str) -> Plan:
    plans = read_plans(Path(str(config.file)))
    if name not in plans.configurations:
        raise ConfigError(
            f"{config.file} has no configuration {name}; it has {', '.join(plans.configurations)}"
        )
    plan = plans.configurations[name]
    if len(plan.normalisation) != len(data.channels):
        raise ConfigError(
            f"{config.file} is for {len(plan.normalisation)} channels, and {data.name} has {len(data.channels)}"
        )
    why = list(plan.why)
    if config.normalisation:
        schemes = schemes_of(data.channels, config.normalisation)
        share = fingerprint_of(data).relative_size
        plan = replace(
            plan, normalisation=schemes, masked_normalisation=tuple(masked(s, share) for s in schemes)
        )
        why.append(f"normalisation {', '.join(schemes)}: as asked for")
    if config.patch_size:
        total = [math.prod(steps) for steps in zip(*plan.strides, strict=True)]
        patch = tuple(math.ceil(n / step) * step for n, step in zip(config.patch_size, total, strict=True))
        why.append(f"patch {times(patch)}: as asked for, in multiples of the strides of the file")
        plan = replace(plan, patch_size=patch)
    if isinstance(model, PlannedConfig):
        plan = _network(plan, model, why)
    return replace(plan, why=tuple(why))


def _network(plan: Plan, model: PlannedConfig, why: list[str]) -> Plan:
    """Puts the model's encoder, widths and blocks in place of the file's, where they are asked for."""
    stages, residual = len(plan.strides), isinstance(model, ResEncConfig)
    rules = rules_for(PRESETS["resenc" if residual else "default"], model)
    if residual != plan.residual:
        why.append(
            f"the encoder is {'residual' if residual else 'plain'} as the model {model.name}, not as in the file"
        )
        convs = (rules.decoder_convs,) * (stages - 1)
        plan = replace(plan, residual=residual, blocks=rules.stage_blocks(stages), decoder_convs=convs)
    if isinstance(model, ResEncConfig) and model.blocks:
        why.append(f"blocks {_words(rules.stage_blocks(stages))}: as asked for")
        plan = replace(plan, blocks=rules.stage_blocks(stages))
    if model.base_width or model.max_width:
        widths = replace(
            rules,
            base_width=model.base_width or plan.widths[0],
            max_width_2d=model.max_width or rules.max_width_2d,
            max_width_3d=model.max_width or rules.max_width_3d,
        ).stage_widths(stages, plan.dims)
        why.append(f"channels {_words(widths)}: as asked for")
        plan = replace(plan, widths=widths)
    return plan


def _unplanned(plan: Plan, config: PlanConfig, model: Any, why: list[str]) -> Plan:
    """Fits the patch to a network whose depth is fixed."""
    if config.patch_size:
        # Such networks pad inside, so what is asked for need not be a multiple of anything.
        _say(why, "patch", f"patch {times(config.patch_size)}: as asked for")
        return replace(plan, patch_size=tuple(config.patch_size))
    multiple = 16 if isinstance(model, FixedConfig) else 32
    patch = tuple(math.ceil(n / multiple) * multiple for n in plan.patch_size)
    if patch != plan.patch_size:
        why.append(f"patch {times(patch)}: {model.name} takes multiples of {multiple}")
    return replace(plan, patch_size=patch)


def _batch(plan: Plan, config: PlanConfig, asked: int | None, why: list[str]) -> Plan:
    planned = min(plan.batch_size, config.max_batch)
    if asked is not None:
        _say(why, "batch", f"batch {asked}: as asked (planned: {planned})")
    elif plan.batch_size > planned:
        why.append(
            f"batch {plan.batch_size} is capped at {planned}: so many patches make a step slow; "
            f"--plan.max_batch {plan.batch_size} allows it"
        )
    return replace(plan, batch_size=asked or planned)


def _say(why: list[str], subject: str, line: str) -> None:
    """Puts a line in place of the one that the planner wrote about the same."""
    why[:] = [*(each for each in why if not each.startswith(f"{subject} ")), line]


def _words(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
