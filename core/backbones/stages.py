"""Stages whose blocks keep the shape, between layers that change it: the plan of ConvNeXt and its relatives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from core.backbones.spec import Spec
from core.errors import ConfigError
from core.residual.blocks.spec import BlockSpec
from core.residual.drop import drop_path_rates


def level_specs(
    spec: Spec, widths: Sequence[int], counts: Sequence[int], blocks_per_rate: int = 1
) -> list[list[BlockSpec]]:
    """Returns the spec of every block, each with its place in the whole network.

    The layers between the stages end what a residual rule keeps, so that every stage begins a new history.

    Args:
        spec: The backbone's.
        widths: Channels of each stage.
        counts: Residual blocks of each stage.
        blocks_per_rate: Blocks in a row that share one drop path rate.

    Raises:
        ConfigError: The two have not the same length, or a number is below 1.
    """
    if not counts or len(widths) != len(counts) or min(*widths, *counts) < 1:
        raise ConfigError(
            f"each stage needs a width and a number of blocks, 1 or more, not widths {tuple(widths)} and "
            f"blocks {tuple(counts)}"
        )
    depth = sum(counts)
    rates = drop_path_rates(spec.drop_path, -(-depth // blocks_per_rate))
    indices = iter(range(depth))
    return [
        [
            spec.block_spec(
                width, width, drop_path=rates[index // blocks_per_rate], index=index + 1, depth=depth
            )
            for index in islice(indices, count)
        ]
        for width, count in zip(widths, counts, strict=True)
    ]
