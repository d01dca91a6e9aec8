"""One configuration of a plan: all that preprocessing, network, training and inference need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Intensities:
    """Statistics of a channel inside the labelled classes, which CT is normalised by."""

    mean: float
    std: float
    low: float
    """0.5th percentile."""
    high: float
    """99.5th percentile."""


@dataclass(frozen=True)
class Plan:
    """A configuration.

    Axes are those after ``transpose``; a 2-D configuration works on slices along the first of them, and its
    ``spacing``, ``patch_size``, ``strides`` and ``kernels`` have two entries.

    Attributes:
        configuration: ``2d``, ``3d_fullres``, ``3d_lowres`` or ``3d_cascade_fullres``.
        preset: Who planned it.
        transpose: Axis of the file that becomes each axis.
        spacing: Spacing to work at, mm.
        patch_size: Voxels.
        batch_size: Patches.
        median_shape: Of the cases at this spacing, voxels.
        normalisation: Scheme of each channel: ct, zscore, rescale_to_0_1, rgb_to_0_1, none or clahe.
        masked_normalisation: Whether each channel is normalised by what is not zero alone.
        intensities: Of each channel.
        strides: Of each stage of the network; the first is all 1.
        kernels: Of each stage.
        widths: Channels of each stage.
        blocks: Residual blocks of each stage, for residual encoders; convolutions for plain ones.
        decoder_convs: Convolutions of each stage of the decoder, from the finest.
        residual: Whether the encoder is residual.
        batch_dice: Whether the Dice loss is of the whole batch.
        resample: Whether cases are brought to ``spacing``; images are not.
        crop: Whether cases are cropped to what is not zero.
        previous_classes: Classes of a coarser model whose output is read too; 0 for none.
        why: One line for each choice.
    """

    configuration: str
    preset: str
    transpose: tuple[int, int, int]
    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    median_shape: tuple[float, ...]
    normalisation: tuple[str, ...]
    masked_normalisation: tuple[bool, ...]
    intensities: tuple[Intensities, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    residual: bool
    batch_dice: bool
    resample: bool = True
    crop: bool = True
    previous_classes: int = 0
    why: tuple[str, ...] = field(default=(), compare=False)

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.patch_size)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Plan:
        """Returns what :meth:`to_dict` gave, after JSON too."""
        values = {f.name: stored[f.name] for f in fields(Plan) if f.name in stored}
        values["intensities"] = tuple(Intensities(**each) for each in stored["intensities"])
        return Plan(**{name: tuples(value) for name, value in values.items()})


def tuples(value: Any) -> Any:
    """Returns a value with tuples for lists, as it was before JSON."""
    return tuple(tuples(each) for each in value) if isinstance(value, list | tuple) else value
