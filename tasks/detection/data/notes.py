"""What was dropped or mended, counted by kind."""

from __future__ import annotations


class Notes:
    """Counts what was dropped or mended, and remembers the first place of each kind."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, noun: str, what: str, where: str, count: int = 1) -> None:
        """Notes something.

        Args:
            noun: What it happened to, in the singular: box, image, row.
            what: What was wrong and what was done, without a verb that depends on the number.
            where: File and row.
            count: How many times.
        """
        before, first = self._kinds.get((noun, what), (0, where))
        self._kinds[noun, what] = (before + count, first)

    def lines(self) -> list[str]:
        """Returns a line for each kind, in the order in which they were first met."""
        return [
            f"{count:,} {noun if count == 1 else _plural(noun)} {what} (first: {where})"
            for (noun, what), (count, where) in self._kinds.items()
        ]


def _plural(noun: str) -> str:
    if noun.endswith("y"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith("x") else f"{noun}s"


def number(text: object) -> float:
    """Returns a number of a file, or NaN where there is none."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return float("nan")
    try:
        return float(text)
    except (ValueError, OverflowError):
        return float("nan")
