"""``python -m tasks.csi.generate``: channels as files, in the layout of CSI-4CAST's data."""

from __future__ import annotations

import sys
from pathlib import Path

from core.cli import run_command
from core.errors import ConfigError
from tasks.csi.config import GenerateConfig

EXAMPLES = """\
  python -m tasks.csi.generate --output csi_rrg
  python -m tasks.csi.generate --output csi_small --data.rows 2 --data.columns 2 --data.samples 100
  python -m tasks.csi.generate --output csi_e --part test --data.test_models '[E]' --data.test_speeds '[1, 10]'
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return run_command(
        "tasks.csi.generate",
        GenerateConfig,
        run,
        argv,
        description="Generates channels by the CDL models of 3GPP TR 38.901. What is there already is kept.",
        examples=EXAMPLES,
    )


def run(config: GenerateConfig) -> int:
    """Generates what is missing and says what was written; returns 0.

    Raises:
        ConfigError: An option is missing or wrong.
        DataError: The folder holds other channels, or cannot be written.
    """
    from core.commands.results import make_console
    from tasks.csi.data.checks import check_data, conditions_of
    from tasks.csi.data.generator import PARTS, ensure_channels, part_folder

    if not config.output:
        raise ConfigError("give --output FOLDER: where the channels are written")
    data, output = config.data, Path(config.output)
    if data.path or data.cache or data.name == "files":
        option = "path" if data.path else "cache" if data.cache else "name"
        raise ConfigError(f"--data.{option}: the channels are generated into --output; leave it off")
    check_data(data)
    console = make_console()
    for part in PARTS if config.part == "both" else (config.part,):
        samples = data.test_samples if part == "test" else data.samples
        if not samples:
            continue
        conditions = conditions_of(data, part)
        made = ensure_channels(output, data, data.seed, part, conditions, samples, data.workers, console)
        kept = f"; {len(conditions) - made} were there" if made < len(conditions) else ""
        console.print(
            f"written    {part_folder(output, part)}: {made} conditions of {samples:,} samples{kept}",
            markup=False,
            soft_wrap=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
