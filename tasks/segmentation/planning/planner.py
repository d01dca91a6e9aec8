"""All configurations of a data set, from its fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.segmentation.planning.configure import Planner
from tasks.segmentation.planning.fingerprint import Fingerprint
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.planning.presets import PRESETS


@dataclass
class Plans:
    """All configurations of a data set.

    Attributes:
        name: Of the data set.
        preset: Who planned it; for files of other planners the name of nnU-Net's class.
        plans_name: Of the file, without ``.json``.
        planner_name: nnU-Net's class.
        reader: nnU-Net's class that reads the images.
        transpose: Axis of the file that becomes each axis.
        median_spacing: Of the cases as they are, mm, after ``transpose``.
        median_shape: The same, voxels.
        intensities: Of each channel, statistics as in the fingerprint.
        configurations: By name, from ``2d`` on.
        identifiers: Names under which nnU-Net keeps the preprocessed data of each configuration.
        why: One line for each choice.
    """

    name: str
    preset: str
    plans_name: str
    planner_name: str
    reader: str
    transpose: tuple[int, int, int]
    median_spacing: tuple[float, ...]
    median_shape: tuple[int, ...]
    intensities: list[dict[str, float]]
    configurations: dict[str, Plan]
    identifiers: dict[str, str]
    why: list[str] = field(default_factory=list)


def make_plans(
    fingerprint: Fingerprint,
    labels_count: int,
    channels: Sequence[str],
    preset: str,
    memory: float | None = None,
    *,
    name: str = "dataset",
    training_cases: int | None = None,
    spacing: Sequence[float] | None = None,
    normalisation: Sequence[str] | None = None,
    reader: str = "SimpleITKIO",
) -> Plans:
    """Plans all configurations of a data set; see :class:`Planner` for the arguments.

    Args:
        fingerprint: Of the training cases.
        labels_count: Classes with the background and the label that is ignored.
        channels: Names of the channels.
        preset: Name of one of :data:`PRESETS`.
        memory: GPU memory, GB.
        name: Of the data set.
        training_cases: By default those of the fingerprint.
        spacing: Of full resolution, mm.
        normalisation: Schemes.
        reader: nnU-Net's class that reads such images.
    """
    rules = PRESETS[preset]
    planner = Planner(
        fingerprint,
        labels_count,
        channels,
        rules,
        memory,
        training_cases=training_cases,
        spacing=spacing,
        normalisation=normalisation,
    )
    configurations = planner.configurations()
    plans_name = rules.plans_name
    if planner.memory != rules.gigabytes:
        # 16G, 0.5G and 1000000G: no exponents, which nnU-Net's names do not have.
        plans_name += f"_{np.format_float_positional(planner.memory, trim='-')}G"
    # Data preprocessed for the first planner serve the residual ones too, unless the resolution is another.
    shares = rules.residual and spacing is None and normalisation is None
    axes = list(planner.transpose)
    spacings = np.median(np.array(fingerprint.spacings, float), 0)[axes]
    shapes = np.median(np.array(fingerprint.shapes), 0)[axes]
    return Plans(
        name=name,
        preset=preset,
        plans_name=plans_name,
        planner_name=rules.planner_name,
        reader=reader,
        transpose=planner.transpose,
        median_spacing=tuple(spacings.tolist()),
        median_shape=tuple(round(size) for size in shapes.tolist()),
        intensities=fingerprint.intensities,
        configurations=configurations,
        identifiers={
            each: f"{'nnUNetPlans' if shares and each in ('2d', '3d_fullres') else plans_name}_{each}"
            for each in configurations
        },
        why=[
            *planner.why,
            *(f"{each}: {line}" for each, plan in configurations.items() for line in plan.why),
        ],
    )
