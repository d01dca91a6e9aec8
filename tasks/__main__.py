"""``python -m tasks`` lists what there is; ``python -m tasks COMMAND TASK ...`` runs a command.

The console script ``skipway`` is the same: ``skipway train forecasting --data.path sales.csv``.
"""

from __future__ import annotations

import pkgutil
import sys

import tasks
from core.cli import DESCRIPTIONS
from core.cli import main as run_command
from core.errors import ConfigError, SkipwayError
from core.registry import nearest
from core.task import load_task
from tasks import compare, sweep

ACROSS = {"compare": compare.main, "sweep": sweep.main}
"""Commands that train several models of a task."""
USAGE = f"usage: python -m tasks [{'|'.join([*DESCRIPTIONS, *ACROSS])}] TASK [options]"


def task_names() -> list[str]:
    """Returns the names of the installed tasks."""
    return [module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg]


def backbones_by_family() -> dict[str, list[str]]:
    """Returns the names of all backbones under the name of their family's class."""
    from core.backbones import BACKBONES

    families: dict[str, list[str]] = {}
    for name in BACKBONES:
        families.setdefault(BACKBONES[name].model.__name__, []).append(name)
    return families


def print_listing() -> None:
    """Prints tasks, models, data sets, backbones and residual rules."""
    from core.residual import list_rules

    print(USAGE)
    for name in task_names():
        task = load_task(name)
        print(f"\n{name}: {task.summary}")
        print(f"  models    {', '.join(task.models)}")
        for data, text in task.datasets.items():
            print(f"  data      {data:10} {text}")
        for lines in task.examples.values():
            print(f"  example   {lines[0]}")
        print(f"  example   python -m tasks.compare --task {name} --rules add,laurel_rw --seeds 3")
        print(f"  example   python -m tasks.sweep --task {name} --space '{{train.lr: log 1e-4..1e-2}}'")
    print("\nbackbones in 1-D, 2-D and 3-D (tcn 1-D, p3d* 3-D alone), for create_backbone(name):")
    for module, names in backbones_by_family().items():
        print(f"  {module:12} {', '.join(names)}")
    print(f"\nresidual rules, for every model by --model.rule:\n  {', '.join(list_rules())}")


def check_task(name: str | None, argv: list[str]) -> None:
    """Raises ``ConfigError`` unless there is a task of this name; without a name, help alone can be asked for."""
    names = task_names()
    if name is None and not {"-h", "--help"} & set(argv):
        raise ConfigError(f"--task is missing; there is: {', '.join(names)}")
    if name is not None and name not in names:
        raise ConfigError(f"unknown task {name!r}.{nearest(name, names)} Known: {', '.join(names)}")


def main() -> int:
    """Runs the command line; returns the exit code."""
    words = sys.argv[1:]
    if not words:
        print_listing()
        return 0
    if words[0] in ACROSS and len(words) > 1:
        return ACROSS[words[0]](["--task", *words[1:]])
    if words[0] not in DESCRIPTIONS or len(words) < 2:
        print(USAGE, file=sys.stdout if words[0] in ("-h", "--help") else sys.stderr)
        return 0 if words[0] in ("-h", "--help") else 2
    try:
        return run_command(load_task(words[1]), words[0], words[2:])
    except SkipwayError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
