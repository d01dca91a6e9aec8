"""The table of residual rules: one file and one line a rule."""

from __future__ import annotations

from core.registry import Registry
from core.residual.rule import Rule
from core.residual.rules.add import Add
from core.residual.rules.decayed import Decayed
from core.residual.rules.depth_scaled import DepthScaled
from core.residual.rules.fixup import Fixup
from core.residual.rules.frac import Frac
from core.residual.rules.gated import Gated
from core.residual.rules.hires import HiRes
from core.residual.rules.hyper import Hyper
from core.residual.rules.ladder import Ladder
from core.residual.rules.laurel_lr import LaurelLR
from core.residual.rules.laurel_pa import LaurelPA
from core.residual.rules.laurel_rw import LaurelRW
from core.residual.rules.layer_scale import LayerScale
from core.residual.rules.orthogonal import Orthogonal
from core.residual.rules.scaled import Scaled
from core.residual.rules.skipinit import SkipInit
from core.residual.rules.stochastic_depth import StochasticDepth

RULES: Registry[type[Rule]] = Registry("residual rule")

RULES.register("add")(Add)
RULES.register("scaled")(Scaled)
RULES.register("depth_scaled")(DepthScaled)
RULES.register("skipinit")(SkipInit)
RULES.register("layer_scale")(LayerScale)
RULES.register("stochastic_depth")(StochasticDepth)
RULES.register("laurel_rw")(LaurelRW)
RULES.register("laurel_lr")(LaurelLR)
RULES.register("orthogonal")(Orthogonal)
RULES.register("decayed")(Decayed)
RULES.register("fixup")(Fixup)
RULES.register("gated")(Gated)
RULES.register("hyper")(Hyper)
RULES.register("frac")(Frac)
RULES.register("laurel_pa")(LaurelPA)
RULES.register("hires")(HiRes)
RULES.register("ladder")(Ladder)
