"""A record on ECG paper, true to scale: 25 mm/s and 10 mm/mV on an A4 page. Figures are made without pyplot."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tasks.ecg.config import LEADS

WIDTH, HEIGHT = 297.0, 210.0  # mm, A4 across
SPEED, GAIN = 25.0, 10.0  # mm/s, mm/mV
SECONDS = 10.0
"""What fits on a page."""
COLUMN = 2.5
"""Length of a lead in the three rows of four, s."""
PAPER = (11.0, 32.0, 281.0, 182.0)  # left, lower, right and upper edge of the grid, mm
START = 26.0  # where time begins, mm from the left
TOP, BOTTOM = 162.0, 57.0  # zero lines of the first and the last of four or more rows, mm
STRIP = (21.0, 26.0)  # of the saliency, mm
LINES, WRAP = 3, 170  # of the findings: most lines, characters in one
FINE, COARSE, INK = "#f7d3d0", "#e9a29d", "#101010"
SALIENCY = "Blues"
WARNING = "Skipway: research software, not a medical device. Not for diagnosis or treatment."
DPI = 200
MM = 72 / 25.4  # points


def draw_page(
    signal: np.ndarray,
    rate: float,
    leads: Sequence[str],
    title: str,
    findings: str,
    saliency: np.ndarray | None = None,
    present: np.ndarray | None = None,
    *,
    derived: Sequence[str] = (),
    explained: str = "",
    synthetic: bool = False,
    start: float = 0.0,
) -> Figure:
    """Draws ten seconds of a record.

    Twelve leads stand in three rows of four, 2.5 s each, above the whole of lead II. A record of less than ten seconds
    has them begin at equal distances of time. Up to four leads have rows of their own. The median of each lead is on
    its zero line.

    Args:
        signal: ``(leads, samples)`` in mV.
        rate: Sampling rate, Hz.
        leads: Name of each lead.
        title: Name of the record.
        findings: What stands below it.
        saliency: ``(any,)`` over the whole time of the signal, of which what is above 0 is shown; see
            :func:`tasks.ecg.saliency.occlusion`.
        present: ``(leads,)`` bool: others are said to be missing.
        derived: Leads that were not measured, which their names say.
        explained: Class that the saliency is of.
        synthetic: The record is made, which the page says.
        start: First moment that is shown, s.
    """
    duration = signal.shape[1] / rate
    shown = min(duration - start, SECONDS)
    first = round(start * rate)
    part = signal[:, first : first + round(shown * rate)]
    part = part - np.median(part, axis=1, keepdims=True)
    there = np.ones(len(leads), bool) if present is None else present
    names = [f"{name} (derived)" if name in derived else name for name in leads]
    figure = Figure(figsize=(WIDTH / 25.4, HEIGHT / 25.4), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw_grid(axes)
    columns = 1 if len(leads) <= 4 else 4
    rows = math.ceil(len(leads) / columns)
    strip = _rhythm_lead(leads, there) if columns > 1 else None
    zeros = _zero_lines(rows + (strip is not None))
    seconds = min(COLUMN if columns > 1 else SECONDS, shown)
    for i, name in enumerate(names):
        column, row = divmod(i, rows)
        begin = max(shown - seconds, 0) * column / max(columns - 1, 1)
        x = START + column * COLUMN * SPEED
        moment = f"{start + begin:.1f} s" if columns > 1 and shown < SECONDS and column else ""
        _draw_lead(
            axes, part[i], rate, (begin, begin + seconds), (x, zeros[row]), name, moment, bool(there[i])
        )
        if column:
            axes.plot([x, x], [zeros[row] - 3, zeros[row] + 3], color=INK, lw=0.6)
    if strip is not None:
        _draw_lead(axes, part[strip], rate, (0, shown), (START, zeros[-1]), names[strip], "", True)
    for zero in zeros:
        _draw_pulse(axes, zero)
    _draw_time(axes, start, shown)
    if saliency is not None:
        scale = len(saliency) / duration
        cut = saliency[round(start * scale) : max(round((start + shown) * scale), round(start * scale) + 1)]
        _draw_saliency(axes, cut, shown, explained)
    of = f", {start:g} to {start + shown:g} s of {duration:g} s" if shown < duration - 0.5 / rate else ""
    _draw_text(axes, f"{title}{of}", findings, rate, synthetic)
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    return figure


def save_page(figure: Figure, path: Path) -> None:
    """Writes a page at its true size, as .png or .pdf; raises ``OSError`` where it cannot be written."""
    metadata: dict[str, Any] = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": "Skipway"}
    figure.savefig(path, dpi=DPI, metadata=metadata)


def _draw_grid(axes: Axes) -> None:
    left, lower, right, upper = PAPER
    axes.add_patch(Rectangle((left, lower), right - left, upper - lower, fc="#fffaf9", ec=COARSE, lw=0.7))
    for step, colour, width in ((1, FINE, 0.3), (5, COARSE, 0.5)):
        lines = [[(x, lower), (x, upper)] for x in np.arange(left, right + 0.5, step)]
        lines += [[(left, y), (right, y)] for y in np.arange(lower, upper + 0.5, step)]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=1))


def _zero_lines(count: int) -> list[float]:
    """Heights of the zero lines, mm; those of up to four rows lie on the coarse grid."""
    if count == 1:
        return [(TOP + BOTTOM - 5) / 2]
    pitch = (TOP - BOTTOM) / max(count - 1, 3)
    return [TOP - i * pitch for i in range(count)]


def _rhythm_lead(leads: Sequence[str], present: np.ndarray) -> int:
    """Lead II, or else the first that is there."""
    if LEADS[1] in leads and present[list(leads).index(LEADS[1])]:
        return list(leads).index(LEADS[1])
    return int(np.argmax(present))


def _draw_lead(
    axes: Axes,
    samples: np.ndarray,
    rate: float,
    between: tuple[float, float],
    at: tuple[float, float],
    name: str,
    moment: str,
    present: bool,
) -> None:
    """Draws what lies between two moments, from a place on the page on."""
    x, zero = at
    text: dict[str, Any] = {"fontsize": 8, "color": INK, "parse_math": False, "zorder": 5, "clip_on": True}
    if not present:
        axes.text(x + 1.5, zero + 1, f"{name} missing", **text | {"color": "#777777", "style": "italic"})
        return
    axes.text(x + 1.5, zero + 11, name, weight="bold", **text)
    if moment:
        axes.text(x + max(9.5, 2 * len(name)), zero + 11, moment, **text | {"fontsize": 6})
    first, last = (round(t * rate) for t in between)
    values = samples[first : last + 1]
    (line,) = axes.plot(
        x + np.arange(len(values)) / rate * SPEED,
        zero + GAIN * values,
        color=INK,
        lw=0.25 * MM,
        solid_joinstyle="round",
        zorder=4,
    )
    left, lower, right, upper = PAPER
    line.set_clip_path(Rectangle((left, lower), right - left, upper - lower, transform=axes.transData))


def _draw_pulse(axes: Axes, zero: float) -> None:
    """Draws the calibration: 1 mV for 0.2 s."""
    left = START - 11
    x = [left, left + 2, left + 2, left + 7, left + 7, left + 9]
    y = [zero, zero, zero + GAIN, zero + GAIN, zero, zero]
    axes.plot(x, y, color=INK, lw=0.25 * MM, zorder=4)


def _draw_time(axes: Axes, start: float, shown: float) -> None:
    """Numbers the seconds below the last row."""
    for second in range(math.ceil(start - 1e-6), math.floor(start + shown + 1e-6) + 1):
        x = START + (second - start) * SPEED
        axes.plot([x, x], [PAPER[1] - 1, PAPER[1]], color=INK, lw=0.5)
        axes.text(x, PAPER[1] - 1.5, f"{second} s", fontsize=6, ha="center", va="top", color=INK)


def _draw_saliency(axes: Axes, values: np.ndarray, shown: float, explained: str) -> None:
    """Draws a strip on the time of the last row, and its scale below."""
    lower, upper = STRIP
    strength = np.maximum(values, 0)[None]
    top = float(strength.max())
    limits: dict[str, Any] = {"cmap": SALIENCY, "vmin": 0, "vmax": top or 1, "aspect": "auto", "zorder": 2}
    axes.imshow(strength, extent=(START, START + shown * SPEED, lower, upper), **limits)
    axes.add_patch(
        Rectangle((START, lower), shown * SPEED, upper - lower, fill=False, ec=INK, lw=0.4, zorder=3)
    )
    text: dict[str, Any] = {"fontsize": 6.5, "va": "center", "color": INK, "parse_math": False}
    axes.text(START - 1.5, (lower + upper) / 2, "saliency", ha="right", **text)
    y, height, bar = 14.5, 3.0, (START, START + 30)
    axes.imshow(np.linspace(0, top or 1, 64)[None], extent=(*bar, y, y + height), **limits)
    axes.add_patch(Rectangle((bar[0], y), 30, height, fill=False, ec=INK, lw=0.4, zorder=3))
    axes.text(bar[0] - 1.5, y + height / 2, "0", ha="right", **text)
    name = f" of {textwrap.shorten(explained, 60, placeholder='…')}" if explained else ""
    axes.text(
        bar[1] + 1.5,
        y + height / 2,
        f"{top:.2g}, largest fall of the log odds{name} when 0.2 s are hidden",
        **text,
    )


def _draw_text(axes: Axes, title: str, findings: str, rate: float, synthetic: bool) -> None:
    text: dict[str, Any] = {"color": INK, "parse_math": False, "va": "top"}
    made = "SYNTHETIC RECORD   " if synthetic else ""
    axes.text(
        PAPER[0],
        205,
        made + textwrap.shorten(title, 100, placeholder="…"),
        fontsize=11,
        weight="bold",
        **text,
    )
    scale = f"{SPEED:g} mm/s   {GAIN:g} mm/mV   {rate:g} Hz"
    axes.text(PAPER[2], 205, scale, fontsize=8, ha="right", **text)
    lines = [line for part in findings.splitlines() for line in textwrap.wrap(part, WRAP)]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1][: WRAP - 2]} …"]
    axes.text(PAPER[0], 198.5, "\n".join(lines), fontsize=8, linespacing=1.3, **text)
    axes.text(PAPER[0], 9, WARNING, fontsize=7, weight="bold", **text)
    if synthetic:
        axes.text(
            PAPER[2], 9, "synthetic: made by a model of the heart's dipole", fontsize=7, ha="right", **text
        )
