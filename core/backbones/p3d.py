"""Pseudo-3D ResNets: volumes through factors in space and in time.

Counts of parameters are tested in ``tests/core/backbones/test_p3d.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, ClassVar

from core.backbones.imagenet import LAYERS, WIDE
from core.backbones.registry import register_backbones
from core.backbones.resnet import ResNet, ResNetSpec
from core.backbones.spec import Spec


@dataclass(frozen=True)
class P3DSpec(ResNetSpec):
    """Options of Pseudo-3D ResNets, those of :class:`core.backbones.resnet.ResNetSpec`.

    ``block_options={"wiring": "A"}`` gives every block the same wiring, see
    :class:`core.residual.blocks.p3d.P3DBlock`.
    """

    allowed_dims: ClassVar[tuple[int, ...]] = (3,)

    dims: int = 3
    block: str = "p3d"
    block_options: Mapping[str, Any] = field(default_factory=lambda: {"wiring": "ABC"})
    widths: tuple[int, ...] = WIDE


def _preset(layers: tuple[int, ...]) -> P3DSpec:
    """Wirings in turns in all stages but the last, whose blocks see single frames, as in the authors' code."""
    wiring = "".join(islice(cycle("ABC"), sum(layers[:-1]))) + "S" * layers[-1]
    return P3DSpec(layers=layers, block_options={"wiring": wiring})


# Qiu et al., arXiv:1711.10305, section 3.2: ResNet-50, 101 and 152 with a temporal layer more in each of the
# first three stages' blocks, which is where the names have their numbers from. Differences: the stem is that of a
# 3-D ResNet (7x7x7 of stride 2, not 1x7x7 of stride 1x2x2), and time shrinks with space, by strides in place of
# the poolings between the stages, so that one number a stage says how much smaller the features are.
P3D: dict[str, Spec] = {
    "p3d63": _preset(LAYERS[50]),
    "p3d131": _preset(LAYERS[101]),
    "p3d199": _preset(LAYERS[152]),
}
register_backbones(ResNet, P3D)
