"""Any one-dimensional network of the core over the subcarriers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.backbones.choice import build_choice, check_input
from tasks.csi.config import BackboneConfig
from tasks.csi.models.simple import ChangeNet, zeroed

DECIDED = {
    "dims": "the subcarriers, one axis,",
    "in_channels": "--data.history",
    "num_classes": "--data.horizon",
}
"""Options of backbones that are not given among the others, and what decides them."""


class BackboneNet(ChangeNet):
    """A backbone whose channels are the reports, real and imaginary; it predicts the change from the last report.

    A linear map of each stage's channels gives the steps at that stage's resolution; they are interpolated to all
    subcarriers and summed, together with a linear map of the history itself (hypercolumns, Hariharan et al.,
    arXiv:1411.5752, section 3). A backbone with a rule of its own, such as ``fixup_resnet20_cifar``, keeps it where the
    rule is ``add``.

    Args:
        config: Name, rule and options of the backbone.
        subcarriers: Subcarriers K.
        history: Reports T.
        horizon: Reports H that are predicted.

    Raises:
        ConfigError: There is no such backbone, it has no such option or not this many axes, or the subcarriers are too
            few for its strides.
    """

    def __init__(self, config: BackboneConfig, subcarriers: int, history: int, horizon: int) -> None:
        super().__init__(config)
        backbone = build_choice(config, 1, 2 * history, DECIDED)
        backbone.remove_head()
        self.backbone = backbone
        widths = [2 * history, *(info.channels for info in backbone.feature_info)]
        self.outputs = nn.ModuleList(
            zeroed(nd.pointwise(1, width, 2 * horizon, bias=True)) for width in widths
        )
        self.parts = (2, horizon)
        check_input(
            self,
            (1, history, 2 * subcarriers),
            f"--model.backbone {config.backbone} cannot take {subcarriers} subcarriers",
            "try another backbone or more subcarriers",
        )

    def change(self, x: Tensor) -> Tensor:
        """Sums what each stage says."""
        signal = x.unflatten(2, (-1, 2)).permute(0, 3, 1, 2).flatten(1, 2)  # (B, 2T, K)
        features = [signal, *self.backbone.forward_features(signal)]
        size = signal.shape[2:]
        maps = [output(feature) for output, feature in zip(self.outputs, features, strict=True)]
        steps = maps[0] + sum(F.interpolate(part, size, mode=nd.interpolation(1)) for part in maps[1:])
        return steps.unflatten(1, self.parts).permute(0, 2, 3, 1).flatten(2)
