"""The planners of nnU-Net as data, and one for two CPU cores.

References are the memory estimates (:mod:`tasks.segmentation.planning.memory`) that were found to fill a GPU;
nnU-Net v2 (Isensee et al., Nature Methods 2021; residual encoders: arXiv:2404.09556).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from core.registry import Registry


@dataclass(frozen=True)
class Preset:
    """Rules of a planner.

    Attributes:
        name: As the user writes it.
        plans_name: Of its file, without ``.json``.
        planner_name: nnU-Net's class, which its file names.
        residual: Whether the encoder is residual.
        reference_3d: Estimate of a network on one patch that fills ``gigabytes`` with ``batch_3d`` patches.
        reference_2d: The same for images, with ``batch_2d``.
        gigabytes: Memory that belongs to the references.
        max_covered: Largest share of the voxels of all cases in one batch.
        grows: Whether a patch may grow until two of them fill the memory, and not ``batch_2d`` or ``batch_3d``.
        base_width: Channels of the first stage.
        blocks: Residual blocks of each stage, or convolutions for plain encoders; the last entry goes on.
        decoder_convs: Convolutions of each stage of the decoder.
        max_width_3d: Most channels in volumes.
        max_width_2d: Most channels in images.
        batch_3d: Patches that the reference is for.
        batch_2d: The same for images.
        max_batch: Largest batch; ``None`` for any.
    """

    name: str
    plans_name: str
    planner_name: str
    residual: bool
    reference_3d: float
    reference_2d: float
    gigabytes: float
    max_covered: float
    grows: bool = False
    base_width: int = 32
    blocks: tuple[int, ...] = (1, 3, 4, 6)
    decoder_convs: int = 1
    max_width_3d: int = 320
    max_width_2d: int = 512
    batch_3d: int = 2
    batch_2d: int = 12
    max_batch: int | None = None

    def with_encoder(self, residual: bool) -> Preset:
        """Returns the same for a residual or a plain encoder of nnU-Net, where this one's is the other."""
        if residual == self.residual:
            return self
        return replace(
            self,
            residual=residual,
            blocks=(1, 3, 4, 6) if residual else (2,),
            decoder_convs=1 if residual else 2,
        )

    def stage_blocks(self, stages: int) -> tuple[int, ...]:
        """Returns the blocks of each of so many stages."""
        return tuple(self.blocks[min(stage, len(self.blocks) - 1)] for stage in range(stages))

    def stage_widths(self, stages: int, dims: int) -> tuple[int, ...]:
        """Returns the channels of each stage, doubled from stage to stage up to the largest."""
        largest = self.max_width_2d if dims == 2 else self.max_width_3d
        return tuple(min(self.base_width * 2**stage, largest) for stage in range(stages))


PRESETS: Registry[Preset] = Registry("planner preset")


def _enter(preset: Preset) -> None:
    enter: Callable[[Preset], Preset] = PRESETS.register(preset.name)
    enter(preset)


# A step of the cpu preset takes about two CPU-seconds: four patches of 40 x 56 x 40 voxels, or eight of 192 x 192.
_enter(
    Preset(
        name="cpu",
        plans_name="skipwayCPUPlans",
        # nnU-Net looks for this class by its name; the rules are those of its residual encoders.
        planner_name="ResEncUNetPlanner",
        residual=True,
        reference_3d=20e6,
        reference_2d=7.2e6,
        gigabytes=1,
        max_covered=1,
        base_width=16,
        blocks=(1, 2, 2, 2),
        max_width_3d=128,
        max_width_2d=128,
        batch_2d=8,
        max_batch=8,
    )
)
_enter(
    Preset(
        "default",
        "nnUNetPlans",
        "ExperimentPlanner",
        residual=False,
        reference_3d=560e6,
        reference_2d=85e6,
        gigabytes=8,
        max_covered=0.05,
        grows=True,
        blocks=(2,),
        decoder_convs=2,
    )
)
_enter(
    Preset(
        "resenc",
        "nnUNetResEncUNetPlans",
        "ResEncUNetPlanner",
        residual=True,
        reference_3d=680e6,
        reference_2d=135e6,
        gigabytes=8,
        max_covered=0.05,
    )
)
_enter(Preset("resenc_m", "nnUNetResEncUNetMPlans", "nnUNetPlannerResEncM", True, 680e6, 135e6, 8, 1))
_enter(Preset("resenc_l", "nnUNetResEncUNetLPlans", "nnUNetPlannerResEncL", True, 2.1e9, 380e6, 24, 1))
_enter(Preset("resenc_xl", "nnUNetResEncUNetXLPlans", "nnUNetPlannerResEncXL", True, 3.6e9, 560e6, 40, 1))
