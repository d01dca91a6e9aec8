"""Configuration: dataclasses that import no heavy library; :mod:`core.parser` fills them."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from core.errors import ConfigError


@dataclass
class TrainConfig:
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        steps: Optimiser steps: one number, or one for each part of the run ({"Yearly": 30, "default": 100}).
        epochs: Passes over the data, for tasks that have epochs; used when steps is not given.
        batch_size: Samples in a step, over all processes.
        lr: Peak learning rate.
        lr_base_batch: Batch size that lr is for: the rate that is used is lr * batch_size * accumulate / lr_base_batch
            (linear scaling, arXiv:1706.02677); by default lr is used as it is.
        optimizer: adam, adamw, sgd (Nesterov), or lamb for large batches.
        momentum: Of sgd.
        weight_decay: Decoupled for adamw, part of the scaled step for lamb, L2 for the others; never on vectors
            (norms, biases).
        schedule: constant, cosine (to zero), poly ((1 - t)^0.9, to zero), thirds (halved after each third of the
            steps), milestones, flat_cosine, one_cycle (up from 1/25 over three tenths, then down to zero:
            arXiv:1708.07120), or sawtooth, for a model that starts from a pre-trained one.
        milestones: Shares of the steps after which the rate is multiplied by decay, such as [0.5, 0.75].
        decay: That factor.
        flat: Share of the steps at the peak in flat_cosine (its warm-up included), before half a cosine begins.
        final_lr: Learning rate at the end of flat_cosine, as a fraction of the peak.
        teeth: Shares of the steps at which the warm-up of the new part ends in sawtooth, its decay, and the warm-up
            of the whole, whose decay is the rest; the pre-trained part waits until the second.
        warmup_steps: Steps of linear warm-up.
        grad_clip: Largest gradient norm; each member of an ensemble is clipped on its own.
        accumulate: Batches that are summed into one step.
        grad_noise: Scale eta of Gaussian gradient noise with variance eta / (1 + step)^0.55; 0 is off.
        ema: Decay of an exponential moving average of the weights, which is then what is kept.
        ema_warmup: Use the smaller of that decay and (1 + t) / (10 + t) after t steps.
        ema_gamma: Use the decay ema * (1 - exp(-(1 + t) / ema_gamma)) after t steps, another warm-up.
        ema_steps: Steps of the training that ema and ema_gamma were chosen for; a shorter one scales both, so that
            the average covers the same share of it.
        drop_path_schedule: Whether residual updates are dropped at their rate from the start (constant), or at a
            rate that grows over the steps from 0 to it (linear).
        orthonormal: Weight of the penalty that makes the rows of weight matrices orthonormal; 0 is off.
        gate_cost: Cost of an open gate, for models with the rule gated: weight of the gates' mean probability to
            be open; 0 is off.
        start_from: Trained model of the task whose weights are the first ones, where they fit (fine-tuning): named as
            teacher, or a model that comes with the task.
        freeze: Modules of the model that do not learn, such as [backbone] or [backbone.stem, backbone.stage1]; they
            stay in evaluation mode, so that norms keep their statistics.
        teacher: Trained model of the task whose outputs are learned too: models:/NAME/VERSION, a run's folder or
            a package's folder.
        teacher_weight: Share of the teacher in the loss, from 0 to 1.
        teacher_distance: kl between class probabilities, mse between outputs, or relative (mse over the mean
            square of the teacher's output, for data of many scales).
        teacher_temperature: Softens the class probabilities of kl.
        precision: auto picks bf16 or fp32 from the hardware and says so.
        device: auto, cpu, cuda or cuda:N.
        compile: Compile the model with torch.compile before training.
        channels_last: Keep the channels of a pixel together in memory, which 2-D convolutions prefer.
        recompute: What the backward pass computes again instead of keeping it: none, residual branches, or
            segments of sqrt(n) of the n blocks in a row (least memory).
        log_every: Steps between two entries of the training curves.
        validate_every: Steps between two validations; 0 validates only when patience asks for it.
        patience: Validations without a better value before training stops early; 0 is off.
        max_time: Time budget of the fit, such as 90s, 30m or 2h, shared by its parts in proportion to their
            steps; what is trained by then is used. A resumed run gets it anew.
        checkpoint_minutes: Minutes between two checkpoints; one is also written at the end of each part.
        workers: Processes that load data; 0 loads in the training process.
        deterministic: Ask torch for deterministic kernels.
        tune_allocator: Let glibc keep large freed blocks: faster where activations pass 32 MB, for more memory.
    """

    steps: int | dict[str, int] | None = None
    epochs: int | None = None
    batch_size: int = 32
    lr: float = 1e-3
    lr_base_batch: int | None = None
    optimizer: Literal["adam", "adamw", "sgd", "lamb"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal[
        "constant", "cosine", "poly", "thirds", "milestones", "sawtooth", "flat_cosine", "one_cycle"
    ] = "cosine"
    milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    decay: float = 0.1
    flat: float = 0.5
    final_lr: float = 0.05
    teeth: list[float] = field(default_factory=lambda: [0.025, 0.05, 0.1])
    warmup_steps: int = 0
    grad_clip: float | None = None
    accumulate: int = 1
    grad_noise: float = 0.0
    ema: float | None = None
    ema_warmup: bool = False
    ema_gamma: float | None = None
    ema_steps: int | None = None
    drop_path_schedule: Literal["constant", "linear"] = "constant"
    orthonormal: float = 0.0
    gate_cost: float = 0.0
    start_from: str | None = None
    freeze: list[str] = field(default_factory=list)
    teacher: str | None = None
    teacher_weight: float = 0.5
    teacher_distance: Literal["kl", "mse", "relative"] = "kl"
    teacher_temperature: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    compile: bool = False
    channels_last: bool = False
    recompute: Literal["none", "branches", "segments"] = "none"
    log_every: int = 10
    validate_every: int = 0
    patience: int = 0
    max_time: str | None = None
    checkpoint_minutes: float = 5.0
    workers: int = 0
    deterministic: bool = False
    tune_allocator: bool = True


@dataclass
class RuleConfig:
    """What all models of a task share.

    Args:
        name: Model name.
        rule: Residual rule of every residual connection; add is the papers'.
        rule_options: Options of the rule, such as {scale: 0.5}.
    """

    name: str = ""
    rule: str = "add"
    rule_options: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunConfig:
    """What every training shares.

    Args:
        seed: Seed of weights, batches and augmentation.
        output: Folder that receives a folder for each run.
        tracking: MLflow tracking URI; "none" tracks nothing; by default MLFLOW_TRACKING_URI or a local sqlite
            file.
        register: Enter the trained model into the MLflow registry.
        promote: When the new version becomes the champion; by default as mlflow/registry.yaml says, if-better.
        train: Training loop.
    """

    seed: int = 0
    output: str = "runs"
    tracking: str | None = None
    register: bool = True
    promote: Literal["if-better", "always", "never"] | None = None
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class UseConfig:
    """What the commands share that use a trained model.

    Args:
        model: Model to use: models:/NAME@ALIAS, models:/NAME/VERSION, a run's folder, a package's folder, or the
            name of a model that comes with the task; by default the task's champion.
        tracking: MLflow tracking URI of the registry; by default MLFLOW_TRACKING_URI or a local sqlite file.
    """

    model: str | None = None
    tracking: str | None = None


@dataclass
class EvaluateConfig(UseConfig):
    """Scores a trained model.

    Args:
        output: Folder for metrics.json, the per-sample CSV and the figures.
    """

    output: str = "evaluation"
    given: tuple[str, ...] = ()
    """Keys that the user set, such as ``data.path``; not an option itself, see :func:`core.parser.parse`."""


@dataclass
class PredictConfig(UseConfig):
    """Applies a trained model to files.

    Args:
        input: File or folder to read.
        output: File or folder to write. For images there is a default beside the input, such as photo_denoised.png
            or photo_x2.png.
        strict: Stop at the first bad input instead of skipping it.
    """

    input: str | None = None
    output: str | None = None
    strict: bool = False


@dataclass
class ExportConfig(UseConfig):
    """Writes a trained model as a program for other runtimes.

    Args:
        format: onnx (ONNX Runtime and others) or pt2 (torch.export).
        output: Folder to write into.
    """

    format: Literal["onnx", "pt2"] = "onnx"
    output: str = "export"


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the configuration as plain nested values, ready for YAML and JSON."""
    return dataclasses.asdict(config)


def dump_config(config: Any) -> str:
    """Returns the resolved configuration as YAML; ``--config FILE`` runs it again."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns ``{"train.lr": 0.001, ...}`` for nested dictionaries."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def per_part(value: float | dict[str, Any], part: str, option: str) -> Any:
    """Returns an option for one part of a run.

    It is the number itself, or the part's in ``{"Yearly": 30, "default": 100}``.

    Raises:
        ConfigError: The mapping has neither the part nor ``default``.
    """
    if not isinstance(value, dict):
        return value
    if part not in value and "default" not in value:
        raise ConfigError(
            f"--{option} has no number for {part}; it has {', '.join(value)}: add {part} or default"
        )
    return value.get(part, value.get("default"))


def peak_lr(config: TrainConfig) -> float:
    """Returns the peak learning rate of the batches that are used.

    It is ``lr``, or in proportion to the samples of an optimiser step where ``lr_base_batch`` says which ``lr`` is for
    (the linear scaling rule: Goyal et al., arXiv:1706.02677, section 2.1).
    """
    if config.lr_base_batch is None:
        return config.lr
    return config.lr * config.batch_size * config.accumulate / config.lr_base_batch


AT_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "lr_base_batch": 1,
    "accumulate": 1,
    "ema_steps": 1,
    "log_every": 1,
    "weight_decay": 0,
    "warmup_steps": 0,
    "grad_noise": 0,
    "orthonormal": 0,
    "gate_cost": 0,
    "validate_every": 0,
    "patience": 0,
    "checkpoint_minutes": 0,
    "workers": 0,
}
"""Smallest value of each number in :class:`TrainConfig`."""


