"""``python -m tasks.detection.convert``: COCO, Pascal VOC and YOLO, each into the others."""

from __future__ import annotations

import sys
from pathlib import Path

from core.cli import run_command
from core.errors import ConfigError
from tasks.detection.config import ConvertConfig, DataConfig

SPLITS = ("group", "test_share", "validation_share", "train_share")
"""Options of a training that have no meaning here."""
EXAMPLES = """\
  python -m tasks.detection.convert --data.path VOC2007 --format coco --output voc2007_coco
  python -m tasks.detection.convert --data.path BCCD --data.classes '[WBC]' --format yolo --output white_cells
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return run_command(
        "tasks.detection.convert",
        ConvertConfig,
        run,
        argv,
        description="Rewrites a data set as COCO, Pascal VOC or YOLO. Parts stay as they are, images are linked.",
        examples=EXAMPLES,
    )


def run(config: ConvertConfig) -> int:
    """Writes the data set and says what was lost; returns 0.

    Raises:
        ConfigError: A path is missing, or the output exists.
        DataError: The data cannot be read.
    """
    from core.commands.results import make_console
    from tasks.detection.data.load import read_found
    from tasks.detection.data.write import write_dataset

    if not config.data.path:
        raise ConfigError("give --data.path FOLDER: the data set to convert")
    if config.data.test_path:
        raise ConfigError("--data.test_path: convert one data set at a time, with --data.path")
    default = DataConfig()
    for name in SPLITS:
        if getattr(config.data, name) != getattr(default, name):
            raise ConfigError(f"--data.{name}: the parts of a converted set stay as they are; leave it off")
    if not config.output:
        raise ConfigError("give --output FOLDER: where the new data set is written")
    output = Path(config.output)
    found = read_found(config.data)
    lost = write_dataset(found, output, config.format)
    console = make_console()
    for line in [*found.notes, *lost]:
        console.print(f"note       {line}", markup=False, soft_wrap=True)
    counts = ", ".join(
        f"{name} {len(part):,} images with {len(part.boxes):,} objects" for name, part in found.parts.items()
    )
    console.print(f"written    {output}: {config.format}, {counts}", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
