"""What is kept of the predictions of a test, for figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tasks.segmentation.data.cases import Case
from tasks.segmentation.measures import Curve
from tasks.segmentation.segmenter import Segmentation

WORST = 3
"""Cases with the lowest Dice whose prediction is kept for figures; that of the best one is kept too."""


@dataclass(frozen=True)
class Shown:
    """A prediction that is kept for figures.

    Attributes:
        case: The case; its image and labels are read again.
        dice: Mean over the targets; nan where the case has none of them and none was found.
        labels: ``(Z, Y, X)`` of the smallest type.
        objects: ``(Z, Y, X)`` numbers of objects.
    """

    case: Case
    dice: float
    labels: np.ndarray
    objects: np.ndarray | None


@dataclass
class Outputs:
    """What the figures need besides the rows.

    Attributes:
        worst: Lowest Dice first.
        best: Highest Dice; ``None`` when ``worst`` has all cases that have some.
        curve: Over all voxels, where there is one target.
    """

    worst: list[Shown] = field(default_factory=list)
    best: Shown | None = None
    curve: Curve | None = None

    def add(self, case: Case, dice: float, found: Segmentation) -> None:
        """Keeps a prediction if it is among the worst, or the best.

        Args:
            case: The case.
            dice: Mean over the targets, or nan.
            found: The prediction.
        """
        kind = np.uint8 if found.labels.max() < 256 else np.int16
        shown = Shown(case, dice, found.labels.astype(kind), found.objects)
        ranked = sorted([*self.worst, shown], key=_rank)
        self.worst, others = ranked[:WORST], ranked[WORST:]
        # An empty case shows nothing.
        others = [each for each in [self.best, *others] if each is not None and not math.isnan(each.dice)]
        self.best = max(others, key=_rank, default=None)


def _rank(shown: Shown) -> float:
    # What is rightly left empty is no bad result.
    return 1.0 if math.isnan(shown.dice) else shown.dice