def check_train(config: TrainConfig) -> None:
    """Raises ``ConfigError`` for a value that no training can use, before anything heavy is imported."""
    for name, least in AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise ConfigError(f"--train.{name} {value} is too small; use {least} or more")
    for name in ("lr", "grad_clip", "ema_gamma", "teacher_temperature"):
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ConfigError(f"--train.{name} {value} is too small; use a number above 0")
    if not 0 <= config.momentum < 1:
        raise ConfigError(f"--train.momentum {config.momentum} must lie from 0 to below 1")
    if not 0 <= config.flat < 1:
        raise ConfigError(f"--train.flat {config.flat} is not a share that leaves a rest; use 0 to below 1")
    if not 0 <= config.final_lr <= 1:
        raise ConfigError(f"--train.final_lr {config.final_lr} is not a fraction of the peak; use 0 to 1")
    if len(config.teeth) != 3 or [0.0, *config.teeth, 1.0] != sorted({0.0, *config.teeth, 1.0}):
        raise ConfigError(f"--train.teeth {config.teeth} must be three growing shares between 0 and 1")
    steps = config.steps if isinstance(config.steps, dict) else {"default": config.steps}
    for part, count in steps.items():
        if count is not None and count < 1:
            raise ConfigError(f"--train.steps {count} for {part} is too small; use 1 or more")
    if config.ema is not None and not 0 <= config.ema < 1:
        raise ConfigError(
            f"--train.ema {config.ema} is not a decay; use a number from 0 to below 1, such as 0.999"
        )
    if config.ema_warmup and config.ema is None:
        raise ConfigError("--train.ema_warmup has no moving average to warm up; set --train.ema too")
    for name in ("ema_gamma", "ema_steps"):
        if getattr(config, name) is not None and config.ema is None:
            raise ConfigError(
                f"--train.{name} is of a moving average; set --train.ema, or --train.{name} null"
            )
    if config.ema_gamma is not None and config.ema_warmup:
        raise ConfigError("--train.ema_gamma and --train.ema_warmup are two warm-ups; use one of them")
    if not 0 <= config.teacher_weight <= 1:
        raise ConfigError(
            f"--train.teacher_weight {config.teacher_weight} is not a share; use a number from 0 to 1"
        )
    for name in ("teacher", "gate_cost"):
        if getattr(config, name) and config.compile:
            raise ConfigError(
                f"--train.{name} listens to modules that --train.compile hides; use one of them"
            )
    if config.max_time is not None:
        parse_duration(config.max_time)


