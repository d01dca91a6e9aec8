"""Plans the configurations of a data set: ``python -m tasks.segmentation.plan --help``."""

from __future__ import annotations

import json
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, DataError, SkipwayError
from core.parser import parse
from tasks.segmentation.config import DataConfig, PlanConfig

if TYPE_CHECKING:
    from tasks.segmentation.planning.fingerprint import Fingerprint
    from tasks.segmentation.planning.planner import Plans

EXAMPLES = """Examples:
  python -m tasks.segmentation.plan --data.path Dataset004_Hippocampus
  python -m tasks.segmentation.plan --data.path Dataset004_Hippocampus --plan.preset resenc_l --plan.memory 16
  python -m tasks.segmentation.plan --fingerprint dataset_fingerprint.json --dataset dataset.json"""
TRAINING_ONLY = ("configuration", "file", "previous", "patch_size", "batch_size", "max_batch")


@dataclass
class PlanCommandConfig:
    """Plans a data set.

    Args:
        data: Images and labels.
        plan: Rules: preset (all of them, if it is not given), memory, spacing and normalisation.
        output: Folder for dataset_fingerprint.json, the plans and plan.log.
        fingerprint: dataset_fingerprint.json of nnU-Net, in place of data.
        dataset: The dataset.json that belongs to it.
    """

    data: DataConfig = field(default_factory=DataConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    output: str = "plans"
    fingerprint: str | None = None
    dataset: str | None = None
    given: tuple[str, ...] = ()


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        config = parse(
            PlanCommandConfig,
            argv,
            prog="python -m tasks.segmentation.plan",
            description="Plans networks, patches and batches from a data set by nnU-Net's rules, and says why.",
            epilog=EXAMPLES,
        )
        return run(config)
    except SkipwayError as error:
        if "--debug" in argv:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def run(config: PlanCommandConfig) -> int:
    """Plans, prints and writes; returns the exit code.

    Raises:
        ConfigError: Options do not fit each other.
        DataError: The data cannot be used.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from core.files import make_folder
    from tasks.segmentation.planning.nnunet_json import write_plans
    from tasks.segmentation.planning.planner import make_plans
    from tasks.segmentation.planning.presets import PRESETS
    from tasks.segmentation.planning.topology import times

    if wrong := [option for option in TRAINING_ONLY if f"plan.{option}" in config.given]:
        raise ConfigError(f"--plan.{wrong[0]} is an option of training, not of planning; leave it off")
    if config.plan.memory is not None and config.plan.memory <= 0:
        raise ConfigError("--plan.memory must be above 0")
    if (config.fingerprint is None) != (config.dataset is None):
        raise ConfigError("--fingerprint and --dataset belong together: give both, or --data.path")
    if (spacing := config.plan.spacing) and (len(spacing) != 3 or min(spacing) <= 0):
        raise ConfigError("--plan.spacing takes three numbers above 0, first axis of the files first")
    output = make_folder(Path(config.output), "--output")
    fingerprint, facts = _of_files(config) if config.fingerprint else _of_data(config, output)
    plans: list[Plans] = []
    start = time.perf_counter()
    for preset in [config.plan.preset] if "plan.preset" in config.given else PRESETS:
        plans.append(
            make_plans(
                fingerprint,
                preset=preset,
                memory=config.plan.memory,
                spacing=config.plan.spacing,
                normalisation=config.plan.normalisation,
                **facts,
            )
        )
    took = 1000 * (time.perf_counter() - start)

    table = Table(title=facts["name"], box=SIMPLE)
    for column in ("preset", "configuration", "spacing, mm", "patch", "batch", "stages"):
        table.add_column(column, no_wrap=True)
    for each in plans:
        for name, plan in each.configurations.items():
            rounded = times([float(f"{mm:.3g}") for mm in plan.spacing])
            size = (str(plan.batch_size), str(len(plan.strides)))
            table.add_row(each.preset, name, rounded, times(plan.patch_size), *size)
        table.add_section()
    lines = [line for each in plans for line in (f"{each.plans_name}:", *(f"  {why}" for why in each.why))]
    count = sum(len(each.configurations) for each in plans)
    largest = max(plan.batch_size for each in plans for plan in each.configurations.values())
    if largest > config.plan.max_batch:
        lines.append(
            f"batches up to {largest}: training caps them at --plan.max_batch {config.plan.max_batch}"
        )
    console = Console()
    console.print(table)
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{count} configuration{'s' * (count > 1)} planned in {took:.1f} ms; written to {output}",
        soft_wrap=True,
    )

    (output / "dataset_fingerprint.json").write_text(json.dumps(fingerprint.to_json(), indent=4) + "\n")
    (output / "plan.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for each in plans:
        write_plans(each, output / f"{each.plans_name}.json")
    return 0


def _of_data(config: PlanCommandConfig, output: Path) -> tuple[Fingerprint, dict[str, Any]]:
    """Looks at the data, and writes its folds; returns the fingerprint and what else the planner asks for."""
    from tasks.segmentation.data.load import load_data
    from tasks.segmentation.data.split import write_splits
    from tasks.segmentation.planning.choose import count_labels, fingerprint_of

    data = load_data(config.data)
    for note in data.notes:
        print(note)
    if config.data.folds:
        write_splits(data.folds, data.cases, output / "splits_final.json")
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
            "labels_count": len(stored["labels"]),
            "channels": [names[key] for key in sorted(names, key=int)],
            "name": stored.get("name") or path.absolute().parent.name,
            "training_cases": stored["numTraining"],
            "reader": stored.get("overwrite_image_reader_writer") or _reader(stored["file_ending"], flat),
        }
    except KeyError as error:
        raise DataError(f"{path}: {error} is missing; it should be the dataset.json of nnU-Net v2") from None
    if len(facts["channels"]) != len(fingerprint.intensities):
        raise DataError(
            f"{path} names {len(facts['channels'])} channels, and the fingerprint has {len(fingerprint.intensities)}"
        )
    return fingerprint, facts


def _reader(ending: str, flat: bool) -> str:
    """Returns nnU-Net's class that reads files of this kind."""
    if ending in (".tif", ".tiff"):
        return "NaturalImage2DIO" if flat else "Tiff3DIO"
    return "NaturalImage2DIO" if ending in (".png", ".bmp") else "SimpleITKIO"


if __name__ == "__main__":
    sys.exit(main())
