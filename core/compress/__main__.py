"""``python -m core.compress``: stores a fine-tuned model as its difference from a base."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli import argument_parser, subcommands, with_one_line_errors
from core.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from core.compress.package import Shrunk

_EXAMPLES = """\
  python -m core.compress shrink --model runs/forecasting/RUN \\
      --base models:/skipway-forecasting/1 --rank 8 --output small
  python -m core.compress shrink --model models:/skipway-forecasting@challenger \\
      --base models:/skipway-forecasting@champion --rank 8 --register
  python -m tasks.forecasting.evaluate --model small          the shrunk model is used as any other
"""


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(
        "core.compress", "Stores a fine-tuned model as its difference from a base.", _EXAMPLES
    )
    text = "keep truncated singular values of the difference from a base, which must stay where it is"
    command = subcommands(parser)("shrink", text)
    command.add_argument(
        "--model", required=True, help="models:/NAME/3, models:/NAME@champion, runs:/ID or a folder"
    )
    command.add_argument(
        "--base", required=True, help="the model that it was fine-tuned from; the same forms"
    )
    command.add_argument("--rank", type=int, help="largest rank of a weight's difference; default: its own")
    command.add_argument(
        "--energy", type=float, help="share of a difference's squared norm to keep, such as 0.99"
    )
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for the package; an older one is replaced"
    )
    command.add_argument(
        "--register", action="store_true", help="make it a version, the challenger, in a run of its own"
    )
    command.add_argument(
        "--tracking", metavar="URI", help="tracking store; default MLFLOW_TRACKING_URI or mlflow.db here"
    )
    return parser


def _register(shrunk: Shrunk, model: str, uri: str | None) -> str:
    """Logs the package in a new run of the store and makes it a version; returns a sentence."""
    from core.compress.package import save
    from core.task import load_task
    from core.track import registry
    from core.track.run import Run

    task = load_task(shrunk.task)
    run = Run.create(shrunk.task, Path("runs"), uri)
    run.start()
    try:
        save(shrunk, run.package_folder)
        run.log_params(
            {"model": model, **shrunk.packaged.metadata["base"], **shrunk.packaged.metadata["lowrank"]}
        )
    except BaseException:
        run.finish("FAILED")
        raise
    run.finish()
    if run.mlflow_run_id is None or "model" not in run.record.sync:
        raise TrackingError(
            f"not registered: the store took no model; the package is in {run.package_folder}"
        )
    tags = {
        "run": run.id,
        "task": shrunk.task,
        "base": shrunk.packaged.metadata["base"]["model"],
        "shrunk": model,
    }
    version = registry.create_version(task.registered_name, run.record.sync["model"], run.mlflow_run_id, tags)
    return (
        f"{task.registered_name} version {version} is the {registry.CHALLENGER}; it was registered without a score. "
        f"To use it: python -m core.track promote {task.registered_name} {version}"
    )


def _shrink(options: argparse.Namespace) -> None:
    if options.output is None and not options.register:
        raise ConfigError("give --output DIR, --register or both: where shall the package go?")
    if options.output is not None and (options.output.is_file() or options.output.resolve() == Path.cwd()):
        raise ConfigError(f"--output {options.output} is no folder for a package; give a new one")
    from rich.console import Console
    from rich.table import Table

    from core.compress.package import save, shrink
    from core.track.store import resolve_uri

    uri = resolve_uri(options.tracking)
    if options.register and uri is None:
        raise ConfigError("--register needs a tracking store; give --tracking URI")
    shrunk = shrink(options.model, options.base, options.rank, options.energy, uri)
    if options.register and not shrunk.registered:
        raise ConfigError(
            f"--register: the base {options.base} is a folder of this machine, which a registered model cannot "
            "rely on; give a registered base, models:/NAME/VERSION"
        )
    table = Table("weights before", "after", "of before", "as factors", "as they are", "largest difference")
    table.add_row(
        f"{shrunk.before:,} bytes",
        f"{shrunk.after:,} bytes",
        f"{100 * shrunk.after / shrunk.before:.1f} %",
        str(shrunk.factored),
        str(shrunk.whole),
        f"{shrunk.difference:.3g}",
    )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if options.output is not None:
        print(f"written {save(shrunk, options.output).folder}")
    if options.register:
        print(_register(shrunk, options.model, uri))


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""

    def work(argv: list[str]) -> int:
        _shrink(_parser().parse_args(argv))
        return 0

    return with_one_line_errors(work, arguments)


if __name__ == "__main__":
    sys.exit(main())
