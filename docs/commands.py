"""``make docs``: prints the listing and every help text as Markdown."""

from __future__ import annotations

import os
import subprocess
import sys

from core.cli import DESCRIPTIONS
from core.task import load_task
from tasks.__main__ import task_names


def block(*words: str) -> str:
    """Returns a command and what it prints as a code block."""
    # Without a width of its own argparse folds to the terminal that the documentation happens to be made in.
    environment = {**os.environ, "COLUMNS": "110"}
    done = subprocess.run(
        [sys.executable, "-m", *words], env=environment, check=True, capture_output=True, text=True
    )
    return f"```\n$ python -m {' '.join(words)}\n{done.stdout.rstrip()}\n```\n"


def main() -> None:
    """Prints the page."""
    print("# Commands\nMade by `make docs` from the commands themselves.\n")
    print(block("tasks"))
    for task in task_names():
        for command in [*DESCRIPTIONS, *load_task(task).more_commands]:
            print(f"## {command} ({task})\n{block(f'tasks.{task}.{command}', '--help')}")
    print(f"## Comparing residual rules\n{block('tasks.compare', '--task', 'forecasting', '--help')}")
    print(f"## Searching options\n{block('tasks.sweep', '--task', 'forecasting', '--help')}")
    print(f"## Backbones\n{block('core.backbones', '--help')}")
    print(f"## Compression\n{block('core.compress', 'shrink', '--help')}")
    print(f"## Registry\n{block('core.track', '--help')}")


if __name__ == "__main__":
    main()
