"""``python -m core.report``: the gallery of all runs, and a run's report written again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.cli import argument_parser, subcommands, with_one_line_errors

_EXAMPLES = """\
  python -m core.report gallery --open                       the latest report of each task, runs/gallery.html
  python -m core.report gallery --runs runs --all            a card for every run
  python -m core.report report runs/forecasting/RUN          write a run's report.html again
"""


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(
        "core.report", "The gallery of all runs, and a run's report written again.", _EXAMPLES
    )
    add = subcommands(parser)
    gallery = add("gallery", "write one page with the latest report of each task and a table of all runs")
    gallery.add_argument(
        "--output", type=Path, metavar="FILE", help="default: gallery.html in the folder of runs"
    )
    gallery.add_argument("--all", action="store_true", help="a card for every run, not one for each task")
    gallery.add_argument("--open", action="store_true", help="show it in the browser")
    report = add("report", "write a run's report.html again from its folder")
    report.add_argument("run", help="folder or id of the run")
    for command in (gallery, report):
        command.add_argument(
            "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs, default: runs"
        )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return with_one_line_errors(_work, arguments)


def _work(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    if options.command == "report":
        from core.report.html import rewrite_report
        from core.track.folder import find_run

        print(rewrite_report(find_run(options.runs, options.run)))
        return 0
    from core.report.gallery import write_gallery

    path, count = write_gallery(options.runs, options.output, options.all)
    print(f"{path}: {count} run{'' if count == 1 else 's'}")
    if options.open:
        import webbrowser

        webbrowser.open(path.as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
