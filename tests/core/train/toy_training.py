"""Small trainings for the tests of the loop. As a script it runs them where they can be killed or distributed."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core.config import TrainConfig
from core.data.loader import EpochLoader
from core.errors import SkipwayError
from core.nd import ScalarBias
from core.residual import Residual, ResidualChain, create_rule
from core.train.distill import distilled
from core.train.learner import Learner
from core.train.loop import FitResult, Observer, Trainer
from core.train.memory import recompute
from core.train.signals import StopSignals

SAMPLES, BATCH, FEATURES = 22, 4, 5  # five batches an epoch, two samples are left over


class Points:
    """A noisy linear map with a name for each sample; ``bad`` is a sample whose target is not a number."""

    def __init__(self, bad: int | None = None) -> None:
        source = torch.Generator().manual_seed(1)
        self.x = torch.randn(SAMPLES, FEATURES, generator=source)
        self.y = self.x.sum(1, keepdim=True) + 0.1 * torch.randn(SAMPLES, 1, generator=source)
        if bad is not None:
            self.y[bad] = torch.nan

    def __len__(self) -> int:
        return SAMPLES

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, object]:
        return {"x": self.x[index], "y": self.y[index], "ids": f"point-{index}"}


class PointLearner(Learner):
    """Least squares with dropout; ``values`` replaces the validation loss by given numbers, one a call."""

    def __init__(self, dropout: float = 0.2, values: list[float] | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            super().__init__(
                nn.Sequential(
                    nn.Linear(FEATURES, 8), nn.ReLU(), nn.Dropout(dropout), nn.BatchNorm1d(8), nn.Linear(8, 1)
                )
                if dropout
                else nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
            )
        self.values = values
        self.validated: list[float] = []

    def loss_and_metrics(self, batch):
        loss = (self.model(batch["x"]) - batch["y"]).square().mean()
        return loss, {"mae": loss.detach().sqrt()}

    def validate(self):
        points = Points()
        value = (self.model(points.x) - points.y).square().mean().item()
        self.validated.append(value)
        if self.values is not None:
            value = self.values[len(self.validated) - 1]
        return value, {"loss": value}


class TechniqueLearner(PointLearner):
    """A chain of residual blocks with chance, batch norm, gates and scaled learning rates."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(8)
            rules = ("stochastic_depth", "gated", "add", "skipinit")
            blocks = [
                Residual(
                    nn.Sequential(
                        ScalarBias(), nn.Linear(FEATURES, 7), nn.BatchNorm1d(7), nn.Linear(7, FEATURES)
                    ),
                    create_rule(rule, channels=FEATURES, index=i, depth=4, dims=0),
                    drop_path=0.1 * i,
                )
                for i, rule in enumerate(rules, 1)
            ]
            self.model = nn.Sequential(nn.Sequential(ResidualChain(blocks), nn.Linear(FEATURES, 1)))


def technique_trainer(folder: Path, config: TrainConfig, **options: object) -> Trainer:
    """A trainer with every technique at once: recomputed segments and a teacher among them."""
    learner, teacher = TechniqueLearner(), PointLearner()
    recompute(learner, "segments")
    config = replace(config, batch_size=BATCH)
    return point_trainer(folder, config, learner=distilled(learner, teacher.model, config), **options)


def point_trainer(
    folder: Path,
    config: TrainConfig,
    *,
    steps: int = 12,
    learner: Learner | None = None,
    bad: int | None = None,
    **options: object,
) -> Trainer:
    """A trainer on :class:`Points`; the configuration decides about everything else."""
    source = EpochLoader(Points(bad), config.batch_size, seed=3)
    return Trainer(
        learner or PointLearner(), source, config, folder=folder, total_steps=steps, seed=4, **options
    )


def window_trainer(folder: Path, config: TrainConfig, *, steps: int = 8, **options: object) -> Trainer:
    """A trainer of four small N-BEATS members on windows of three series."""
    from tasks.forecasting.config import GenericConfig
    from tasks.forecasting.ensemble import Ensemble, EnsembleLearner
    from tasks.forecasting.sampler import WindowSource

    model = GenericConfig(lookbacks=[1, 2], losses=["smape", "mase"], blocks=2, width=6, layers=2)
    ensemble = Ensemble(model, horizon=3, seed=5)
    series = [20 + np.arange(n) + 3 * np.sin(np.arange(n)) for n in (9, 14, 30)]
    source = WindowSource(
        series, horizon=3, history=4, members=ensemble.members, batch_size=config.batch_size, seed=6
    )
    return Trainer(
        EnsembleLearner(ensemble, 4), source, config, folder=folder, total_steps=steps, seed=7, **options
    )


