"""Patch, topology and batch of each configuration: nnU-Net's rules, nothing but arithmetic.

Isensee et al., Nature Methods 2021; residual encoders: arXiv:2404.09556. The numbers are nnU-Net v2's to the digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from core.errors import ConfigError
from tasks.segmentation.planning.fingerprint import Fingerprint, normalising
from tasks.segmentation.planning.memory import feature_map_size
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.planning.presets import Preset
from tasks.segmentation.planning.schemes import masked, schemes_of
from tasks.segmentation.planning.spacing import median_shape, target_spacing
from tasks.segmentation.planning.topology import AXES, Topology, explain, pool_and_kernels, times

LOWRES_BELOW = 0.25
"""Share of the median case in a patch, below which a coarser configuration is planned."""
LOWRES_STEP = 1.03
"""Factor by which its spacing is made coarser, until a patch sees enough."""
MIN_BATCH = 2


class Planner:
    """Plans configurations of one data set for one preset.

    Args:
        fingerprint: Of the training cases.
        labels_count: Classes (or regions) with the background and the label that is ignored.
        channels: Names of the channels.
        preset: Rules.
        memory: GPU memory to plan for, GB; by default the preset's.
        training_cases: By default those of the fingerprint.
        spacing: Spacing of full resolution, mm, first axis of the files first; by default the rule's.
        normalisation: Scheme of each channel, or one for all; by default by their names.
        tell_stages: Whether to say why there are so many stages; not for networks that have their own.

    Raises:
        ConfigError: A scheme of normalisation is unknown, or the spacing leaves nothing of a case.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        labels_count: int,
        channels: Sequence[str],
        preset: Preset,
        memory: float | None = None,
        *,
        training_cases: int | None = None,
        spacing: Sequence[float] | None = None,
        normalisation: Sequence[str] | None = None,
        tell_stages: bool = True,
    ) -> None:
        self.fingerprint, self.labels_count, self.preset = fingerprint, labels_count, preset
        self.memory, self.tell_stages = memory or preset.gigabytes, tell_stages
        self.cases = training_cases or len(fingerprint.shapes)
        self.why: list[str] = []
        if spacing is None:
            target, why = target_spacing(fingerprint)
        else:
            target, why = np.array(spacing, float), f"spacing {times(spacing)} mm: as asked for"
        self.why.append(why)
        coarsest = int(np.argmax(target))
        order = [coarsest, *(axis for axis in range(3) if axis != coarsest)]
        self.transpose = (order[0], order[1], order[2])
        if coarsest:
            names = " ".join(AXES[axis] for axis in order)
            self.why.append(
                f"axes in the order {names}: {AXES[coarsest]} has the largest spacing and goes first"
            )
        self.spacing = target[order]
        self.shape = median_shape(fingerprint, target)[order]
        self._check_size(self.spacing, self.shape)
        self.why.append(f"median case {times(self.shape.tolist())} voxels at this spacing")
        self._normalise(channels, normalisation)

    def _normalise(self, channels: Sequence[str], chosen: Sequence[str] | None) -> None:
        known = self.fingerprint.intensities
        schemes = list(schemes_of(channels, chosen))
        for i, scheme in enumerate(schemes):
            reason = "as asked for" if chosen else f"the channel is named {channels[i]}"
            if scheme == "ct" and not known[i]:
                schemes[i] = "zscore"
                reason += ", but ct needs labelled voxels, and there are none"
            self.why.append(f"normalisation of channel {i}: {schemes[i]}: {reason}")
        self.schemes = tuple(schemes)
        share = self.fingerprint.relative_size
        self.masked = tuple(masked(scheme, share) for scheme in schemes)
        if any(self.masked):
            self.why.append(f"zero is left out of the z-score: without it {share:.0%} of a case are left")
        self.intensities = normalising(known)

    def _check_size(self, spacing: np.ndarray, shape: np.ndarray) -> None:
        """Raises ``ConfigError`` where a median case of ``(3,)`` voxels, after the transposition, has none left."""
        if shape.min() < 1:
            axes = [self.transpose.index(axis) for axis in range(int(self.fingerprint.flat), 3)]
            raise ConfigError(
                f"--plan.spacing {times(spacing[axes].tolist())} mm: the median case would have "
                f"{times(shape[axes].tolist())} voxels; make it finer"
            )

    def reference(self, dims: int) -> float:
        """Returns the estimate that fills the memory."""
        per_preset = self.preset.reference_2d if dims == 2 else self.preset.reference_3d
        return per_preset * (self.memory / self.preset.gigabytes)

    def estimate(self, topology: Topology) -> int:
        """Returns the values that the network computes for one patch."""
        stages, dims = len(topology.strides), len(topology.patch_size)
        return feature_map_size(
            topology.patch_size,
            topology.strides,
            self.preset.stage_widths(stages, dims),
            self.preset.stage_blocks(stages),
            (self.preset.decoder_convs,) * (stages - 1),
            self.labels_count,
            residual=self.preset.residual,
        )

    def configuration(
        self,
        name: str,
        spacing: Sequence[float],
        shape: Sequence[float],
        *,
        batch_dice: bool = False,
        voxels: float | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Plan:
        """Plans patch, topology and batch.

        Args:
            name: Of the configuration.
            spacing: mm, after the transposition; two entries for images.
            shape: Median case at that spacing, voxels.
            batch_dice: Whether the Dice loss is of the whole batch.
            voxels: Of all training cases together; by default at full resolution, for ``2d`` too.
            patch_size: Patch that is wanted; padded to multiples of the strides.
        """
        dims = len(spacing)
        why: list[str] = []
        if patch_size is None:
            topology = self._fit(spacing, shape, why)
        else:
            topology = pool_and_kernels(spacing, patch_size)
            fits = topology.patch_size == tuple(patch_size)
            padded = "" if fits else ", padded to multiples of the strides"
            why.append(f"patch {times(topology.patch_size)}: as asked for{padded}")
        if self.tell_stages:
            why += explain(topology, [AXES[axis] for axis in self.transpose][-dims:])
        batch = self._batch(topology, voxels or float(np.prod(self.shape)) * self.cases, why)
        stages = len(topology.strides)
        return Plan(
            configuration=name,
            preset=self.preset.name,
            transpose=self.transpose,
            spacing=tuple(spacing),
            patch_size=topology.patch_size,
            batch_size=batch,
            median_shape=tuple(shape),
            normalisation=self.schemes,
            masked_normalisation=self.masked,
            intensities=self.intensities,
            strides=topology.strides,
            kernels=topology.kernels,
            widths=self.preset.stage_widths(stages, dims),
            blocks=self.preset.stage_blocks(stages),
            decoder_convs=(self.preset.decoder_convs,) * (stages - 1),
            residual=self.preset.residual,
            batch_dice=batch_dice,
            why=tuple(why),
        )

    def _fit(self, spacing: Sequence[float], shape: Sequence[float], why: list[str]) -> Topology:
        """Starts with the median case and takes from the axis that is largest beside it until the memory holds it."""
        dims = len(spacing)
        aspect = 1 / np.array(spacing)
        side = 2048 if dims == 2 else 256
        wanted = [round(edge) for edge in aspect * (side**dims / np.prod(aspect)) ** (1 / dims)]
        first = [min(edge, size) for edge, size in zip(wanted, shape, strict=True)]
        topology = start = pool_and_kernels(spacing, first)
        batch = self.preset.batch_2d if dims == 2 else self.preset.batch_3d
        allowed = self.reference(dims) * (batch / MIN_BATCH if self.preset.grows else 1)
        while self.estimate(topology) > allowed:
            patch = list(topology.patch_size)
            _, axis = max((edge / size, i) for i, (edge, size) in enumerate(zip(patch, shape, strict=True)))
            # One multiple less can have fewer stages, and so finer multiples: 256 goes to 224, not to 192.
            less = [edge - topology.divisor[i] * (i == axis) for i, edge in enumerate(patch)]
            patch[axis] -= pool_and_kernels(spacing, less).divisor[axis]
            topology = pool_and_kernels(spacing, patch)
        if topology is not start and len(topology.strides) == 1:
            raise ConfigError(
                f"--plan.memory {self.memory:g}: with the preset {self.preset.name}, only patches that are too small "
                "to halve fit; more memory is needed"
            )
        limit = (
            "median case" if list(first) == list(shape) else "largest patch of this aspect and median case"
        )
        reason = f"{times(first)} ({limit}) in multiples of the strides"
        if topology is not start:
            each = "two patches fit" if self.preset.grows or dims == 3 else f"a batch of {batch} fits"
            reason = f"reduced from {times(start.patch_size)} until {each} {self.memory:g} GB"
        why.append(f"patch {times(topology.patch_size)}: {reason}")
        return topology

    def _batch(self, topology: Topology, voxels: float, why: list[str]) -> int:
        dims = len(topology.patch_size)
        per_reference = self.preset.batch_2d if dims == 2 else self.preset.batch_3d
        estimate, reference = self.estimate(topology), self.reference(dims)
        batch = round(reference / estimate * per_reference)
        covered = round(voxels * self.preset.max_covered / math.prod(topology.patch_size))
        reason = f"so many fit {self.memory:g} GB (estimate {estimate:.4g} of {reference:.4g})"
        if covered < batch:
            share = f"no more than {self.preset.max_covered:.0%} of the voxels of all cases"
            reason = "as many voxels as all cases have" if self.preset.max_covered == 1 else share
            batch = covered
        if self.preset.max_batch is not None and batch > self.preset.max_batch:
            batch, reason = self.preset.max_batch, "the most that is planned"
        if batch < MIN_BATCH:
            reason = f"the smallest; the rule gave {batch}: {reason}"
        why.append(f"batch {max(batch, MIN_BATCH)}: {reason}")
        return max(batch, MIN_BATCH)

    def flat(self, *, patch_size: Sequence[int] | None = None) -> Plan:
        """Plans ``2d``."""
        return self.configuration(
            "2d", self.spacing.tolist()[1:], self.shape.tolist()[1:], batch_dice=True, patch_size=patch_size
        )

    def full(self, *, batch_dice: bool = False, patch_size: Sequence[int] | None = None) -> Plan:
        """Plans ``3d_fullres``."""
        return self.configuration(
            "3d_fullres",
            self.spacing.tolist(),
            self.shape.tolist(),
            batch_dice=batch_dice,
            patch_size=patch_size,
        )

    def coarse_at(self, spacing: np.ndarray, *, patch_size: Sequence[int] | None = None) -> Plan:
        """Plans ``3d_lowres`` at a spacing of ``(3,)`` mm, after the transposition."""
        sizes = self.spacing / spacing * self.shape
        self._check_size(spacing, sizes.round())
        return self.configuration(
            "3d_lowres",
            spacing.tolist(),
            [round(size) for size in sizes.tolist()],
            voxels=float(np.prod(sizes)) * self.cases,
            patch_size=patch_size,
        )

    def coarse(self, full: Plan) -> tuple[Plan | None, str]:
        """Plans ``3d_lowres``, if patches at full resolution see little of a case; returns why or why not."""
        spacing = self.spacing.copy()
        whole = voxels = float(np.prod(self.shape))
        seen, plan = math.prod(full.patch_size), None
        while seen / voxels < LOWRES_BELOW:
            behind = spacing.max() / spacing > 2
            spacing[behind if behind.any() else slice(None)] *= LOWRES_STEP
            voxels = float(np.prod(self.spacing / spacing * self.shape))
            plan = self.coarse_at(spacing)
            seen = math.prod(plan.patch_size)
        share = f"a patch of 3d_fullres holds {math.prod(full.patch_size) / whole:.0%} of the median case"
        if plan is None:
            return None, f"no 3d_lowres: {share}"
        if whole / voxels < 2:
            return (
                None,
                f"no 3d_lowres: {share}, but it would have {voxels / whole:.0%} of the voxels, which is near",
            )
        why = (
            f"spacing {times(plan.spacing)} mm: {share}; made coarser until a patch holds {LOWRES_BELOW:.0%}"
        )
        return replace(plan, why=(why, *plan.why)), f"3d_lowres with cascade: {share}"

    def configurations(self) -> dict[str, Plan]:
        """Plans all configurations, from ``2d`` on, and notes why."""
        plans = {"2d": self.flat()}
        if self.shape[0] == 1:
            self.why.append("2d alone: a case has one slice")
            return plans
        full = self.full()
        coarse, why = self.coarse(full)
        self.why.append(why)
        if coarse is None:
            return {**plans, "3d_fullres": full}
        # The cascade refines what the coarse network found in the whole case, so small classes are scored over
        # all patches of a batch.
        full = replace(full, batch_dice=True)
        cascade = replace(
            full, configuration="3d_cascade_fullres", why=("3d_fullres on the output of 3d_lowres",)
        )
        return {**plans, "3d_lowres": coarse, "3d_fullres": full, "3d_cascade_fullres": cascade}
