"""Command lines and YAML files to the dataclasses of :mod:`core.config`.

Both share one set of names: ``--train.lr 1e-3`` and ``train: {lr: 1e-3}``. Flags override the file, wherever they
stand. ``--model NAME`` chooses which dataclass of the task's ``models`` the keys below ``model`` belong to.
``--batch-size`` is ``--batch_size``, and a yes-or-no option without a value means true.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, set_loader

from core.config import check_values
from core.errors import ConfigError, one_line
from core.registry import Registry, nearest
from core.yaml12 import load_yaml

set_loader("yaml", load_yaml, (yaml.YAMLError,))

_ONE_TYPE = re.compile(r'Parser key "([^"]+)": Expected an? (.+?)\. Got value: (.*)')
_SEVERAL_TYPES = re.compile(
    r'Parser key "([^"]+)": Does not validate against any of the Union subtypes Subtypes: \[(.+?)\] Errors: .*'
    r"Given value: (.*)"
)


def _words(kind: str) -> str:
    """Returns jsonargparse's list of types as a user would write it."""
    kind = re.sub(r"<class '(\w+)'>", r"\1", kind).replace("typing.", "").replace("NoneType", "null")
    return re.sub(r"Literal\[(.*?)\]", r"\1", kind)


class HelpFormatter(DefaultHelpFormatter):
    """Keeps the line breaks of the examples below the options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))


class Parser(ArgumentParser):
    """An argument parser whose errors are one line that names the nearest right key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints one line and exits with code 2."""
        text = " ".join(str(message).split())
        keys = [option for option in self._option_string_actions if option.startswith("--")]
        if unknown := re.search(r"[Uu]nrecognized arguments: (\S+)", text):
            flag = unknown.group(1).split("=")[0]
            text = f"unknown option {flag}.{nearest(flag, keys)}"
        elif unknown := re.search(r"Group '([^']+)' does not accept option '([^']+)'", text):
            key = f"{unknown.group(1)}.{unknown.group(2)}"
            text = f"unknown key {key}.{nearest('--' + key, keys).replace('--', '')}"
        elif unknown := re.search(r"Option '([^']+)' is not accepted", text):
            key = unknown.group(1)
            text = f"unknown key {key}.{nearest('--' + key, keys).replace('--', '')}"
        elif wrong := (_ONE_TYPE.search(text) or _SEVERAL_TYPES.search(text)):
            key, kind, value = wrong.groups()
            names = re.findall(r"'([^']+)'", kind) if "Literal" in kind else []
            text = f"--{key} takes {_words(kind)}, not {value!r}.{nearest(value, names)}"
            if "list[str]" in kind:
                text += " Write a list, and numbers in quotes: '[cat, \"7\"]'"
        elif wrong := re.search(r'Parser key "([^"]+)": (.*)', text):
            text = f"--{wrong.group(1)}: {wrong.group(2)}"
        print(one_line(f"{self.prog}: error: {text} (see --help)"), file=sys.stderr)
        raise SystemExit(2)


def parse(
    root: type,
    argv: list[str],
    *,
    prog: str,
    description: str,
    epilog: str = "",
    models: Registry[type] | None = None,
    default_config: Path | None = None,
    extra: Mapping[str, str] | None = None,
) -> Any:
    """Fills a config dataclass from ``argv``.

    Args:
        root: Dataclass of the command.
        argv: Arguments without the program's name.
        prog: Program name for the help text.
        description: What the command does.
        epilog: Examples.
        models: Model configs; with it ``--model NAME`` selects the dataclass of ``root.model``.
        default_config: YAML file whose values apply when no ``--config`` is given.
        extra: Options that the caller has already taken out of ``argv``, with their help.

    Returns:
        An instance of ``root``; its field ``given``, if it has one, names the keys that ``argv`` and its files set.
    """
    parser = Parser(
        prog=prog, description=description, epilog=epilog, allow_abbrev=False, formatter_class=HelpFormatter
    )
    instead = f" It stands in for {'/'.join(default_config.parts[-2:])}." if default_config else ""
    parser.add_argument(
        "--config", action=ActionConfigFile, help=f"YAML file; flags override what it says.{instead}"
    )
    parser.add_argument("--debug", action="store_true", help="Show tracebacks instead of one-line errors.")
    for option, text in (extra or {}).items():
        parser.add_argument(option, help=text)
    argv = _files_first(argv)
    defaults: dict[str, Any] = {}
    if default_config and not any(word.split("=")[0] == "--config" for word in argv):
        defaults = load_yaml(default_config.read_text(encoding="utf-8"))
    if models is not None:
        argv, name = _model_name(argv, defaults.get("model", {}).get("name") or next(iter(models)))
        parser.add_class_arguments(models[name], "model")
        # Of the default file's model, another model takes what they share.
        known = {f.name for f in dataclasses.fields(models[name])} - {"name"}
        defaults["model"] = {k: v for k, v in defaults.get("model", {}).items() if k in known}
    skipped = {"given"} | ({"model"} if models is not None else set())
    parser.add_class_arguments(root, skip=skipped & {f.name for f in dataclasses.fields(root)})
    for key, value in defaults.items():
        options = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        parser.set_defaults(options)
    _allow_bare_flags(parser)
    argv = [_underscored(word, parser._option_string_actions) for word in argv]
    parsed = parser.parse_args(argv)
    for entry in dataclasses.fields(root):
        if entry.default_factory is not dataclasses.MISSING and parsed.get(entry.name) is None:
            raise ConfigError(
                f"{entry.name} has no options below it; give some, or leave it out (see --help)"
            )
    built = parser.instantiate(parsed)
    names = {f.name for f in dataclasses.fields(root)}
    values = {name: getattr(built, name) for name in names - {"given"}}
    if "given" in names:
        values["given"] = tuple(parser.parse_args(argv, defaults=False).as_flat().__dict__)
    config = root(**values)
    check_values(config)
    return config


def take(argv: list[str], options: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Takes ``--option value`` and ``--option=value`` out of the arguments; the last one counts.

    Raises:
        ConfigError: The value is missing.
    """
    taken: dict[str, str] = {}
    rest = []
    words = iter(argv)
    for word in words:
        option, joined, value = word.partition("=")
        if option not in options:
            rest.append(word)
            continue
        taken[option] = value if joined else next(words, "")
        if not taken[option] or taken[option].startswith("--"):
            raise ConfigError(f"{option} needs a value (see --help)")
    return taken, rest


