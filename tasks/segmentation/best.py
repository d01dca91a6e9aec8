"""``python -m tasks.segmentation.best``: the best of several cross-validated models, or of two together.

nnU-Net's choice of a configuration (Isensee et al., Nature Methods 2021, "Empirical parameters"): each case is
segmented by the networks that have not seen it; of single models and of all pairs, whose probabilities are averaged,
the one with the highest mean Dice is taken, and post-processing is decided for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import run_command
from core.errors import ConfigError
from tasks.segmentation.config import BestConfig

if TYPE_CHECKING:
    from rich.table import Table

    from core.task import Packaged, Task
    from core.track.package import Package
    from tasks.segmentation.candidates import Candidate
    from tasks.segmentation.segmenter import Segmenter

EXAMPLES = """\
  python -m tasks.segmentation.best --models '[runs/2d, runs/3d]' --output best
  python -m tasks.segmentation.predict --model best --input scans
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    from tasks.segmentation.task import TASK

    return run_command(
        "tasks.segmentation.best",
        BestConfig,
        partial(run, TASK),
        argv,
        description="Chooses the best of several cross-validated models, or of two together.",
        examples=EXAMPLES,
    )


def run(task: Task, config: BestConfig) -> int:
    """Compares the models, writes the package of the winner and prints a table; returns 0.

    Raises:
        ConfigError: A model is no cross-validation, or they are not of the same data and split.
    """
    from rich.progress import Progress

    from core.commands.evaluate import as_trained
    from core.commands.load import find_package
    from core.commands.results import make_console
    from core.track.package import METADATA, save_package
    from core.track.store import resolve_uri
    from core.train.hardware import keep_large_allocations
    from tasks.segmentation.candidates import best_of, compare, dice_after, held_out
    from tasks.segmentation.checks import apply_options
    from tasks.segmentation.postprocess import Postprocessing, choose_postprocessing
    from tasks.segmentation.scoring import scored

    if not config.models:
        raise ConfigError("give --models '[runs/a, runs/b]': the models to choose from")
    output = Path(config.output)
    taken = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if taken and not (output / METADATA).is_file():
        raise ConfigError(f"--output {output} exists and is no model package; name a new folder")
    keep_large_allocations()
    uri = resolve_uri(config.tracking)
    packages = {where: find_package(task, where, uri) for where in config.models}
    check_comparable(packages)
    first = next(iter(packages.values()))
    config, _ = as_trained(task, config, first)
    data: Any = task.load(config)
    if data.digest != first.metadata["data"]["digest"]:
        raise ConfigError(
            f"{data.name} is not what the models were trained on, or is split in another way: give the --data options"
            " of their training, or none"
        )
    segmenters = [task.predictor(package) for package in packages.values()]
    for segmenter in segmenters:
        apply_options(segmenter, config.scoring)
    check_outputs(dict(zip(packages, segmenters, strict=True)))
    console = make_console()
    with Progress(console=console, transient=True) as progress:
        candidates = compare(segmenters, list(packages), data, progress)
    winner = best_of(candidates)
    console.print(results_table(candidates, winner, [name for name, _ in scored(data.labels)]))
    pairs = held_out(winner, data)
    chosen, why = choose_postprocessing(pairs, segmenters[winner.members[0]].labels)
    for line in why:
        console.print(line, markup=False)
    told = {
        "postprocessing": why,
        "selection": {
            "models": [list(packages)[i] for i in winner.members],
            "dice": {candidate.name: candidate.dice for candidate in candidates},
        },
    }
    members = [list(packages.values())[i] for i in winner.members]
    folder = save_package(output, pack(members, chosen.to_dict(), told), task.name)
    said = f"written    {folder}: {winner.name}, Dice {winner.dice:.3f}"
    if chosen != Postprocessing():
        said += f", {dice_after(chosen, pairs, data.labels):.3f} after post-processing"
    console.print(said, markup=False, soft_wrap=True)
    return 0


def check_comparable(packages: dict[str, Package]) -> None:
    """Raises ``ConfigError`` unless all models were cross-validated on the same data with the same folds."""
    first, *_ = packages.items()
    for where, package in packages.items():
        if package.config["objective"] == "masked":
            raise ConfigError(
                f"--models: {where} was pre-trained without labels and segments nothing; fine-tune it with "
                "--train.start_from, and name the result"
            )
        if package.config["members"]:
            raise ConfigError(
                f"--models: {where} is no single segmentation model; name the models it is made of"
            )
        if len(package.config["folds"]) < 2:
            raise ConfigError(
                f"--models: {where} was trained without cross-validation, so that its held-out cases say little; "
                "train it with --data.folds 5"
            )
        if package.config["folds"] != first[1].config["folds"] or (
            package.metadata["data"]["digest"] != first[1].metadata["data"]["digest"]
        ):
            raise ConfigError(
                f"--models: {where} was trained on other data, or on another split of them, than {first[0]}; "
                "train both with equal --data options"
            )


def check_outputs(segmenters: dict[str, Segmenter]) -> None:
    """Raises ``ConfigError`` unless the probabilities of all models mean the same."""
    first, *_ = segmenters.items()
    for where, segmenter in segmenters.items():
        if segmenter.labels != first[1].labels:
            raise ConfigError(
                f"--models: {where} has other outputs than {first[0]}, and cannot be averaged with it; "
                "train both with equal --model.sigmoid"
            )


def pack(packages: Sequence[Package], postprocessing: dict[str, Any], told: dict[str, Any]) -> Packaged:
    """Returns the content of the winner's package: the model's own, or an ensemble of two.

    Args:
        packages: One or two.
        postprocessing: What was decided for them.
        told: Enters the metadata.
    """
    from core.task import Packaged
    from core.track.package import RESERVED
    from tasks.segmentation.build import as_part

    # What models of the same data say is the same but for their plans. `base` belongs to weights that are stored as a
    # difference, which these are no longer.
    metadata = {k: v for k, v in packages[0].metadata.items() if k not in RESERVED | {"base"}} | told
    first = packages[0].config
    if len(packages) == 1:
        return Packaged({**first, "postprocessing": postprocessing}, packages[0].tensors(), metadata)
    config = {
        **{key: first[key] for key in ("objective", "labels", "channels", "folds")},
        "plan": None,
        "model": None,
        "postprocessing": postprocessing,
        "previous": None,
        "members": [as_part(package) for package in packages],
    }
    tensors = {
        f"{i}.{key}": tensor
        for i, package in enumerate(packages)
        for key, tensor in package.tensors().items()
    }
    return Packaged(config, tensors, metadata)


def results_table(candidates: Sequence[Candidate], winner: Candidate, targets: Sequence[str]) -> Table:
    """Draws the scores in percent, the best one marked."""
    from rich.table import Table

    table = Table(title="Dice on the held-out cases, %")
    for column in ("", *targets, "mean"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for candidate in candidates:
        cells = [f"{100 * value:.2f}" for value in [*candidate.targets, candidate.dice]]
        best = candidate is winner
        table.add_row(f"{candidate.name} *" if best else candidate.name, *cells, style="bold" if best else "")
    return table


if __name__ == "__main__":
    sys.exit(main())
