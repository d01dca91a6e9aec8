"""The command line of every task: ``python -m tasks.<task>.<command>``.

Arguments are parsed before torch or MLflow is imported, so ``--help`` and a wrong flag answer at once. Errors
that a user can cause are one line; ``--debug`` shows where they come from.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.config import ExportConfig, check_train
from core.errors import ConfigError, SkipwayError, one_line
from core.parser import parse
from core.task import Task

DESCRIPTIONS = {
    "train": "Trains, tests against baselines, reports, packages and registers a model.",
    "evaluate": "Scores a trained model and the baselines on data.",
    "predict": "Applies a trained model to files.",
    "export": "Writes a trained model for other runtimes and checks that it gives the same output.",
}


def main(task: Task, command: str, argv: list[str] | None = None) -> int:
    """Runs one command of a task; returns the exit code.

    Args:
        task: The task.
        command: ``train``, ``evaluate``, ``predict`` or ``export``.
        argv: Arguments; those of the process when not given.
    """

    def work(argv: list[str]) -> int:
        config, resume = _parse(task, command, argv)
        run: Callable[..., int] = importlib.import_module(f"core.commands.{command}").run
        return run(task, config) if resume is None else run(task, config, resume)

    return with_one_line_errors(work, argv)


def with_one_line_errors(work: Callable[[list[str]], int], argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code; what a user can cause is one line, and with ``--debug`` a traceback.

    Args:
        work: Takes the arguments and returns the exit code.
        argv: Arguments; those of the process when not given.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return work(argv)
    except SkipwayError as error:
        return _told(error, argv, error.exit_code)
    except BrokenPipeError:  # what reads our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a name that is too long, a folder that may not be read
        where = f"{error.filename}: " if error.filename is not None else ""
        return _told(f"{where}{error.strerror or error}", argv)
    except MemoryError:
        return _told(OUT_OF_MEMORY, argv)
    except RuntimeError as error:
        if not _memory_is_out(error):
            raise
        return _told(OUT_OF_MEMORY, argv)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def run_command(
    module: str,
    config_class: type,
    run: Callable[[Any], int],
    argv: list[str] | None,
    *,
    description: str,
    examples: str,
) -> int:
    """Runs a command beside the usual ones, ``python -m MODULE``; returns the exit code.

    Args:
        module: Its module.
        config_class: Dataclass of its options.
        run: What it does; takes an object of that class.
        argv: Arguments; those of the process when not given.
        description: What it does, for the help text.
        examples: Command lines, one a line.
    """

    def work(argv: list[str]) -> int:
        epilog = f"Examples:\n{examples}"
        return run(
            parse(config_class, argv, prog=f"python -m {module}", description=description, epilog=epilog)
        )

    return with_one_line_errors(work, argv)


def argument_parser(module: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """Returns the parser of a command whose options are no configuration, ``python -m MODULE``; it takes ``--debug``.

    Args:
        module: Its module.
        description: What it does, for the help text.
        examples: Command lines, one a line.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=textwrap.fill(description, shutil.get_terminal_size().columns - 2),
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_debug(parser)
    return parser


def _add_debug(parser: argparse.ArgumentParser) -> None:
    text = "show tracebacks instead of one-line errors"
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)


def subcommands(parser: argparse.ArgumentParser) -> Callable[[str, str], argparse.ArgumentParser]:
    """Splits a command into several; returns what adds one by its name and one line, which stands in ``command``."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:],
            epilog=parser.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_debug(command)
        return command

    return add


def folder_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Returns the parser of a command that generates data, ``python -m MODULE FOLDER --seed N``."""
    parser = argument_parser(module, description)
    parser.add_argument("folder", type=Path, help="new or empty folder")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (default 0)")
    return parser


def run_folder_command(
    parser: argparse.ArgumentParser, write: Callable[[argparse.Namespace], str], argv: list[str] | None
) -> int:
    """Runs a command that generates data; returns the exit code.

    Args:
        parser: What :func:`folder_parser` gave, with further options.
        write: Writes the data and returns one line that says what.
        argv: Arguments; those of the process when not given.
    """

    def work(argv: list[str]) -> int:
        print(write(parser.parse_args(argv)))
        return 0

    return with_one_line_errors(work, argv)


OUT_OF_MEMORY = "out of memory; take smaller batches, patches, tiles or a smaller model"


def _memory_is_out(error: RuntimeError) -> bool:
    """Whether torch got no memory; on a CPU it says so in words alone."""
    said = ("can't allocate memory", "Storage size calculation overflowed")
    return type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in said)


def _told(error: object, argv: list[str], code: int = 1) -> int:
    """Prints the line of an error and returns the exit code."""
    if "--debug" in argv:
        traceback.print_exc()
    print(f"error: {one_line(error)}", file=sys.stderr)
    return code


def _parse(task: Task, command: str, argv: list[str]) -> tuple[Any, str | None]:
    examples = "\n".join(f"  {line}" for line in task.examples.get(command, ()))
    resume = None
    if command == "train":
        argv, resume = _resumed(task, argv)
    classes = {
        "train": task.config_class,
        "evaluate": task.evaluate_class,
        "predict": task.predict_class,
        "export": ExportConfig,
    }
    config = parse(
        classes[command],
        argv,
        prog=f"python -m tasks.{task.name}.{command}",
        description=DESCRIPTIONS[command],
        epilog=f"Examples:\n{examples}" if examples else "",
        models=task.models if command == "train" else None,
        default_config=default_config(task) if command == "train" and resume is None else None,
        extra=RESUME_HELP if command == "train" else {},
    )
    if command == "train":
        check_train(config.train)
    if (
        command in ("train", "evaluate")
        and getattr(getattr(config, "scoring", None), "baselines", None) == []
    ):
        raise ConfigError(
            "--scoring.baselines is empty: no result stands alone; name one or more (see --help)"
        )
    return config, resume


RESUME_HELP = {"--resume": "Continue a run: its id, its folder or `last`; its configuration applies."}


def default_config(task: Task) -> Path:
    """Returns the ``configs/default.yaml`` of a task."""
    folder = importlib.import_module(f"tasks.{task.name}").__path__[0]
    return Path(folder) / "configs" / "default.yaml"


def _resumed(task: Task, argv: list[str]) -> tuple[list[str], str | None]:
    """Takes ``--resume X`` out of ``argv`` and puts the configuration of that run in front."""
    joined = ("--resume=", "--output=")
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith(joined) else [word])]
    if "--resume" not in words:
        return argv, None
    at = words.index("--resume")
    if at + 1 == len(words):
        raise ConfigError("--resume needs a run: its id, its folder or `last`")
    from core.track.folder import find_run

    output = next((words[i + 1] for i, w in enumerate(words[:-1]) if w == "--output"), "runs")
    folder = find_run(Path(output), words[at + 1], task.name)
    if not (folder / "config.yaml").exists():
        raise ConfigError(
            f"run {folder} was ended before it began: it has no config.yaml; train without --resume"
        )
    return ["--config", str(folder / "config.yaml"), *words[:at], *words[at + 2 :]], str(folder)