def _allow_bare_flags(parser: ArgumentParser) -> None:
    """Lets ``--strict`` mean ``--strict true``, for every option that takes true or false."""
    for action in parser._actions:
        if getattr(action, "_typehint", None) in (bool, bool | None):
            action.nargs, action.const = "?", True


def _underscored(word: str, options: Iterable[str]) -> str:
    """Returns an option with the underscores of its name where the user wrote hyphens; other words as they are.

    Of ``--model.rule-options.some-key`` the part that names an option is changed, and the user's key is not.
    """
    name = word.partition("=")[0]
    if not name.startswith("--") or "-" not in name[2:] or name in options:
        return word
    plain = "--" + name[2:].replace("-", "_")
    found = max(
        (o for o in options if plain == o or plain.startswith((f"{o}.", f"{o}+"))), key=len, default=""
    )
    return found + word[len(found) :]


def _files_first(argv: list[str]) -> list[str]:
    """Moves ``--config FILE`` before the other flags, so that a flag always overrides a file."""
    files: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--config":
            files += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.startswith("--config="):
            files.append(word)
        else:
            rest.append(word)
    return files + rest


def _model_name(argv: list[str], default: str) -> tuple[list[str], str]:
    """Rewrites ``--model NAME`` to ``--model.name NAME`` and finds the name that applies."""
    words: list[str] = []
    name = None
    paths: list[Path] = []
    for i, word in enumerate(argv):
        previous = argv[i - 1] if i else ""
        if word == "--model":
            word = "--model.name"
        elif word.startswith("--model="):
            word = "--model.name=" + word.partition("=")[2]
        if previous in ("--model", "--model.name"):
            name = word
        elif word.startswith("--model.name="):
            name = word.partition("=")[2]
        if previous == "--config":
            paths.append(Path(word))
        elif word.startswith("--config="):
            paths.append(Path(word.partition("=")[2]))
        words.append(word)
    for path in [] if name else reversed(paths):
        if path.is_file() and (name := _name_in_file(path)):
            break
    return words, name or default


def _name_in_file(path: Path) -> str | None:
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    model = content.get("model") if isinstance(content, dict) else None
    if model is not None and not isinstance(model, dict):
        raise ConfigError(f"{path}: `model` holds the model's name and options, as in `model: {{name: ...}}`")
    return model.get("name") if isinstance(model, dict) else None
