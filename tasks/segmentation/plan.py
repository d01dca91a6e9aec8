"""Plans the configurations of a data set: ``python -m tasks.segmentation.plan --help``."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import run_command
from core.errors import ConfigError, DataError
from tasks.segmentation.config import PlanCommandConfig

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.segmentation.data.cases import SegmentationData
    from tasks.segmentation.planning.fingerprint import Fingerprint
    from tasks.segmentation.planning.planner import Plans

EXAMPLES = """\
  python -m tasks.segmentation.plan --data.path Dataset004_Hippocampus
  python -m tasks.segmentation.plan --data.path Dataset004_Hippocampus --plan.preset resenc_l --plan.memory 16
  python -m tasks.segmentation.plan --fingerprint dataset_fingerprint.json --dataset dataset.json"""
TRAINING_ONLY = ("configuration", "file", "previous", "patch_size", "max_batch")


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return run_command(
        "tasks.segmentation.plan",
        PlanCommandConfig,
        run,
        argv,
        description="Plans networks, patches and batches from a data set by nnU-Net's rules, and says why.",
        examples=EXAMPLES,
    )


def run(config: PlanCommandConfig) -> int:
    """Plans, prints and writes; returns the exit code.

    Raises:
        ConfigError: Options do not fit each other.
        DataError: The data cannot be used.
    """
    from core.commands.results import make_console
    from core.files import make_folder
    from tasks.segmentation.planning.choose import asked_spacing
    from tasks.segmentation.planning.planner import make_plans
    from tasks.segmentation.planning.presets import PRESETS

    _check(config)
    output = make_folder(Path(config.output), "--output")
    data = None if config.fingerprint else _load(config)
    fingerprint, facts = _of_files(config) if data is None else _of_data(data)
    spacing = asked_spacing(config.plan.spacing, fingerprint.flat)
    plans: list[Plans] = []
    start = time.perf_counter()
    for preset in [config.plan.preset] if "plan.preset" in config.given else PRESETS:
        plans.append(
            make_plans(
                fingerprint,
                preset=preset,
                memory=config.plan.memory,
                spacing=spacing,
                normalisation=config.plan.normalisation,
                **facts,
            )
        )
    took = 1000 * (time.perf_counter() - start)

    lines = [line for each in plans for line in (f"{each.plans_name}:", *(f"  {why}" for why in each.why))]
    count = sum(len(each.configurations) for each in plans)
    largest = max(plan.batch_size for each in plans for plan in each.configurations.values())
    if largest > config.plan.max_batch:
        lines.append(
            f"batches up to {largest}: training caps them at --plan.max_batch {config.plan.max_batch}"
        )
    console = make_console()
    try:
        _write(output, fingerprint, plans, lines, data if config.data.folds else None)
    finally:
        # What was planned is shown even where it cannot be written.
        console.print(_table(facts["name"], plans))
        console.print("\n".join(lines), markup=False, soft_wrap=True)
    console.print(
        f"{count} configuration{'s' * (count > 1)} planned in {took:.1f} ms; written to {output}",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _check(config: PlanCommandConfig) -> None:
    if wrong := [option for option in TRAINING_ONLY if f"plan.{option}" in config.given]:
        raise ConfigError(f"--plan.{wrong[0]} is an option of training, not of planning; leave it off")
    if config.plan.memory is not None and not 0 < config.plan.memory < math.inf:
        raise ConfigError("--plan.memory must be above 0, and finite")
    if not all(0 < mm < math.inf for mm in config.plan.spacing or []):
        raise ConfigError("--plan.spacing must be above 0, and finite")
    if (config.fingerprint is None) != (config.dataset is None):
        raise ConfigError("--fingerprint and --dataset belong together: give both, or --data.path")
    of_data = [option for option in config.given if option.startswith("data.")]
    if config.fingerprint and of_data:
        raise ConfigError(f"--fingerprint stands in place of data; leave it or --{of_data[0]} off")


def _table(name: str, plans: list[Plans]) -> Table:
    """Draws a row for each configuration, in the 80 columns of a terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(name), box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("preset", "configuration", "spacing, mm", "patch", "batch", "stages"):
        table.add_column(column, no_wrap=True)
    for each in plans:
        for configuration, plan in each.configurations.items():
            spacing = "x".join(f"{mm:.3g}" for mm in plan.spacing)
            sizes = ("x".join(map(str, plan.patch_size)), str(plan.batch_size), str(len(plan.strides)))
            table.add_row(each.preset, configuration, spacing, *sizes)
    return table


