"""The one training loop: plain PyTorch, readable in one sitting.

A step draws a batch by its number, descends the learner's loss, and every so often logs, validates and writes
a checkpoint. Nothing depends on wall-clock time except when checkpoints are written, so a run that was killed
and resumed on a CPU ends with the same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.config import TrainConfig, peak_lr
from core.errors import ConfigError, Interrupted, TrainingError
from core.residual.drop import set_drop_scale
from core.train import distributed
from core.train.checkpoint import load_checkpoint, save_checkpoint
from core.train.distill import Distilled
from core.train.ema import averaged_weights, build_average, copy_weights
from core.train.freeze import freeze, train_mode
from core.train.learner import BatchSource, Learner
from core.train.optim import add_gradient_noise, build_optimizer, lr_factor
from core.train.penalties import penalties
from core.train.seeds import rng_state, seed_everything, set_rng_state
from core.train.signals import StopSignals
from core.train.stacked import all_modules


@dataclass
class Observer:
    """Where the loop reports to; the defaults are silent.

    Attributes:
        advance: Called after each step with the number of steps done and the total.
        log: Called with curve values and the step.
        validated: Called with the value that early stopping watches, all that was measured, and the step.
    """

    advance: Callable[[int, int], None] = lambda done, total: None
    log: Callable[[dict[str, float], int], None] = lambda values, step: None
    validated: Callable[[float, dict[str, float], int], None] = lambda value, metrics, step: None


@dataclass
class FitResult:
    """How a fit ended.

    Attributes:
        steps: Optimiser steps that were made.
        reason: ``finished``, ``early stop`` or ``time limit``.
        seconds: Training time over all sessions of the run.
    """

    steps: int
    reason: str
    seconds: float


class Trainer:
    """Fits one part of a run.

    Args:
        learner: Model and loss, on its device.
        source: Batches.
        config: Options of the loop.
        folder: Folder of this part's checkpoints.
        total_steps: Optimiser steps to make.
        dtype: Autocast dtype; float32 switches autocast off.
        seed: Seed of this part.
        observer: Receives progress and curves.
        deadline: ``time.monotonic()`` value at which training stops and what is there is used.
        stop: Signals that ask for a clean stop.
    """

    def __init__(
        self,
        learner: Learner,
        source: BatchSource,
        config: TrainConfig,
        *,
        folder: Path,
        total_steps: int,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        observer: Observer | None = None,
        deadline: float | None = None,
        stop: StopSignals | None = None,
    ) -> None:
        self.learner, self.source, self.config = learner, source, config
        self.folder, self.total, self.dtype, self.seed = folder, total_steps, dtype, seed
        self.observer = observer or Observer()
        self.deadline, self.stop = deadline, stop or StopSignals()
        self.world = distributed.environment_world()
        self.device = next(learner.parameters()).device
        if config.teacher is not None and not isinstance(learner, Distilled):
            raise ConfigError(
                "--train.teacher works in the command train; from Python use core.train.distill"
            )
        self.frozen = freeze(learner.model, config.freeze)
        self.optimizer = build_optimizer(learner, config)
        self.average = build_average(learner.model, config, total_steps)
        self.step, self.seconds, self.reason = 0, 0.0, "finished"
        self.best, self.best_step, self.bad_rounds = float("inf"), 0, 0
        self.best_weights: dict[str, Tensor] | None = None

    def fit(self) -> FitResult:
        """Trains from the last checkpoint, or from the start, to the end.

        Raises:
            TrainingError: The loss is not finite, or no checkpoint can be read.
            Interrupted: A signal asked to stop; a checkpoint was written.
        """
        seed_everything(self.seed, "fit", self.world.rank, deterministic=self.config.deterministic)
        done = self._restore()
        self.observer.advance(self.step, self.total)
        if not done and self.step < self.total:
            self._run()
        self._use_kept_weights()
        return FitResult(self.step, self.reason, self.seconds)

    def _run(self) -> None:
        forward: Any = self.learner
        if self.world.size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            forward = torch.nn.parallel.DistributedDataParallel(self.learner, device_ids=ids)
        train_mode(self.learner, self.frozen)
        started, saved, before = time.monotonic(), time.monotonic(), self.seconds
        batches = self.source.batches(self.step * self.config.accumulate, self.device)
        curves: list[dict[str, Tensor]] = []
        while self.step < self.total:
            curves.append(self._descend(forward, batches))
            self.step += 1
            self.seconds = before + time.monotonic() - started
            self.observer.advance(self.step, self.total)
            if self.step % self.config.log_every == 0 or self.step == self.total:
                self._log(curves)
                curves.clear()
            ending = self._ending()
            due = self._epoch_ended() or time.monotonic() - saved > 60 * self.config.checkpoint_minutes
            if ending not in (None, "signal"):
                self.reason = ending
            if ending or due or self.step == self.total:
                self._save(done=self.step == self.total or self.reason != "finished")
                saved = time.monotonic()
            if ending == "signal":
                name = self.stop.received.name if self.stop.received else "a signal to another process"
                raise Interrupted(
                    f"stopped by {name} after step {self.step} of {self.total}, checkpoint written"
                )
            if ending:
                return

    def _epoch_ended(self) -> bool:
        """Whether the last step drew the last batch of an epoch; a step draws ``accumulate`` batches."""
        epoch, drawn = self.source.steps_per_epoch, self.step * self.config.accumulate
        return epoch is not None and drawn // epoch > (drawn - self.config.accumulate) // epoch

    def _descend(self, forward: Any, batches: Any) -> dict[str, Tensor]:
        """Makes one optimiser step; returns the values for the curves."""
        config = self.config
        for group in self.optimizer.param_groups:
            factor = lr_factor(self.step, self.total, config, group["late"])
            group["lr"] = peak_lr(config) * factor * group["lr_scale"]
        if config.drop_path_schedule == "linear":
            set_drop_scale(all_modules(self.learner), self.step / self.total)
        self.optimizer.zero_grad(set_to_none=True)
        drawn: list[dict[str, Tensor]] = []
        for part in range(config.accumulate):
            batch = next(batches)
            last = part == config.accumulate - 1
            # Gradients cross between processes once a step, not once a batch.
            quiet = forward.no_sync() if self.world.size > 1 and not last else nullcontext()
            with quiet:
                autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
                with autocast, penalties(self.learner, config) as terms:
                    loss, metrics = forward(batch)
                for name, term in terms().items():
                    loss, metrics = loss + term, metrics | {name: term.detach()}
                # Asked of all processes: one that stops alone leaves the others waiting for its gradients.
                if distributed.any_rank(not torch.isfinite(loss), self.device):
                    raise self._diverged(loss, batch)
                (loss / config.accumulate).backward()
            drawn.append({"loss": loss.detach()} | metrics)
        if config.grad_noise:
            add_gradient_noise(self.learner, config.grad_noise, self.step, self.seed)
        values = {name: torch.stack([each[name] for each in drawn]).mean(0) for name in drawn[0]}
        if config.grad_clip is not None:
            values |= {"grad_norm": self.learner.clip_grad_norm(config.grad_clip).detach()}
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.learner.model)
        return values

    def _diverged(self, loss: Tensor, batch: dict[str, Any]) -> TrainingError:
        names = self.learner.suspects(batch)
        where = f" Samples: {', '.join(map(str, names[:8]))}." if names else ""
        what = "of another process is not finite" if torch.isfinite(loss) else f"is {loss.item()}"
        return TrainingError(
            f"the loss {what} at step {self.step}.{where} Lower --train.lr, set --train.grad_clip, or look "
            "at these samples; the last checkpoint is kept"
        )

    def _log(self, curves: list[dict[str, Tensor]]) -> None:
        names = list(curves[0])
        values = torch.stack([torch.stack([c[n].float().mean() for n in names]) for c in curves]).mean(0)
        values = distributed.mean_over_ranks(values)
        logged = dict(zip(names, values.tolist(), strict=True))
        logged["lr"] = self.optimizer.param_groups[0]["lr"]
        self.observer.log(logged, self.step)

    def _ending(self) -> str | None:
        """Says whether to stop after this step, and why; all processes agree."""
        every = self.config.validate_every or (self.config.log_every if self.config.patience else 0)
        # Before the signal is looked at, so that a stopped and resumed run has made the same validations.
        if every and (self.step % every == 0 or self.step == self.total) and self._validate():
            return "early stop"
        if distributed.any_rank(self.stop.received is not None, self.device):
            return "signal"
        late = self.deadline is not None and time.monotonic() > self.deadline
        if self.deadline is not None and distributed.any_rank(late, self.device):
            return "time limit"
        return None

    def _validate(self) -> bool:
        """Validates the weights that would be kept; returns whether patience has run out."""
        self.learner.eval()
        with torch.no_grad(), averaged_weights(self.learner.model, self.average):
            value, metrics = self.learner.validate()
            measured = torch.tensor(value, dtype=torch.float64, device=self.device)
            value = distributed.mean_over_ranks(measured).item()  # all processes must stop together
            if better := value < self.best:
                self.best, self.best_step, self.bad_rounds = value, self.step, 0
                if self.config.patience:
                    self.best_weights = copy_weights(self.learner.model)
        train_mode(self.learner, self.frozen)
        self.observer.log({f"val_{name}": v for name, v in metrics.items()}, self.step)
        self.observer.validated(value, metrics, self.step)
        self.bad_rounds += not better
        return bool(self.config.patience) and self.bad_rounds >= self.config.patience

    def _save(self, done: bool) -> None:
        # No collective here: whether a checkpoint is due depends on the clock of this process.
        if not self.world.is_main:
            return
        if not all(torch.isfinite(p).all() for p in self.learner.parameters()):
            what = f"the weights are not finite after step {self.step}"
            raise TrainingError(
                f"{what}. Lower --train.lr or set --train.grad_clip; the last checkpoint is kept"
            )
        state = {
            "model": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.average.state_dict() if self.average else None,
            "best_weights": self.best_weights,
            "rng": rng_state(),
            "step": self.step,
            "total": self.total,
            "seconds": self.seconds,
            "best": [self.best, self.best_step, self.bad_rounds],
            "reason": self.reason,
            "done": done,
        }
        save_checkpoint(state, self.folder)

    def _restore(self) -> bool:
        state = load_checkpoint(self.folder)
        if state is None:
            return False
        if state["total"] != self.total:
            what = f"the checkpoint in {self.folder} is of a run of {state['total']} steps, this one has {self.total}"
            raise ConfigError(f"{what}; start a new run, since schedules depend on the number of steps")
        try:
            self.learner.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None and state["ema"] is not None:
                self.average.load_state_dict(state["ema"])
        except (RuntimeError, ValueError):
            what = f"the checkpoint in {self.folder} is of another model or optimiser"
            raise ConfigError(
                f"{what}; resume with the run's own configuration, or start a new run"
            ) from None
        self.best_weights = state["best_weights"]
        self.step, self.seconds, self.reason = state["step"], state["seconds"], state["reason"]
        self.best, self.best_step, self.bad_rounds = state["best"]
        if self.world.is_main:  # the file holds rank 0's generators; other ranks keep their own streams
            set_rng_state(state["rng"])
        return state["done"]

    def _use_kept_weights(self) -> None:
        if self.config.drop_path_schedule == "linear":
            set_drop_scale(all_modules(self.learner), 1.0)
        kept = self.average.module.state_dict() if self.average is not None else None
        if (best := self.best_weights or kept) is not None:
            self.learner.model.load_state_dict(best)
        self.learner.eval()
