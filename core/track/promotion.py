"""Decides whether a new model version replaces the champion. Pure functions: no store, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from core.errors import ConfigError
from core.registry import nearest
from core.yaml12 import load_yaml

Mode = Literal["if-better", "always", "never"]


@dataclass(frozen=True)
class Score:
    """Result of one model on held-out data.

    Attributes:
        metric: Name of the primary metric.
        value: Its value.
        higher_is_better: Its direction.
        digest: SHA-256 of the data and split on which it was measured.
        baseline: Name of the classical method scored on the same data, empty if there was none.
        baseline_value: The baseline's value of the same metric.
    """

    metric: str
    value: float
    higher_is_better: bool
    digest: str
    baseline: str = ""
    baseline_value: float | None = None


@dataclass(frozen=True)
class Policy:
    """When a version becomes champion.

    Attributes:
        promote: ``if-better`` than champion and baseline, ``always`` or ``never``.
        min_gain: Gain over the champion that is asked for, as a fraction of the champion's value; any gain at
            0.
        beat_baseline: Whether the baseline must be beaten too.
    """

    promote: Mode = "if-better"
    min_gain: float = 0.0
    beat_baseline: bool = True

    def __post_init__(self) -> None:
        if self.promote not in get_args(Mode):
            raise ConfigError(f"promote: {self.promote!r} is none of {', '.join(get_args(Mode))}")
        if not self.min_gain >= 0:
            raise ConfigError(f"min_gain: {self.min_gain!r} is not a number from 0 upwards")


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and one sentence why."""

    promote: bool
    reason: str


def gain(value: float, reference: float, higher_is_better: bool) -> float:
    """Returns how much better ``value`` is, as a fraction of ``reference`` (the difference itself at 0)."""
    difference = value - reference if higher_is_better else reference - value
    return difference / abs(reference) if reference else difference


def decide(challenger: Score, champion: Score | None, policy: Policy) -> Decision:
    """Compares a challenger with today's champion and with the baseline.

    Args:
        challenger: Score of the new version.
        champion: Score of the champion, None if there is no champion. It counts only if it is of the same
            metric on the same data digest.
        policy: Rules.
    """
    name, value = challenger.metric, challenger.value
    if policy.promote == "never":
        return Decision(False, "not promoted: the policy is never")
    if not math.isfinite(value):
        return Decision(False, f"not promoted: its {name} is {value}")
    if policy.promote == "always":
        return Decision(True, "promoted: the policy is always")
    if policy.beat_baseline and challenger.baseline_value is not None:
        over = gain(value, challenger.baseline_value, challenger.higher_is_better)
        if not over > 0:
            return Decision(
                False,
                f"not promoted: {name} {value:.6g} does not beat the baseline {challenger.baseline} "
                f"({challenger.baseline_value:.6g})",
            )
    if champion is None:
        return Decision(True, f"promoted: the first champion, {name} {value:.6g}")
    if (champion.metric, champion.digest) != (name, challenger.digest):
        return Decision(
            False,
            f"not promoted: the champion has no {name} on the data of digest {challenger.digest[:12]}, "
            "and it could not be scored there",
        )
    if not math.isfinite(champion.value):
        return Decision(True, f"promoted: the champion's {name} on the same data is {champion.value}")
    over = gain(value, champion.value, challenger.higher_is_better)
    compared = f"{name} {value:.6g} against the champion's {champion.value:.6g} on the same data"
    if not over > 0:
        return Decision(False, f"not promoted: {compared} is no gain")
    if over < policy.min_gain:
        return Decision(False, f"not promoted: {compared} gains {over:.2%}, less than {policy.min_gain:.2%}")
    return Decision(True, f"promoted: {compared} gains {over:.2%}")


def load_policy(task: str, promote: Mode | None = None) -> Policy:
    """Reads a task's policy from ``mlflow/registry.yaml``; defaults where the file or the task is missing.

    The file is sought in the working directory and then beside ``core``.

    Args:
        task: Name of the task, a key of the file.
        promote: Mode that the command line asked for; None keeps the file's.

    Raises:
        ConfigError: a key or value of the file is wrong.
    """
    from core.track.environment import ROOT

    values: dict[str, Any] = {}
    for path in (Path.cwd() / "mlflow" / "registry.yaml", ROOT / "mlflow" / "registry.yaml"):
        if path.is_file():
            values = _read_policy(path, task)
            break
    if promote is not None:
        values["promote"] = promote
    return Policy(**values)


def _read_policy(path: Path, task: str) -> dict[str, Any]:
    import yaml

    try:
        content = load_yaml(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    values = content.get(task, {}) if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected task names with settings under each")
    known = [entry.name for entry in fields(Policy)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r} of {task}.{nearest(key, known)}")
    if not isinstance(values.get("min_gain", 0.0), int | float):
        raise ConfigError(f"{path}: {task}.min_gain is {values['min_gain']!r}, not a number")
    return dict(values)
