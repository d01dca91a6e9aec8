"""How much memory a network needs, in closed form: no network is built."""

from __future__ import annotations

import math
from collections.abc import Sequence


def feature_map_size(
    patch_size: Sequence[int],
    strides: Sequence[Sequence[int]],
    widths: Sequence[int],
    blocks: Sequence[int],
    decoder_convs: Sequence[int],
    labels: int,
    *,
    residual: bool,
    deep_supervision: bool = False,
) -> int:
    """Counts the values that the convolutions of a U-Net put out for one patch, as nnU-Net's networks do.

    With ``V`` voxels and ``F`` channels of a stage, an encoder's stage counts ``blocks F V``; a residual one
    ``2 blocks F V``, and ``F V`` more for a shortcut that strides or changes channels, and its stem ``F V``. A
    stage of the decoder counts ``(1 + convolutions) F V``, an output ``labels V``.

    Args:
        patch_size: Voxels, multiples of the strides.
        strides: Of each stage.
        widths: Channels of each stage.
        blocks: Residual blocks, or convolutions, of each stage of the encoder.
        decoder_convs: Convolutions of each stage of the decoder, one entry fewer.
        labels: Channels of the output.
        residual: Whether the encoder is residual.
        deep_supervision: Whether all stages of the decoder have an output, or the finest alone.
    """
    size = list(patch_size)
    total, before = 0, widths[0]
    outputs = 0
    for stage, (stride, width, count) in enumerate(zip(strides, widths, blocks, strict=True)):
        size = [voxels // step for voxels, step in zip(size, stride, strict=True)]
        voxels = math.prod(size)
        values = width * voxels
        if residual:
            shortcut = max(stride) > 1 or width != before
            total += (2 * count + shortcut + (stage == 0)) * values
        else:
            total += count * values
        if stage < len(decoder_convs):
            total += (1 + decoder_convs[stage]) * values
            outputs += voxels if stage == 0 or deep_supervision else 0
        before = width
    return total + labels * outputs
