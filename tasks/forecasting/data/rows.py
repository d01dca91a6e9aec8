"""Observations as they stand in a source, each with the line it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Rows:
    """Observations in the order of their source.

    Attributes:
        ids: ``(R,)`` series names, strings.
        times: ``(R,)`` ``datetime64[ns]``, or int64 whole-number steps.
        values: ``(R,)`` float64, NaN where missing.
        numbers: ``(R,)`` line in the file (or row of the frame) that each came from.
        where: The source in an error message: a file name.
        line: What ``numbers`` counts: ``line`` or ``row``.
    """

    ids: np.ndarray
    times: np.ndarray
    values: np.ndarray
    numbers: np.ndarray
    where: str
    line: str = "line"

    def take(self, index: np.ndarray) -> Rows:
        """Returns the rows at an index array or mask."""
        return Rows(
            self.ids[index], self.times[index], self.values[index], self.numbers[index], self.where, self.line
        )


def some(names: Sequence[str]) -> str:
    """Lists up to three names: ``A, B, C and 4 more``."""
    shown = ", ".join(map(str, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
