"""Remarks on files, counted by kind."""

from __future__ import annotations

import re
from collections import Counter


class Tally:
    """Counts remarks on files or records, so that a thousand equal ones become one line with an example.

    Args:
        noun: What they are, in the plural.
    """

    def __init__(self, noun: str = "files") -> None:
        self.noun = noun
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[str, str]] = {}

    def add(self, name: str, remark: str) -> None:
        """Counts a remark on a file; remarks that differ in numbers alone are the same."""
        kind = re.sub(r"\d[\d.,]*", "#", remark)
        self._counts[kind] += 1
        self._first.setdefault(kind, (name, remark))

    def notes(self, what: str = "") -> list[str]:
        """Returns a line for each kind of remark; ``what`` comes before it, as in ``left out: ``."""
        lines = []
        for kind, count in self._counts.items():
            name, remark = self._first[kind]
            alone = f"{name}: {what}{remark}"
            lines.append(alone if count == 1 else f"{count} {self.noun}: {what}{remark}, such as {name}")
        return lines
