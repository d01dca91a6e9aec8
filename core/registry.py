"""A name table with a decorator and an error that names the nearest entries."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from core.errors import ConfigError

T = TypeVar("T")


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns ``" Did you mean 'x'?"`` for the closest of ``names``, or an empty string."""
    match = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


class Registry(Generic[T]):
    """Maps names to objects of one kind, such as residual rules or the models of a task.

    Args:
        kind: What an entry is, in the words of an error message: ``"residual rule"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that enters an object under ``name``; a name is taken once."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        """Returns the entry, or raises ``ConfigError`` with the nearest name."""
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(self._entries)
            raise ConfigError(
                f"unknown {self.kind} {name!r}.{nearest(name, self._entries)} Known: {known}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def keyword_options(entry: Callable[..., Any]) -> dict[str, Any]:
    """Returns the keyword-only arguments of a function or class, and their defaults."""
    parameters = inspect.signature(entry).parameters.values()
    return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}


def check_options(what: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the names and types of options against the defaults.

    Args:
        what: Whose options they are, for the message: ``"residual rule 'scaled'"``.
        known: Every option and its default; the default's type is the option's. None allows any value.
        options: What the user gave.

    Returns:
        The options; a list, as YAML has it, becomes a tuple where the default is one.

    Raises:
        ConfigError: An option is unknown or of the wrong type.
    """
    checked = {}
    for option, value in options.items():
        if option not in known:
            allowed = f"Options: {', '.join(known)}" if known else "It has no options"
            raise ConfigError(f"{what} has no option {option!r}.{nearest(option, known)} {allowed}")
        wanted = type(known[option])
        if wanted is tuple and isinstance(value, list):
            value = tuple(value)
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        if known[option] is not None and (not fits or isinstance(value, bool) != (wanted is bool)):
            raise ConfigError(f"{what}: {option} takes {wanted.__name__}, not {value!r}")
        kinds = {type(part) for part in known[option]} if wanted is tuple else set()
        if len(kinds) == 1 and any(type(part) not in kinds for part in value):
            raise ConfigError(f"{what}: {option} takes entries of type {kinds.pop().__name__}, not {value!r}")
        checked[option] = value
    return checked