RESUMED = {
    # Five batches an epoch and two a step: epochs end in the middle of a step, kills fall inside epochs.
    "epoch": (
        point_trainer,
        TrainConfig(accumulate=2, ema=0.9, grad_noise=0.01, patience=50, validate_every=3),
    ),
    "minutes": (
        point_trainer,
        TrainConfig(accumulate=2, ema=0.9, optimizer="sgd", lr=0.01, checkpoint_minutes=0.0),
    ),
    "techniques": (
        technique_trainer,
        TrainConfig(
            optimizer="lamb",
            ema=0.95,
            ema_warmup=True,
            drop_path_schedule="linear",
            orthonormal=0.01,
            gate_cost=0.1,
            teacher_distance="mse",
            checkpoint_minutes=0.0,
        ),
    ),
    # A validation puts the frozen norm back into evaluation mode, a new process freezes it anew.
    "frozen": (
        point_trainer,
        TrainConfig(
            lr=0.1,
            lr_base_batch=8,
            schedule="flat_cosine",
            ema=0.98,
            ema_gamma=8.0,
            ema_steps=24,
            freeze=["0", "3"],
            patience=50,
            validate_every=3,
            checkpoint_minutes=0.0,
        ),
    ),
    "windows": (
        window_trainer,
        TrainConfig(batch_size=8, grad_clip=1.0, schedule="thirds", checkpoint_minutes=0.0),
    ),
}
for _, _config in RESUMED.values():
    _config.batch_size = 8 if _config.grad_clip else BATCH


def resumed_trainer(kind: str, folder: Path, **options: object) -> Trainer:
    build, config = RESUMED[kind]
    return build(folder, config, **options)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed(kind: str, folder: Path, moment: str, step: int) -> None:
    """Trains and dies: after a step, in the middle of a checkpoint's bytes, or between its two renamings."""

    def advance(done: int, total: int) -> None:
        if done < step:
            return
        if moment == "step":
            _die()
        elif moment == "write":

            def half(state, file):
                file.write(b"half a checkpoint")
                file.flush()
                _die()

            torch.save = half
        else:
            rename = os.replace

            def once(a, b):
                rename(a, b)
                _die()

            os.replace = once

    resumed_trainer(kind, folder, observer=Observer(advance=advance)).fit()


def run_killed(root: Path, scenarios: list[str]) -> None:
    """Runs ``kind:moment:step`` scenarios, each in a process of its own, and prints the signals that ended them."""
    # Torch loads parts of itself at first use: once here, and not in every child.
    resumed_trainer("windows", root / "warm", steps=1).fit()
    for scenario in scenarios:
        kind, moment, step = scenario.split(":")
        if (pid := os.fork()) == 0:
            _killed(kind, root / scenario, moment, int(step))
            os._exit(0)
        print(os.WTERMSIG(os.waitpid(pid, 0)[1]), flush=True)


def plain_config(**changes: object) -> TrainConfig:
    """Options under which one process and two must agree."""
    return TrainConfig(**({"batch_size": BATCH, "grad_clip": 0.5, "lr": 0.01} | changes))


def distributed_point(folder: Path, **changes: object) -> FitResult:
    learner = PointLearner(dropout=0.0)
    config = plain_config(
        accumulate=2, ema=0.8, grad_noise=0.01, orthonormal=0.01, patience=50, validate_every=4, **changes
    )
    return point_trainer(folder, config, learner=learner).fit()


def distributed_frozen(folder: Path) -> FitResult:
    """A batch norm that is frozen: one that saw its process's share of the batch would not give the same."""
    learner = PointLearner()
    learner.model[2] = nn.Identity()
    config = plain_config(ema=0.8, ema_gamma=3.0, patience=50, validate_every=2, freeze=["0", "3"])
    return point_trainer(folder, config, learner=learner).fit()


def distributed_windows(folder: Path) -> FitResult:
    return window_trainer(folder, plain_config(batch_size=8)).fit()


def run_distributed(root: Path) -> None:
    """What each process of a group does; every rank writes what it saw into a file of its own."""
    from core.train import distributed

    world = distributed.start(torch.device("cpu"))
    lines = []
    distributed_point(root / "points")
    distributed_windows(root / "windows")
    distributed_frozen(root / "frozen")
    # Only one process is asked to checkpoint at a moment of its own clock.
    distributed_point(root / "clock", checkpoint_minutes=0.0 if world.is_main else 60.0)
    for name, options in (
        ("bad sample", {"bad": 7}),
        ("signal", {"observer": Observer(advance=_signal_second if world.rank == 1 else _nothing)}),
    ):
        try:
            with StopSignals() as stop:
                trainer = point_trainer(
                    root / name, plain_config(), learner=PointLearner(0.0), stop=stop, **options
                )
                trainer.fit()
            lines.append(f"{name}: finished")
        except SkipwayError as error:
            lines.append(f"{name}: {type(error).__name__}: {error}")
    (root / f"rank-{world.rank}.txt").write_text("\n".join(lines))
    distributed.stop()


def _signal_second(done: int, total: int) -> None:
    if done == 2:
        os.kill(os.getpid(), signal.SIGTERM)


def _nothing(done: int, total: int) -> None:
    pass


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        run_killed(Path(sys.argv[2]), sys.argv[3:])
    else:
        run_distributed(Path(sys.argv[2]))
