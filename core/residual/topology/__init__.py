"""Ways of arranging branches other than one after the other; each takes any branch and any number of axes."""

from __future__ import annotations

from core.residual.topology.dense import Dense, DenseStep
from core.residual.topology.dual_path import DualPath
from core.residual.topology.loop import Loop
from core.residual.topology.parallel import Parallel

__all__ = ["Dense", "DenseStep", "DualPath", "Loop", "Parallel"]
