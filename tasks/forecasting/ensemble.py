"""The ensemble of section 3.4 of arXiv:1905.10437: members over lookbacks, losses and repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.train.learner import Learner
from core.train.seeds import derive_seed
from core.train.stacked import Stacked
from tasks.forecasting.config import EnsembleConfig
from tasks.forecasting.data.series import Group
from tasks.forecasting.losses import LOSSES
from tasks.forecasting.metrics import mase, mean
from tasks.forecasting.models.nbeats import build_nbeats
from tasks.forecasting.sampler import FlatSeries, Member


def list_members(config: EnsembleConfig, horizon: int) -> list[Member]:
    """Returns the members in the order in which they are stacked: by lookback, then loss, then repeat."""
    return [
        Member(multiple * horizon, loss, repeat)
        for multiple in config.lookbacks
        for loss in config.losses or []
        for repeat in range(config.repeats)
    ]


class Ensemble(nn.Module):
    """All members for one frequency, stacked by lookback.

    Args:
        config: Model configuration.
        horizon: Forecast length H.
        seed: Each member's weights are drawn from a stream that the seed and the member name.
    """

    def __init__(self, config: EnsembleConfig, horizon: int, seed: int = 0) -> None:
        super().__init__()
        self.config, self.horizon = config, horizon
        self.members = list_members(config, horizon)
        self.lookbacks = list(dict.fromkeys(member.lookback for member in self.members))
        self.groups = nn.ModuleList()
        for lookback in self.lookbacks:
            models = []
            for member in self.of(lookback):
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive_seed(seed, "weights", lookback, member.loss, member.repeat))
                    models.append(build_nbeats(config, lookback, horizon))
            self.groups.append(Stacked(models, config.batched))

    def of(self, lookback: int) -> list[Member]:
        """Returns the members with this lookback."""
        return [member for member in self.members if member.lookback == lookback]

    def forward(self, series: Sequence[np.ndarray]) -> Tensor:
        """Forecasts what follows the end of each of N series with each of M members: ``(M, N, H)``."""
        flat = FlatSeries(series, next(self.parameters()).device, max(self.lookbacks))
        outputs = []
        for lookback, group in zip(self.lookbacks, self.groups, strict=True):
            x, mask = flat.last_windows(lookback)
            shape = (group.num_members, *x.shape)
            outputs.append(group(x.expand(shape), mask.expand(shape)))
        return torch.cat(outputs)


class MedianTeacher(nn.Module):
    """Answers the windows of another ensemble with the median of this one's members of the same lookback.

    Args:
        ensemble: Trained members.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        stacks = zip(ensemble.lookbacks, ensemble.groups, strict=True)
        self.groups = nn.ModuleList(_MedianGroup(lookback, cast("Stacked", s)) for lookback, s in stacks)


class _MedianGroup(nn.Module):
    """Stands where the student has a stack of other members."""

    def __init__(self, lookback: int, stack: Stacked) -> None:
        super().__init__()
        self.lookback, self.stack = lookback, stack

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps windows of M members, ``(M, B, lookback)``, to ``(M, B, H)``.

        Raises:
            ConfigError: The windows are of another length.
        """
        if x.shape[-1] != self.lookback:
            raise ConfigError(
                f"--train.teacher: the teacher reads windows of {self.lookback} steps and this model of "
                f"{x.shape[-1]}; give both the same --model.lookbacks, in the same order"
            )
        shape = (self.stack.num_members, -1, self.lookback)
        flat = [part.reshape(1, -1, self.lookback).expand(shape) for part in (x, mask)]
        forecast = self.stack(*flat)
        # Members that are even in number have two middle ones; NumPy's median is their mean.
        middle = forecast.float().quantile(0.5, dim=0)
        return middle.reshape(*x.shape[:-1], -1)


class EnsembleLearner(Learner):
    """Trains all members at once: the loss is the sum of theirs, so each descends its own.

    Args:
        model: The ensemble.
        seasonality: Steps in a season, for the MASE loss.
        names: Names of the training series, for error messages.
        held_out: Windows that are not trained on, with what followed them; early stopping watches their MASE.
    """

    model: Ensemble

    def __init__(
        self,
        model: Ensemble,
        seasonality: int,
        names: Sequence[str] = (),
        held_out: Group | None = None,
    ) -> None:
        super().__init__(model)
        self.seasonality, self.names, self.held_out = seasonality, names, held_out

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the sum of the members' losses and the mean of each kind of loss."""
        losses: list[Tensor] = []
        kinds: dict[str, list[Tensor]] = {}
        for lookback, group, windows in zip(
            self.model.lookbacks, self.model.groups, batch["windows"], strict=True
        ):
            x, x_mask, y, y_mask = windows
            forecast = group(x, x_mask)
            members = self.model.of(lookback)
            for kind in dict.fromkeys(member.loss for member in members):
                rows = [i for i, member in enumerate(members) if member.loss == kind]
                # All members of a stack with one loss need no copy.
                part = slice(None) if len(rows) == len(members) else rows
                loss = LOSSES[kind](forecast[part], y[part], y_mask[part], x[part], self.seasonality)
                losses.append(loss)
                kinds.setdefault(kind, []).append(loss.detach())
        return torch.cat(losses).sum(), {kind: torch.cat(values).mean() for kind, values in kinds.items()}

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the MASE of the median on the held-out windows."""
        if self.held_out is None:
            raise ConfigError(
                "nothing is held out to validate on; set --intervals.calibration series or time"
            )
        assert self.held_out.future is not None
        median = np.median(self.model(self.held_out.history).cpu().numpy(), axis=0)
        value = mean(mase(self.held_out.future, median, self.held_out.naive_scale()))
        return value, {"mase": value}

    def suspects(self, batch: dict[str, Any]) -> list[str]:
        """Names the series with a window whose forecast or target is not finite."""
        found: set[int] = set()
        with torch.no_grad():
            for group, windows, series in zip(
                self.model.groups, batch["windows"], batch["series"], strict=True
            ):
                x, x_mask, y, _ = windows
                finite = torch.isfinite(group(x, x_mask)).all(-1) & torch.isfinite(y).all(-1)
                found.update(series[~finite].tolist())
        return [self.names[i] if i < len(self.names) else str(i) for i in sorted(found)]

    def clip_grad_norm(self, limit: float) -> Tensor:
        """Clips each member's gradient by itself; returns the mean of the norms before."""
        groups = cast("list[Stacked]", list(self.model.groups))
        return torch.cat([group.clip_grad_norm(limit) for group in groups]).mean()
