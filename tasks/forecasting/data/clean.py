"""From rows of (series, time, value) to groups: sorting, frequencies, missing values, the test part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from core.errors import DataError
from core.registry import nearest
from tasks.forecasting.data.frequency import (
    anchor_frequency,
    default_horizon,
    default_seasonality,
    infer_frequencies,
    parse_frequency,
    title,
)
from tasks.forecasting.data.grid import interpolated, later, positions_of, regular, without_duplicates
from tasks.forecasting.data.rows import Rows, some
from tasks.forecasting.data.series import Group, SeriesData, Stamp, future_index

if TYPE_CHECKING:
    from tasks.forecasting.config import DataConfig


def group_rows(rows: Rows, config: DataConfig, name: str, freq: str | None = None) -> SeriesData:
    """Sorts, checks and completes observations, and splits off the test part.

    Args:
        rows: The observations; at least one.
        config: Frequency, horizon and treatments; whether the last values of each series become
            ``Group.future``.
        name: Name of the result.
        freq: Alias of the frequency if the source says it; the configuration's, or read off the times, if
            None.

    Returns:
        Groups in order of their first series, with a note on everything that was changed.

    Raises:
        DataError: Duplicates or gaps that the configuration refuses, dates that fit no frequency, or nothing
            left.
    """
    notes: list[str] = []
    codes, names = pd.factorize(rows.ids)
    in_series = np.argsort(codes, kind="stable")
    backwards = np.diff(rows.times[in_series].astype(np.int64)) < 0
    unsorted = int((backwards & (np.diff(codes[in_series]) == 0)).sum())
    order = np.lexsort((rows.times, codes))
    if unsorted:
        notes.append(f"rows out of time order: {unsorted}, sorted")
    rows, codes = rows.take(order), codes[order]
    infinite = np.isinf(rows.values)
    if infinite.any():
        first = int(np.flatnonzero(infinite)[0])
        notes.append(
            f"infinite values: {int(infinite.sum())} (first: series {rows.ids[first]}, {rows.line} "
            f"{rows.numbers[first]}), treated as missing"
        )
        rows.values = np.where(infinite, np.nan, rows.values)
    groups = []
    for alias, stamp, members in _by_frequency(rows, codes, names, freq or config.freq, config, notes):
        part = np.isin(codes, members)
        groups.append(_group(rows.take(part), codes[part], names, alias, stamp, config, notes))
    return finish(name, [group for group in groups if len(group)], config, notes, rows.where)


def finish(name: str, groups: list[Group], config: DataConfig, notes: list[str], where: str) -> SeriesData:
    """Keeps the groups of ``data.groups`` and adds notes on constant and repeated series.

    Raises:
        DataError: A name in ``data.groups`` is not there, or nothing is left.
    """
    names = wanted([group.name for group in groups], config, where)
    groups = [group for group in groups if group.name in names]
    if not groups:
        raise DataError(
            f"{where}: no series is left ({'; '.join(notes) or 'there was none'}); "
            "a smaller data.horizon or data.min_length keeps shorter series"
        )
    for group in groups:
        prefix = f"{group.name}: " if len(groups) > 1 else ""
        constant = [
            identifier
            for identifier, values in zip(group.ids, group.history, strict=True)
            if len(values) > 1 and (values == values[0]).all()
        ]
        if constant:
            notes.append(
                f"{prefix}{len(constant)} series with a constant history ({some(constant)}) are kept; "
                "MASE is not defined for them"
            )
        copies = _copies(group)
        if copies:
            notes.append(f"{prefix}{len(copies)} series repeat another one value for value ({some(copies)})")
    return SeriesData(name, groups, notes)


def wanted(names: list[str], config: DataConfig, where: str) -> list[str]:
    """Returns those of the group names that ``data.groups`` asks for, in any case; all if it asks for none.

    Raises:
        DataError: It asks for a group that is not there.
    """
    if not config.groups:
        return names
    lower = [name.lower() for name in names]
    for wish in config.groups:
        if wish.lower() not in lower:
            raise DataError(
                f"data.groups: {where} has no {wish!r} series.{nearest(wish, names)} "
                f"It has: {', '.join(names) or 'none'}"
            )
    return [name for name in names if name.lower() in {wish.lower() for wish in config.groups}]


def _copies(group: Group) -> list[str]:
    seen: dict[bytes, str] = {}
    copies = []
    for i, (identifier, values) in enumerate(zip(group.ids, group.history, strict=True)):
        if len(values) < 3 or (values == values[0]).all():
            continue  # short and constant histories are alike by chance
        content = values.tobytes() + (b"" if group.future is None else group.future[i].tobytes())
        if content in seen:
            copies.append(f"{identifier} = {seen[content]}")
        else:
            seen[content] = identifier
    return copies


def _by_frequency(
    rows: Rows, codes: np.ndarray, names: np.ndarray, given: str | None, config: DataConfig, notes: list[str]
) -> list[tuple[str, Stamp, np.ndarray]]:
    """Returns (frequency, stamp, series numbers) for each frequency in the rows."""
    everyone = np.arange(len(names))
    if rows.times.dtype.kind != "M":
        step = np.diff(rows.times)[np.diff(codes) == 0]
        usual = int(np.median(step)) if len(step) else 1
        if usual > 1:
            raise DataError(
                f"{rows.where}: whole-number times are {usual} apart; "
                "number the steps 1, 2, 3, ... or write dates"
            )
        # Weekdays have no pandas period, and counted steps need no calendar.
        freq = parse_frequency("D" if given is None or parse_frequency(given).base == "B" else given).alias
        if given is None:
            season = config.seasonality or 1
            notes.append(
                f"{rows.where}: times are whole-number steps without a frequency, taken as "
                f"seasonality {season}; "
                "set data.freq or data.seasonality"
            )
        return [(freq, "step", everyone)]
    if given is not None:
        freq, stamp = anchor_frequency(parse_frequency(given).alias, rows.times)
        return [(freq, stamp, everyone)]
    try:
        found = infer_frequencies(codes, rows.times)
    except ValueError as error:
        raise DataError(
            f"{rows.where}: timestamps are {error} apart, which is no frequency; "
            "set data.freq (such as h or D)"
        ) from None
    counts = Counter(freq for freq in found if freq is not None)
    if not counts:
        raise DataError(f"{rows.where}: no series has two timestamps to tell the frequency by; set data.freq")
    common = counts.most_common(1)[0][0]
    single = sum(freq is None for freq in found)
    if single:
        notes.append(f"{single} series with a single timestamp were taken as {title(common)}")
    labels = np.array([freq or common for freq in found], dtype=object)
    result = []
    for label in dict.fromkeys(labels):
        members = everyone[labels == label]
        freq, stamp = anchor_frequency(label, rows.times[np.isin(codes, members)])
        result.append((freq, stamp, members))
    shown = ", ".join(f"{title(freq)} ({len(members)} series)" for freq, _, members in result)
    notes.append(f"{'frequencies' if len(result) > 1 else 'frequency'} read off the timestamps: {shown}")
    return result


def _group(
    rows: Rows,
    codes: np.ndarray,
    names: np.ndarray,
    freq: str,
    stamp: Stamp,
    config: DataConfig,
    notes: list[str],
) -> Group:
    if stamp == "step" and config.freq is None:
        label, season = "Other", config.seasonality or 1
    else:
        named = config.freq if stamp == "step" and config.freq else freq
        label, season = title(named), config.seasonality or default_seasonality(named)
    steps, holdout = config.horizon, config.holdout
    if steps is None:
        steps = default_horizon(freq)
        notes.append(
            f"{label}: horizon {steps} is the default of this frequency; set data.horizon for another"
        )
    tally = _Tally(label, config.missing, config.min_length or (2 if holdout else 1), steps if holdout else 0)
    positions, starts = positions_of(rows, codes, freq, stamp, notes)
    rows, codes, positions = without_duplicates(rows, codes, positions, config, freq, notes)
    ends = np.flatnonzero(np.diff(codes, append=-1)) + 1
    group = Group(label, freq, season, steps, [], [], [], None, stamp)
    futures = []
    for begin, end in zip(np.concatenate(([0], ends[:-1])), ends, strict=True):
        identifier = str(names[codes[begin]])
        full, skipped, cut = regular(rows, slice(begin, end), positions[begin:end], identifier)
        tally.trimmed += cut
        if not len(full):
            tally.empty.append(identifier)
            continue
        first = later(starts[codes[begin]], skipped, freq, stamp)
        gaps = np.flatnonzero(np.isnan(full))
        if len(gaps):
            if config.missing == "error":
                at = future_index(Group("", freq, 1, 1, [""], [full[: gaps[0]]], [first], None, stamp), 0)[0]
                raise DataError(
                    f"{rows.where}: series {identifier} lacks {len(gaps)} values or steps, the "
                    f"first at {at}; fill them, or set data.missing to interpolate, zero or drop"
                )
            tally.lacking.append(identifier)
            tally.filled += len(gaps)
            full = full[~np.isnan(full)] if config.missing == "drop" else full
            full = np.nan_to_num(full, nan=0.0) if config.missing == "zero" else full
        # Split before interpolation: the history must not be filled with what the test part knows.
        known = full[: max(0, len(full) - steps)] if holdout else full
        if len(known) < tally.least:
            tally.short.append(identifier)
            continue
        group.ids.append(identifier)
        group.history.append(interpolated(known))
        group.starts.append(first)
        futures.append(full[len(known) :])
    if holdout and futures:
        group.future = np.stack(futures)
    notes += tally.notes()
    return group


@dataclass
class _Tally:
    """What happened to the series of one group."""

    label: str
    missing: str
    least: int
    held_out: int
    filled: int = 0
    trimmed: int = 0
    lacking: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        done = {
            "interpolate": "interpolated" + (" (in the test part: not scored)" if self.held_out else ""),
            "zero": "set to zero",
            "drop": "dropped, which joins their neighbours",
        }
        lines = []
        if self.filled:
            lines.append(
                f"missing values or steps: {self.filled} in {len(self.lacking)} series "
                f"({some(self.lacking)}), {done[self.missing]}"
            )
        if self.trimmed:
            lines.append(
                f"{self.trimmed} missing values before the first or after the last known one were cut off"
            )
        if self.empty:
            lines.append(f"{len(self.empty)} series without any value ({some(self.empty)}) were dropped")
        if self.short:
            need = f"{self.least} values" + (
                f" before the {self.held_out} held out for the test" if self.held_out else ""
            )
            lines.append(f"{len(self.short)} series shorter than {need} ({some(self.short)}) were dropped")
        return [f"{self.label}: {line}" for line in lines]
