"""``python -m core.track``: model versions, promotion, and runs that were not uploaded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli import argument_parser, subcommands, with_one_line_errors
from core.errors import TrackingError
from core.track import store

if TYPE_CHECKING:
    from rich.table import Table

_EXAMPLES = """\
  python -m core.track list                                  all versions with their scores and aliases
  python -m core.track promote skipway-forecasting challenger
  python -m core.track promote skipway-forecasting 7
  python -m core.track rollback skipway-forecasting          the former champion comes back
  python -m core.track bundle runs/denoising/RUN model       the package to hand on, with commit, command and scores
  python -m core.track card models:/skipway-ecg@champion     the model card, README.md
  python -m core.track example models:/skipway-ecg@champion  the JSON body of a request to the served model
  python -m core.track runs                                  runs on disk, and whether they were uploaded
  python -m core.track sync runs                             upload what a server that was down has missed
  python -m core.track stale --mark                          runs whose process is gone become KILLED
"""


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(
        "core.track", "Model versions, promotion, and runs that were not uploaded.", _EXAMPLES
    )
    add = subcommands(parser)
    listing = add("list", "list model versions with aliases, scores and baselines")
    listing.add_argument(
        "model", nargs="?", help="registered model, such as skipway-forecasting; all if left out"
    )
    promote = add("promote", "make a version the champion")
    promote.add_argument("model", help="registered model, such as skipway-forecasting")
    promote.add_argument("version", help="number or alias")
    rollback = add("rollback", "bring the previous champion back")
    rollback.add_argument("model", help="registered model, such as skipway-forecasting")
    card = add("card", "print a model card: README.md of a package or a run")
    example = add("example", "print the JSON body of a request to a served model")
    for command in (card, example):
        command.add_argument("model", help="package folder, run folder, models:/NAME@champion or runs:/ID")
    syncing = add("sync", "upload runs whose copy in the store is incomplete")
    for command in (listing, promote, rollback, card, example, syncing):
        command.add_argument(
            "--tracking",
            metavar="URI",
            help="tracking store; default MLFLOW_TRACKING_URI or mlflow.db here (sync: the one of each run)",
        )
    bundling = add("bundle", "write a run's package with its origin and without paths of this machine")
    bundling.add_argument("run", type=Path, help="folder of a finished run")
    bundling.add_argument("target", type=Path, help="folder of the new package")
    runs = add("runs", "list runs on disk")
    stale = add("stale", "list runs that say RUNNING while their process is gone")
    stale.add_argument("--mark", action="store_true", help="set them to KILLED")
    for command in (syncing, runs, stale):
        command.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="default: runs")
    return parser


def _prepare(tracking: str | None) -> None:
    uri = store.resolve_uri(tracking)
    if uri is None:
        raise TrackingError("the model registry needs a tracking store; give --tracking URI")
    path = store.sqlite_path(uri)
    if path is not None and not path.exists():  # a look at the registry must not create a database
        raise TrackingError(
            f"there is no tracking database {path}; give --tracking URI, or train a model first"
        )
    store.prepare(uri)


def _show(table: Table) -> None:
    from rich.console import Console

    # A pipe has no width: nothing may be cut for the program that reads it.
    Console(width=None if sys.stdout.isatty() else 220).print(table)


def _list(model: str | None) -> None:
    from rich.table import Table

    from core.track.registry import list_versions, read_score

    table = Table(
        "model", "version", "aliases", "metric", "value", "baseline", "data", "run", "created (UTC)"
    )
    for row in list_versions(model):
        score = read_score(row.tags)
        against = ""
        if score is not None and score.baseline_value is not None:
            against = f"{score.baseline} {score.baseline_value:.5g}"
        table.add_row(
            row.model,
            row.version,
            ", ".join(row.aliases),
            score.metric if score else "",
            f"{score.value:.5g}" if score else "",
            against,
            score.digest[:12] if score else "",
            row.tags.get("run", ""),
            f"{row.created:%Y-%m-%d %H:%M}",
        )
    if not table.rows:
        print(f"no model is registered in {store.public_uri(store.current())} yet")
        return
    _show(table)


def _runs(root: Path) -> None:
    from rich.table import Table

    from core.track.folder import is_stale, list_runs, read_runs

    table = Table("run", "task", "status", "store", "uploaded")
    for _, record in read_runs(list_runs(root)):
        status = f"{record.status} (process gone)" if is_stale(record) else record.status
        uploaded = "-" if record.tracking is None else "yes" if record.sync.get("complete") else "no"
        table.add_row(record.id, record.task, status, record.tracking or "none", uploaded)
    if not table.rows:
        print(f"there is no run in {root}")
        return
    _show(table)


def _stale(root: Path, mark: bool) -> None:
    from core.track.folder import is_stale, list_runs, mark_stale, read_runs

    found = (
        mark_stale(root) if mark else [run for run, record in read_runs(list_runs(root)) if is_stale(record)]
    )
    for folder in found:
        print(f"{folder}: {'marked KILLED' if mark else 'its process is gone'}")
    if not found:
        print(f"no stale run in {root}")
    elif mark:
        print(f"tell the store too: python -m core.track sync {root}")


def _sync(root: Path, tracking: str | None) -> int:
    from core.track.sync import sync

    uri = store.resolve_uri(tracking) if tracking else None
    if tracking and uri is None:
        raise TrackingError("sync uploads to a tracking store; give --tracking URI")
    failed = count = 0
    for outcome in sync(root, uri):
        count += 1
        failed += not outcome.ok
        print(f"{outcome.folder}: {outcome.text}", file=sys.stdout if outcome.ok else sys.stderr)
    if not count:
        print(f"every run in {root} is uploaded")
    return 1 if failed else 0


def _show_model(command: str, where: str, tracking: str | None) -> None:
    from core.task import task_of
    from core.track.card import card_of, completed
    from core.track.folder import RECORD, read_record
    from core.track.package import load_package
    from core.track.resolve import fetch
    from core.track.schema import request_body, text_of

    package = load_package(fetch(where, store.resolve_uri(tracking)))
    task = task_of(package)
    if command == "example":
        print(text_of(request_body(*task.example(task.predictor(package)))))
        return
    folder = Path(where)
    record = read_record(folder) if (folder / RECORD).is_file() else None
    print(card_of(completed(package, task, record), task), end="")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return with_one_line_errors(_work, arguments)


def _work(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    if options.command == "sync":
        return _sync(options.folder, options.tracking)
    if options.command == "runs":
        _runs(options.folder)
    elif options.command == "bundle":
        from core.track.bundle import bundle

        print(bundle(options.run, options.target))
    elif options.command in ("card", "example"):
        _show_model(options.command, options.model, options.tracking)
    elif options.command == "stale":
        _stale(options.folder, options.mark)
    else:
        _prepare(options.tracking)
        from core.track import registry

        if options.command == "list":
            _list(options.model)
        elif options.command == "promote":
            print(registry.promote(options.model, options.version))
        else:
            print(registry.rollback(options.model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
