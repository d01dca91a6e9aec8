"""The gallery: one static page with the latest report of every task and a table of all runs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from core.commands.results import Comparison
from core.errors import ConfigError, TrackingError
from core.report.html import REPORT
from core.report.pages import embed, figure_files, render, words
from core.report.summary import read_summary, summary_of_record, verdict
from core.track.folder import Record, is_stale, list_runs, read_runs, write_atomic

GALLERY = "gallery.html"
THUMB = (640, 384)
"""Largest width and height of a thumbnail, pixels; twice what the page shows, for dense screens."""

_STATUS = {"FINISHED": "finished", "RUNNING": "running", "FAILED": "failed", "KILLED": "interrupted"}


@dataclass
class Entry:
    """One run in the gallery.

    Attributes:
        title: ``N-BEATS on tourism``.
        status: In words.
        started: Unix time, seconds.
        commit: Short, with a plus sign if the working tree had changes.
        row: The primary metric on the whole set; None for a run without results.
        kind: ``better``, ``worse``, ``equal`` or ``none`` against the best baseline.
        verdict: The same in words.
        link: Address of the report, relative to the gallery; empty if there is none.
        folder: The run's folder.
        thumb: ``data:`` address of the first figure, scaled down, and ``caption`` for it.
    """

    id: str
    task: str
    title: str
    status: str
    started: float
    commit: str
    row: Comparison | None
    kind: str
    verdict: str
    link: str
    folder: Path
    thumb: str = ""
    caption: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.status == _STATUS["FINISHED"]

    @property
    def status_kind(self) -> str:
        """``none`` for a run that is finished or goes on, ``worse`` for one that did not come to its end."""
        return "none" if self.status in (_STATUS["FINISHED"], _STATUS["RUNNING"]) else "worse"


def write_gallery(root: Path, output: Path | None = None, all_runs: bool = False) -> tuple[Path, int]:
    """Writes the gallery of the runs under a folder.

    Damaged runs cost a line on stderr each and are left out.

    Args:
        root: Output folder of trainings, ``runs``.
        output: File to write; ``gallery.html`` in ``root`` by default.
        all_runs: A card for every run, not only for the latest report of each task.

    Returns:
        Its path and the number of runs.

    Raises:
        TrackingError: There is no run.
        ConfigError: The file cannot be written.
    """
    path = (output or root / GALLERY).absolute()
    entries = sorted(_entries(root, path.parent), key=lambda entry: entry.started, reverse=True)
    if not entries:
        raise TrackingError(
            f"there is no run to show in {root}; train one, as in `python -m tasks.forecasting.train`, "
            "or name the folder of your runs with --runs"
        )
    cards = entries if all_runs else _latest(entries)
    for entry in cards:
        entry.thumb, entry.caption = _thumbnail(entry.folder)
    page = render(
        "gallery.html",
        title="Gallery of runs",
        runs=entries,
        cards=sorted(cards, key=lambda entry: entry.task),
        tasks=sorted({entry.task for entry in entries}),
        all=all_runs,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, page)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}; name another file") from None
    return path, len(entries)


def _entries(root: Path, start: Path) -> Iterator[Entry]:
    for folder, record in read_runs(list_runs(root)):
        try:
            yield _entry(folder, record, start)
        except (TrackingError, ValueError, TypeError, KeyError, AttributeError) as error:
            print(f"warning: {folder} is damaged ({error}); the run is left out", file=sys.stderr)


def _entry(folder: Path, record: Record, start: Path) -> Entry:
    summary = read_summary(folder) or summary_of_record(record)
    data = record.datasets[0]["name"] if record.datasets else ""
    row = summary.rows[-1] if summary and summary.rows else None
    kind, text = verdict(row) if row else ("none", "")
    status = _STATUS.get(record.status, record.status.lower())
    commit = record.tags.get("git.commit", "")[:7]
    return Entry(
        id=record.id,
        task=record.task,
        title=summary.title if summary else f"{record.task} on {data}" if data else record.task,
        status="stopped, its process is gone" if is_stale(record) else status,
        started=float(record.started),
        commit=f"{commit}+" if commit and record.tags.get("git.dirty") == "true" else commit,
        row=row,
        kind=kind,
        verdict=text,
        link=_link(folder / REPORT, start),
        folder=folder,
    )


def _link(report: Path, start: Path) -> str:
    """Returns the address of a report from a folder; its end tells the report that it can lead back."""
    if not report.is_file():
        return ""
    path = Path(os.path.relpath(report.absolute(), start))
    below = len(path.parts) == 3 and ".." not in path.parts
    return quote(path.as_posix()) + ("#gallery" if below else "")


def _latest(entries: list[Entry]) -> list[Entry]:
    """Returns the latest finished run with a report of each task, or its latest run where there is none."""
    found: dict[str, Entry] = {}
    for entry in [e for e in entries if e.finished and e.link] + entries:
        found.setdefault(entry.task, entry)
    return list(found.values())


def _thumbnail(folder: Path) -> tuple[str, str]:
    """Returns the first figure of a run, scaled down, as a ``data:`` address, and its caption."""
    from PIL import Image

    for path in figure_files(folder):
        try:
            with Image.open(path) as image:
                small = Image.new("RGB", image.size, "white")
                small.paste(image, mask=image.convert("RGBA").getchannel("A"))
        except OSError:
            continue  # a figure that a kill has cut off
        small.thumbnail(THUMB, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=80)
        return embed(buffer.getvalue(), "webp"), words(path.stem)
    return "", ""
