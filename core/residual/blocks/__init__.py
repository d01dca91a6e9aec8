"""The table of residual blocks: one file and one line a block."""

from __future__ import annotations

from typing import Any

from core.registry import Registry, check_options, keyword_options
from core.residual.blocks.basic import BasicBlock
from core.residual.blocks.block import Block
from core.residual.blocks.bottleneck import Bottleneck
from core.residual.blocks.cspnext import CSPNeXtBlock
from core.residual.blocks.fixup import FixupBlock, FixupBottleneck
from core.residual.blocks.inverted import InvertedResidual
from core.residual.blocks.p3d import P3DBlock
from core.residual.blocks.preact import PreActBlock, PreActBottleneck
from core.residual.blocks.pyramid import PyramidBlock, PyramidBottleneck
from core.residual.blocks.recurrent import RecurrentBlock
from core.residual.blocks.replk import ConvFFN, RepLKBlock
from core.residual.blocks.res2net import Res2Block
from core.residual.blocks.resnest import ResNestBlock
from core.residual.blocks.spec import BlockSpec
from core.residual.blocks.tcn import TCNBlock
from core.residual.blocks.unireplk import UniRepLKBlock

__all__ = ["BLOCKS", "Block", "BlockSpec", "create_block", "list_blocks"]

BLOCKS: Registry[type[Block]] = Registry("residual block")

BLOCKS.register("basic")(BasicBlock)
BLOCKS.register("bottleneck")(Bottleneck)
BLOCKS.register("preact")(PreActBlock)
BLOCKS.register("preact_bottleneck")(PreActBottleneck)
BLOCKS.register("pyramid")(PyramidBlock)
BLOCKS.register("pyramid_bottleneck")(PyramidBottleneck)
BLOCKS.register("fixup")(FixupBlock)
BLOCKS.register("fixup_bottleneck")(FixupBottleneck)
BLOCKS.register("res2net")(Res2Block)
BLOCKS.register("resnest")(ResNestBlock)
BLOCKS.register("replk")(RepLKBlock)
BLOCKS.register("conv_ffn")(ConvFFN)
BLOCKS.register("unireplk")(UniRepLKBlock)
BLOCKS.register("cspnext")(CSPNeXtBlock)
BLOCKS.register("inverted")(InvertedResidual)
BLOCKS.register("p3d")(P3DBlock)
BLOCKS.register("tcn")(TCNBlock)
BLOCKS.register("recurrent")(RecurrentBlock)


def list_blocks() -> list[str]:
    """Returns the names of all residual blocks."""
    return list(BLOCKS)


def create_block(name: str, spec: BlockSpec, **options: Any) -> Block:
    """Builds a residual block.

    Args:
        name: One of :func:`list_blocks`.
        spec: Geometry, materials and place.
        **options: The block's own options, such as ``cardinality`` of ``bottleneck``.

    Raises:
        ConfigError: The block or an option is unknown, or a value is out of range.
    """
    block = BLOCKS[name]
    return block(spec, **check_options(f"residual block {name!r}", keyword_options(block), options))