SEEDS = 2**32
"""Seeds lie below it: the least that a generator of ours takes."""
LARGEST = 2**63
"""Whole numbers lie below it: more no tensor can count."""


def check_values(config: Any, prefix: str = "--") -> None:
    """Raises ``ConfigError`` for a number that is not finite or past counting, an impossible seed and an empty path.

    Args:
        config: A dataclass of options, with others inside.
        prefix: What stands before its names.
    """
    for entry in dataclasses.fields(config):
        name, value = f"{prefix}{entry.name}", getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            check_values(value, f"{name}.")
            continue
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if not all(math.isfinite(part) for part in parts if isinstance(part, float)):
            raise ConfigError(f"{name} {value} is not finite; give a number")
        if any(abs(part) >= LARGEST for part in parts if isinstance(part, int)):
            raise ConfigError(f"{name} {value} is too large; use a smaller number")
        if entry.name.split("_")[-1] == "path" and "" in (value if isinstance(value, list) else [value]):
            raise ConfigError(f"{name} is empty; name a file or a folder, or leave it out")
        if entry.name.split("_")[-1] == "seed" and isinstance(value, int) and not 0 <= value < SEEDS:
            raise ConfigError(f"{name} {value} is no seed; use a whole number from 0 to {SEEDS - 1}")


def parse_duration(text: str) -> float:
    """Returns seconds for ``90``, ``90s``, ``30m`` or ``2h``; raises ``ConfigError``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if not match:
        raise ConfigError(f"--train.max_time {text!r} is not a duration; write 90s, 30m or 2h")
    return float(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600}[match.group(2)]
