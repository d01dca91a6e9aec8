"""Training losses of N-BEATS (arXiv:1905.10437, section 3.4), masked and with any leading member axis.

They take ``(..., B, H)`` tensors, average over windows and steps (masked ones count as zero error, as in the
authors' experiments) and return one value for each leading index. These are losses, in the scale that the
gradient clipping of the experiments was set for; the measures that are reported live in ``metrics.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _safe_divide(a: Tensor, b: Tensor) -> Tensor:
    """Returns ``a / b``, and 0 where ``b`` is 0, with a finite gradient there."""
    zero = b == 0
    return torch.where(zero, torch.zeros_like(a), a / torch.where(zero, torch.ones_like(b), b))


def smape_loss(forecast: Tensor, target: Tensor, mask: Tensor, window: Tensor, seasonality: int) -> Tensor:
    """Symmetric MAPE in percent, 0 to 200; no gradient flows through its denominator."""
    size = forecast.detach().abs() + target.abs()
    return 200 * (_safe_divide((forecast - target).abs(), size) * mask).mean((-2, -1))


def mape_loss(forecast: Tensor, target: Tensor, mask: Tensor, window: Tensor, seasonality: int) -> Tensor:
    """MAPE as a fraction; targets of zero count as no error."""
    return ((forecast - target).abs() * _safe_divide(mask, target.abs())).mean((-2, -1))


def mase_loss(forecast: Tensor, target: Tensor, mask: Tensor, window: Tensor, seasonality: int) -> Tensor:
    """MASE, scaled by the seasonal naive error inside the input window ``(..., B, L)`` alone."""
    lag = seasonality if window.shape[-1] > seasonality else 1
    naive = (window[..., lag:] - window[..., :-lag]).abs().mean(-1, keepdim=True)
    return ((forecast - target).abs() * _safe_divide(mask, naive.expand_as(mask))).mean((-2, -1))


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]] = {
    "smape": smape_loss,
    "mape": mape_loss,
    "mase": mase_loss,
}
