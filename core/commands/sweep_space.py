"""The space that a sweep searches: read, checked against the configuration classes. Imports no heavy library."""

from __future__ import annotations

import itertools
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.config import flatten
from core.errors import ConfigError
from core.yaml12 import load_yaml

HELP = "write [64, 128], 0.1..0.5, log 1e-4..1e-2 or 32..256 step 32"
FIXED = {
    "seed": "a lucky seed is no better model",
    "output": "it is no option of the training",
    "tracking": "it is no option of the training",
    "register": "it is no option of the training",
    "promote": "it is no option of the training",
    "data.path": "scores on other data do not compare",
    "data.name": "scores on other data do not compare",
    "data.test_path": "scores on other data do not compare",
    "data.test_share": "scores on other data do not compare",
    "data.validation_share": "scores on other validation data do not compare",
    "data.folds": "scores on other validation data do not compare",
    "intervals.calibration": "scores on other validation data do not compare",
}
"""Options that cannot be searched, and why."""
CORNERS = 64
"""Most corners that are all looked at; of a larger space each value is looked at alone."""
_RANGE = re.compile(r"(?P<log>log\s+)?(?P<low>\S+?)\s*\.\.\s*(?P<high>\S+?)(?:\s+step\s+(?P<step>\S+))?")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        log: Drawn evenly on a logarithmic scale.
        step: Distance of the values; None for all floating-point numbers, or all whole ones.
        whole: Whole numbers alone.
    """

    low: float
    high: float
    log: bool
    step: float | None
    whole: bool

    def ends(self) -> list[Any]:
        """The smallest and the largest value."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether it is a value of the range."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9


@dataclass(frozen=True)
class Choices:
    """Values one of which is taken; of any type that YAML has."""

    values: tuple[Any, ...]

    def ends(self) -> list[Any]:
        """All of them."""
        return list(self.values)

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.values


Space = dict[str, Range | Choices]
"""Key of the configuration, such as ``train.lr``, to its values."""


def read_space(text: str, configure: Callable[[Mapping[str, Any]], Any]) -> Space:
    """Reads a space and checks its corners.

    Args:
        text: YAML, or the path of a YAML file: keys of the configuration, nested or with dots, to lists of values or
            to ranges, see :data:`HELP`.
        configure: Makes the configuration of some values; ends the process for an unknown key or a wrong type, and
            raises ``ConfigError`` for values that no training can use.

    Raises:
        ConfigError: The space is empty, an entry is no list and no range, or a key cannot be searched.
    """
    space = parse_space(_entries(text))
    for key, domain in space.items():
        for value in domain.ends():
            config = configure({key: value})
            if isinstance(domain, Range) and domain.whole and _takes_fractions(config, key):
                step = None if domain.step is None else float(domain.step)
                space[key] = Range(float(domain.low), float(domain.high), domain.log, step, whole=False)
    for corner in corners(space):
        configure(corner)
    return space


def parse_space(entries: Mapping[str, Any]) -> Space:
    """Returns the space of plain values, such as :func:`dump_space` gives.

    Raises:
        ConfigError: An entry is no list and no range, or a key cannot be searched.
    """
    space: Space = {}
    for key, entry in entries.items():
        key = "model.name" if key == "model" else key
        if key in FIXED:
            raise ConfigError(f"--space: {key} cannot be searched: {FIXED[key]}")
        space[key] = _domain(key, entry)
    return space


def _entries(text: str) -> dict[str, Any]:
    source = "--space"
    if text.endswith((".yaml", ".yml")) or ("{" not in text and ":" not in text):
        source = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                f"--space {source}: there is no such file, and it is no space: {HELP}"
            ) from None
    try:
        content = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{source} names nothing to search; write '{{train.lr: log 1e-4..1e-2}}'")
    return flatten(content)


def _domain(key: str, entry: Any) -> Range | Choices:
    if isinstance(entry, list):
        if len(entry) < 2 or any(entry.count(value) > 1 for value in entry):
            raise ConfigError(f"--space: {key} has {entry}; give two or more different values")
        return Choices(tuple(entry))
    if not isinstance(entry, str) or not (found := _RANGE.fullmatch(entry.strip())):
        raise ConfigError(f"--space: {key} {entry!r} is no list and no range; {HELP}")
    low, high = (_number(key, found[end]) for end in ("low", "high"))
    step = None if found["step"] is None else _number(key, found["step"])
    log = found["log"] is not None
    if not low < high:
        raise ConfigError(f"--space: {key} {entry!r} has no values; the first end is the smaller one")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"--space: {key} {entry!r}: a log range begins above 0 and has no step")
    if step is not None and (
        step <= 0 or abs(round((high - low) / step) * step - (high - low)) > 1e-9 * high
    ):
        raise ConfigError(f"--space: {key} {entry!r}: steps of {step} do not lead from {low} to {high}")
    whole = all(isinstance(number, int) for number in (low, high, step if step is not None else 1))
    return Range(low, high, log, step, whole)


def _number(key: str, text: str) -> float:
    value = load_yaml(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"--space: {key}: {text} is not a number; {HELP}")
    return value


def _takes_fractions(config: Any, key: str) -> bool:
    """Whether the option's type has floating-point numbers, so that ``1..2`` also means what is between."""
    *groups, name = key.split(".")
    for group in groups:
        config = getattr(config, group, None)
    kind = typing.get_type_hints(type(config)).get(name)
    return float in (kind, *typing.get_args(kind))


def corners(space: Space) -> Iterator[dict[str, Any]]:
    """Yields the values at which a space can be wrong: all corners, or of a large space each value alone."""
    ends = {key: domain.ends() for key, domain in space.items()}
    count = 1
    for values in ends.values():
        count *= len(values)
    if count <= CORNERS:
        yield from (dict(zip(ends, corner, strict=True)) for corner in itertools.product(*ends.values()))
        return
    yield from singles(space)
    yield {key: values[0] for key, values in ends.items()}
    yield {key: values[-1] for key, values in ends.items()}


def singles(space: Space) -> Iterator[dict[str, Any]]:
    """Yields every end of a range and every choice alone."""
    yield from ({key: value} for key, domain in space.items() for value in domain.ends())


def flags(values: Mapping[str, Any]) -> list[str]:
    """Returns values of a space as arguments of a command: ``--train.lr=0.001``."""
    return [f"--{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in values.items()]


def dump_space(space: Space) -> dict[str, Any]:
    """Returns the space as what :func:`read_space` reads, without nesting."""
    return {
        key: list(domain.values) if isinstance(domain, Choices) else _range_text(domain)
        for key, domain in space.items()
    }


def _range_text(domain: Range) -> str:
    step = "" if domain.step is None else f" step {domain.step!r}"
    return f"{'log ' if domain.log else ''}{domain.low!r}..{domain.high!r}{step}"
