"""``train``: data check, fit, test, baselines, figures, report, package, registration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from core.commands.load import find_package, rebuilding
from core.commands.results import compare, make_console, print_results
from core.config import TrainConfig, dump_config, flatten, parse_duration, peak_lr, per_part, to_dict
from core.errors import ConfigError, Interrupted, PackageError, TrainingError
from core.report.html import write_report
from core.task import Evaluation, Part, Task
from core.track.card import describe
from core.track.package import Package, load_package, save_package
from core.track.promotion import load_policy
from core.track.provenance import scores_of
from core.track.registry import register
from core.track.run import Nested, NullRun, Run
from core.track.store import prepare, public_uri, resolve_uri
from core.train import distributed
from core.train.distill import distilled
from core.train.freeze import frozen_modules
from core.train.hardware import choose_device, choose_precision, keep_large_allocations
from core.train.held_out import hold_out
from core.train.learner import check_validates
from core.train.loop import Observer, Trainer
from core.train.memory import recompute
from core.train.seeds import derive_seed, seed_everything
from core.train.signals import StopSignals, interruptible
from core.train.start import start_from
from core.yaml12 import load_yaml

SYSTEM_SECONDS = 10.0  # between two readings of the machine's load


def run(task: Task, config: Any, resume: str | None = None, nested: Nested | None = None) -> int:
    """Trains one model; returns 0, or raises a :class:`core.errors.SkipwayError`.

    Args:
        task: The task.
        config: Its configuration.
        resume: Folder of a run to continue.
        nested: What the run has to do with a parent run, and who follows it.
    """
    task = task.variant(getattr(config, "objective", None))
    if config.train.tune_allocator:
        keep_large_allocations()
    device = choose_device(config.train.device)
    dtype, reason = choose_precision(config.train.precision, device)
    world = distributed.start(device)
    console = make_console(quiet=nested is not None or not world.is_main)
    seed_everything(config.seed, deterministic=config.train.deterministic)
    try:
        # Data and model are checked before a run exists, so that a typo leaves nothing behind.
        config = task.prepare(config)
        data = task.load(config)
        parts, steps = build_parts(task, config, data)
        if nested is not None and nested.validations:
            for part in parts:
                hold_out(part, config.seed)
        if config.train.patience or config.train.validate_every:
            for part in parts:
                check_validates(part.learner)
        _start(task, config, data, parts)
        teachers = _teachers(task, config, parts)
        metric = task.primary_metric(config, data)
        load_policy(task.name, config.promote)
        lines = [
            f"data       {data.name}: {data.size} samples, digest {data.digest[:12]}",
            *(f"           {note}" for note in [*data.notes, *task.notes(parts)]),
            f"device     {device}, {reason}, {torch.get_num_threads()} threads, {world.size} process(es)",
            *_scaled_rate(config.train),
        ]
        for line in lines:
            console.print(line, markup=False)
        run = _open_run(task, config, data, resume, world, console, nested)
        try:
            with interruptible():
                _fit(
                    parts,
                    config,
                    run,
                    console,
                    steps=steps,
                    teachers=teachers,
                    device=device,
                    dtype=dtype,
                    nested=nested,
                )
                if isinstance(run, Run) and (nested is None or nested.tested):
                    _finish(task, config, data, parts, run, console, metric)
                run.finish("FINISHED")
        except BaseException as error:
            with suppress(OSError):  # a full disk takes no record of the end either
                run.finish("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
            if isinstance(error, OSError):
                what = f"{error.filename or run.folder}: {error.strerror or error}"
                raise TrainingError(
                    what if nested else f"{what}; continue with --resume {run.folder}"
                ) from error
            if nested is not None:  # the one that follows it says how to go on
                raise
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(f"interrupted; continue with --resume {run.folder}") from None
            if isinstance(error, Interrupted | TrainingError | PackageError):
                raise type(error)(f"{error}; continue with --resume {run.folder}") from error
            raise
        return 0
    finally:
        distributed.stop()


def build_parts(task: Task, config: Any, data: Any) -> tuple[list[Part], dict[str, int]]:
    """Builds the parts of a run, and the number of optimiser steps of each by its name.

    Raises:
        ConfigError: The configuration does not fit the model, the data or the loop.
    """
    parts = task.parts(config, data)
    steps = {part.name: _total_steps(part, config) for part in parts}
    for part in parts:
        recompute(part.learner, config.train.recompute)
        frozen_modules(part.learner.model, config.train.freeze)  # a wrong name is told before there is a run
    least, warmup = min(steps.values()), config.train.warmup_steps
    if warmup and warmup >= least:
        raise ConfigError(
            f"--train.warmup_steps {warmup} is no shorter than the training of {least} steps; use {least // 10}"
        )
    return parts, steps


def _scaled_rate(train: TrainConfig) -> list[str]:
    """Returns the line that tells of a learning rate that follows the batch size; none where it does not."""
    if train.lr_base_batch is None:
        return []
    return [
        f"rate       {train.lr:g} for a batch of {train.lr_base_batch}: {peak_lr(train):g} for "
        f"{train.batch_size * train.accumulate} (--train.lr_base_batch null takes --train.lr as it is)"
    ]


def _start(task: Task, config: Any, data: Any, parts: list[Part]) -> None:
    """Gives every part the weights of the model that ``--train.start_from`` names."""
    where = config.train.start_from
    if where is None:
        return
    package = find_package(task, where, resolve_uri(config.tracking))
    for part in parts:
        with rebuilding(package):
            weights = task.first_weights(package, part.name, data)
        said = start_from(part.learner.model, weights, where)
        part.note = f"{part.note}; {said}" if part.note else said


def _teachers(task: Task, config: Any, parts: list[Part]) -> dict[str, nn.Module]:
    """Returns the network that each part learns from; empty without ``--train.teacher``."""
    where = config.train.teacher
    if where is None:
        return {}
    package = find_package(task, where, resolve_uri(config.tracking))
    with rebuilding(package):
        teachers = task.modules(package)
    if missing := [part.name for part in parts if part.name not in teachers]:
        raise ConfigError(
            f"--train.teacher {where} has no model for {missing[0]}; it has {', '.join(teachers)}"
        )
    return teachers


def _open_run(
    task: Task,
    config: Any,
    data: Any,
    resume: str | None,
    world: distributed.World,
    console: Console,
    nested: Nested | None,
) -> Run | NullRun:
    """Opens the run on rank 0; the others learn its folder.

    Raises:
        ConfigError: A run is resumed that is finished, or whose data is not what it was.
    """
    if not world.is_main:
        return NullRun(Path(distributed.broadcast_text("")))
    uri = resolve_uri(config.tracking)
    if uri is not None:
        prepare(uri)  # a store that cannot be used is told before there is a run
    root = Path(config.output)
    if resume:
        run = Run.open(root, resume, uri, task.name)
    else:
        name, tags = (nested.name, nested.tags) if nested else ("", {})
        run = Run.create(task.name, root, uri, name=name, tags=tags)
    run.keep_checkpoints = nested is None  # of a comparison they would be most of what it writes and uploads
    if resume and run.record.status == "FINISHED":
        raise ConfigError(f"run {run.id} is finished; --config {run.folder / 'config.yaml'} repeats it")
    if any(known["digest"] != data.digest for known in run.record.datasets):
        raise ConfigError(
            f"{data.name} is not the data that run {run.id} was started on (its digest differs); start a new run"
        )
    console.print(f"run        {run.folder}", markup=False, soft_wrap=True)
    console.print(f"tracking   {public_uri(uri) if uri else 'off'}", markup=False, soft_wrap=True)
    if changes := _changes(run.folder / "config.yaml", dump_config(_public(config))) if resume else "":
        console.print(f"changed    {changes}", markup=False, soft_wrap=True)
    run.save_config(dump_config(_public(config)))
    run.start(seed=config.seed, system_metrics=SYSTEM_SECONDS)
    run.log_params(flatten(to_dict(_public(config))) | (nested.params if nested else {}))
    run.log_dataset(data.name, data.size, data.digest, "training and test")
    distributed.broadcast_text(str(run.folder))
    if nested:
        nested.opened(run)
    return run


def _changes(before: Path, now: str) -> str:
    """Returns the options in which a configuration differs from the one in a file, in words; empty where none does."""
    old, new = flatten(load_yaml(before.read_text(encoding="utf-8"))), flatten(load_yaml(now))
    return ", ".join(
        f"{key} {old.get(key)} -> {new.get(key)}" for key in {**old, **new} if old.get(key) != new.get(key)
    )


def _public(config: Any) -> Any:
    """Returns the configuration without the password that a tracking address may hold, for records."""
    return replace(config, tracking=config.tracking and public_uri(config.tracking))


def _fit(
    parts: list[Part],
    config: Any,
    run: Run | NullRun,
    console: Console,
    *,
    steps: dict[str, int],
    device: torch.device,
    dtype: torch.dtype,
    teachers: Mapping[str, nn.Module] = MappingProxyType({}),
    nested: Nested | None = None,
) -> None:
    """Fits the parts in turn under one progress bar; parts that a resumed run has finished are skipped."""
    limit = config.train.max_time
    end = time.monotonic() + parse_duration(limit) if limit else None
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress, StopSignals() as stop:
        bar = progress.add_task("training", total=sum(steps.values()), loss="")
        before = 0
        for part in parts:
            prefix = f"{part.name}/" if len(parts) > 1 else ""

            def show(done: int, total: int, name: str = part.name, before: int = before) -> None:
                progress.update(bar, completed=before + done, description=name)
                if nested is not None:
                    nested.advance(before + done, sum(steps.values()))

            def log(values: dict[str, float], step: int, prefix: str = prefix) -> None:
                progress.update(bar, loss=f"loss {values['loss']:.4g}" if "loss" in values else "")
                run.log_metrics({f"{prefix}{name}": value for name, value in values.items()}, step)

            def validated(
                value: float,
                metrics: dict[str, float],
                step: int,
                name: str = prefix.rstrip("/"),
                before: int = before,
            ) -> None:
                if nested is not None and nested.validated is not None:
                    nested.validated(name, value, metrics, (before + step) / sum(steps.values()))

            learner = part.learner.to(device)
            if config.train.channels_last:
                learner.to(memory_format=torch.channels_last)  # convolutions hand it on to what they give
            if config.train.compile:
                learner.compile()
            if part.name in teachers:
                learner = distilled(learner, teachers[part.name].to(device), config.train)
            deadline = None
            if end is not None:
                share = steps[part.name] / (sum(steps.values()) - before)
                deadline = time.monotonic() + share * (end - time.monotonic())
            trainer = Trainer(
                learner,
                part.source,
                _watched(config.train, steps[part.name], nested),
                folder=run.checkpoints / part.name,
                total_steps=steps[part.name],
                dtype=dtype,
                seed=derive_seed(config.seed, part.name),
                observer=Observer(show, log, validated),
                deadline=deadline,
                stop=stop,
            )
            result = trainer.fit()
            if result.reason != "finished":
                console.print(f"{part.name}: {result.reason} after step {result.steps} of {steps[part.name]}")
            before += steps[part.name]
            progress.update(bar, completed=before)


def _watched(train: TrainConfig, steps: int, nested: Nested | None) -> TrainConfig:
    """Returns the options of the loop with the validations that a parent asks for, where they have none."""
    if nested is None or not nested.validations or train.validate_every or train.patience:
        return train
    return replace(train, validate_every=max(1, steps // nested.validations))


def _total_steps(part: Part, config: Any) -> int:
    if part.source.steps_per_epoch is None:
        for option in ("epochs", "workers"):
            if getattr(config.train, option):
                raise ConfigError(
                    f"--train.{option} has no meaning here: batches are drawn with replacement, in this process; "
                    "use --train.steps"
                )
    if config.train.steps is not None:
        return per_part(config.train.steps, part.name, "train.steps")
    per_epoch = part.source.steps_per_epoch
    if config.train.epochs is None or per_epoch is None:
        raise ConfigError("set --train.steps" if per_epoch is None else "set --train.steps or --train.epochs")
    return max(1, config.train.epochs * per_epoch // config.train.accumulate)


def _finish(
    task: Task, config: Any, data: Any, parts: list[Part], run: Run, console: Console, metric: str
) -> None:
    """Tests what is shipped: the package is written first, and the model that is scored is read from it."""
    learners = {part.name: part.learner for part in parts}
    package = load_package(save_package(run.package_folder, task.package(config, data, learners), task.name))
    predictor = task.predictor(package)
    with console.status("testing and scoring the baselines"):
        results: dict[str, Evaluation] = {"model": task.evaluate(predictor, config, data)}
        results |= task.baselines(config, data)
    run.log_metrics(scores_of(results), step=0)
    rows = compare(results, metric, task.higher_is_better, task.unit)
    if (samples := results["model"].rows) is not None:
        samples.to_csv(run.folder / "samples.csv", index=False)
    for name, figure in task.figures(predictor, config, data, results):
        run.save_figure(name, figure)
    notes = [*data.notes, *task.notes(parts), *results["model"].notes]
    package = describe(package, task, predictor, run, metric, results, notes)
    report = write_report(run.folder, task, _public(config), data, rows, results, notes)
    baseline = next(name for name in results if name != "model")

    def score(champion: Package) -> float:
        return task.evaluate(task.predictor(champion), config, data).metrics[metric]

    outcome = "not registered, as asked"
    if config.register:
        outcome = register(
            run,
            package,
            task,
            metric=metric,
            value=results["model"].metrics[metric],
            digest=data.digest,
            baseline=(baseline, results[baseline].metrics[metric]),
            promote=config.promote,
            evaluate_champion=score,
        )
    run.finish("FINISHED")
    print_results(console, rows, results, f"{task.title} on {data.name}, held-out data", task.title)
    for label, value in (("report", report), ("package", package.folder), ("registry", outcome)):
        console.print(f"{label:10} {value}", markup=False, soft_wrap=True)
