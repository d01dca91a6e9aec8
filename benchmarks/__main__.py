"""``python -m benchmarks``: runs the benchmarks in turn and writes ``docs/benchmarks.md``.

Each is a process of its own; its peers are installed once, into a folder that git ignores. The page is written after
each benchmark, so that nothing is lost if a later one fails: its old section then stays.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.page import SCRIPTS, Script, assemble, split_page

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def main(argv: list[str] | None = None) -> int:
    """Runs what is asked for; returns 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", help=f"benchmarks with commas between, of {', '.join(SCRIPTS)}; all by default"
    )
    parser.add_argument(
        "--peers", type=Path, default=Path(".peers"), help="folder that pip installs peers into"
    )
    parser.add_argument(
        "--output", type=Path, default=PAGE, help="page; sections that are not measured are kept"
    )
    parser.add_argument("--tracking", help="MLflow tracking URI with the champions that serving needs")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether all works, no figures")
    options = parser.parse_args(argv)
    if options.quick and options.output.resolve() == PAGE:
        parser.error(f"--quick measures nothing worth keeping; give another --output than {PAGE}")
    names = (
        options.only.split(",") if options.only else [name for name in SCRIPTS if _possible(name, options)]
    )
    for name in names:
        if name not in SCRIPTS:
            parser.error(f"--only: there is no benchmark {name!r}; there are {', '.join(SCRIPTS)}")
        if not _possible(name, options):
            parser.error(f"{name} needs --tracking URI")
    options.peers.mkdir(parents=True, exist_ok=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        print(f"benchmarks.{name} ...", file=sys.stderr, flush=True)
        section = run(name, options)
        if section is None:
            failed.append(name)
            continue
        sections = split_page(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
        sections[SCRIPTS[name].title] = section
        temporary = options.output.with_suffix(".part")
        temporary.write_text(assemble(sections), encoding="utf-8")
        temporary.replace(options.output)
    if failed:
        print(f"failed, and their sections are as before: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, options: argparse.Namespace) -> str | None:
    """Returns the section that a benchmark prints; ``None`` if it fails, which it says on standard error."""
    script = SCRIPTS[name]
    # A second core of an idle machine is part of what is measured where one thread is not asked for.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if script.one_thread:
        environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", f"benchmarks.{name}", *command_options(script, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode or not done.stdout.startswith(f"## {script.title}\n"):
        print(f"benchmarks.{name} failed with exit code {done.returncode}", file=sys.stderr)
        return None
    return done.stdout


def command_options(script: Script, options: argparse.Namespace) -> list[str]:
    """Returns the options of a benchmark's command."""
    places = {
        "peers": options.peers,
        "folder": os.path.relpath(options.output.parent),
        "tracking": options.tracking,
    }
    words = [word.format(**places) for word in script.options]
    return words + (list(script.quick) if options.quick else [])


def _possible(name: str, options: argparse.Namespace) -> bool:
    return options.tracking is not None or not any("{tracking}" in word for word in SCRIPTS[name].options)


if __name__ == "__main__":
    raise SystemExit(main())
