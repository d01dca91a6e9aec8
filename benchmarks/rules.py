"""``python -m benchmarks.rules``: every residual rule in one task, all else equal.

Trains the task's default configuration once with each rule and one seed, without tracking, and prints the
primary metric of each run from its ``run.json``. About half a minute a rule on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measure import print_machine
from core.residual import list_rules


def scores(task: str, rule: str, seed: int, metric: str) -> dict[str, float]:
    """Returns the test metric and its parts of one training in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", f"tasks.{task}.train", "--tracking=none", f"--output={folder}"]
        subprocess.run(
            [*command, f"--model.rule={rule}", f"--seed={seed}"], check=True, stdout=subprocess.DEVNULL
        )
        (record,) = Path(folder).glob(f"{task}/*/run.json")
        metrics = json.loads(record.read_text(encoding="utf-8"))["metrics"]
    names = [name for name in metrics if name.startswith("test/") and name.split("/")[-1] == metric]
    return {name.removeprefix("test/"): metrics[name] for name in names}


def main() -> None:
    """Prints one row a rule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="forecasting")
    parser.add_argument("--metric", default="mape")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print_machine()
    rows = {
        rule: scores(options.task, rule, options.seed, options.metric)
        for rule in track(list_rules(), description="training", transient=True)
    }
    table = Table(title=f"{options.task}, default configuration, seed {options.seed}")
    names = sorted(next(iter(rows.values())), key=lambda name: name == options.metric)
    table.add_column("rule")
    for name in names:
        table.add_column(name, justify="right")
    for rule, values in rows.items():
        table.add_row(rule, *(f"{values[name]:.2f}" for name in names))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