def _write(
    output: Path,
    fingerprint: Fingerprint,
    plans: list[Plans],
    lines: list[str],
    data: SegmentationData | None,
) -> None:
    """Writes all files; those of the folds too where data are given.

    Raises:
        ConfigError: They cannot be written, or nnU-Net lacks what they would name.
    """
    from core.track.folder import write_atomic
    from tasks.segmentation.data.split import write_splits
    from tasks.segmentation.planning.nnunet_json import write_plans

    try:
        write_atomic(output / "dataset_fingerprint.json", json.dumps(fingerprint.to_json(), indent=4) + "\n")
        write_atomic(output / "plan.log", "\n".join(lines) + "\n")
        if data is not None:
            write_splits(data.folds, data.cases, output / "splits_final.json")
        for each in plans:
            write_plans(each, output / f"{each.plans_name}.json")
    except OSError as error:
        raise ConfigError(
            f"--output {output}: {error.filename2 or error.filename or 'a file'} cannot be written"
            f" ({error.strerror}); choose another folder"
        ) from None


def _load(config: PlanCommandConfig) -> SegmentationData:
    from tasks.segmentation.data.load import load_data

    data = load_data(config.data)
    for note in data.notes:
        print(note)
    return data


def _of_data(data: SegmentationData) -> tuple[Fingerprint, dict[str, Any]]:
    """Returns the fingerprint and what else the planner asks for."""
    from tasks.segmentation.planning.choose import count_labels, fingerprint_of

    return fingerprint_of(data), {
        "labels_count": count_labels(data.labels),
        "channels": data.channels,
        "name": data.name,
        "reader": _reader(data.cases[0].geometry.ending, data.flat),
    }


def _of_files(config: PlanCommandConfig) -> tuple[Fingerprint, dict[str, Any]]:
    """Reads nnU-Net's files; returns the same as :func:`_of_data`."""
    from tasks.segmentation.planning.fingerprint import read_fingerprint, read_json

    path = Path(str(config.dataset))
    fingerprint, stored = read_fingerprint(Path(str(config.fingerprint))), read_json(path)
    flat = all(shape[0] == 1 for shape in fingerprint.shapes)
    try:
        names = stored.get("channel_names") or stored["modality"]
        facts = {
            "labels_count": len(_typed(stored, "labels", dict)),
            "channels": [str(names[key]) for key in sorted(names.keys(), key=int)],
            "name": str(stored.get("name") or path.absolute().parent.name),
            "training_cases": _typed(stored, "numTraining", int),
            "reader": str(
                stored.get("overwrite_image_reader_writer")
                or _reader(_typed(stored, "file_ending", str), flat)
            ),
        }
        if facts["training_cases"] < 1:
            raise ValueError(f"numTraining is {facts['training_cases']}")
    except KeyError as error:
        raise DataError(f"{path}: {error} is missing; it should be the dataset.json of nnU-Net v2") from None
    except AttributeError:
        raise DataError(f"{path}: channel_names is no JSON object of numbers and names") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}; it should be the dataset.json of nnU-Net v2") from None
    if len(facts["channels"]) != len(fingerprint.intensities):
        raise DataError(
            f"{path} names {len(facts['channels'])} channels, and the fingerprint has {len(fingerprint.intensities)}"
        )
    return fingerprint, facts


def _typed(stored: dict[str, Any], key: str, kind: type) -> Any:
    value = stored[key]
    # In Python, true is an integer.
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {dict: "an object", int: "a whole number", str: "a string"}
        raise TypeError(f"{key} is {value!r} and not {words[kind]}")
    return value


def _reader(ending: str, flat: bool) -> str:
    """Returns nnU-Net's class that reads files of this kind."""
    if ending in (".tif", ".tiff"):
        return "NaturalImage2DIO" if flat else "Tiff3DIO"
    return "NaturalImage2DIO" if ending in (".png", ".bmp") else "SimpleITKIO"


if __name__ == "__main__":
    sys.exit(main())
