"""Only the largest component of a class is kept, where validation data says that it helps (nnU-Net)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from tasks.segmentation.labels import IGNORE, Labels


@dataclass(frozen=True)
class Postprocessing:
    """What is done to a predicted label map.

    Attributes:
        all_foreground: Whether only the largest component of everything that is not background is kept.
        classes: Then one by one, classes or classes of a region, of which only the largest component is kept.
    """

    all_foreground: bool = False
    classes: tuple[tuple[int, ...], ...] = ()

    def apply(self, labels: np.ndarray) -> np.ndarray:
        """Returns ``(Z, Y, X)`` with all but the largest components set to background; the input is not changed."""
        if self.all_foreground:
            labels = _keep_largest(labels, labels > 0)
        for classes in self.classes:
            labels = _keep_largest(labels, np.isin(labels, classes))
        return labels

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Postprocessing:
        """Returns what :meth:`to_dict` gave, after JSON too."""
        return Postprocessing(stored["all_foreground"], tuple(map(tuple, stored["classes"])))


def choose_postprocessing(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: Labels
) -> tuple[Postprocessing, list[str]]:
    """Decides on validation cases what post-processing pays.

    First for all foreground together: the mean Dice must rise and that of no class may fall. Then, where there are
    several, class by class, or region by region: its own Dice must rise.

    Args:
        pairs: Prediction and truth of each case, ``(Z, Y, X)``.
        labels: What they mean; nothing is done to objects.

    Returns:
        The post-processing, and one line for each decision.
    """
    if labels.instances or not pairs:
        return Postprocessing(), [
            "no component is removed: " + ("objects" if labels.instances else "no validation cases")
        ]
    truths = [truth for _, truth in pairs]
    current = [prediction for prediction, _ in pairs]
    dice = _mean_dice(current, truths, labels)
    if np.isnan(dice).all():
        return Postprocessing(), ["no component is removed: none of the classes is in the validation cases"]
    why = []

    together = Postprocessing(all_foreground=True)
    tried = [together.apply(prediction) for prediction in current]
    new = _mean_dice(tried, truths, labels)
    before, after = np.nanmean(dice), np.nanmean(new)
    worse = [name for (name, _), a, b in zip(labels.targets, new, dice, strict=True) if a < b]
    kept = bool(after > before and not worse)
    blame = f", but {', '.join(worse)} gets worse" if after > before and worse else ""
    why.append(
        f"largest component of all foreground: mean Dice {before:.4f} -> {after:.4f}{blame}, {_verdict(kept)}"
    )
    if kept:
        current, dice = tried, new

    chosen = []
    if len(labels.targets) > 1:
        for index, (name, classes) in enumerate(labels.targets):
            tried = [Postprocessing(classes=(classes,)).apply(prediction) for prediction in current]
            new = _mean_dice(tried, truths, labels)
            rises = bool(new[index] > dice[index])
            why.append(
                f"largest component of {name}: Dice {dice[index]:.4f} -> {new[index]:.4f}, {_verdict(rises)}"
            )
            if rises:
                chosen.append(classes)
                current, dice = tried, new
    return Postprocessing(kept, tuple(chosen)), why


def _verdict(taken: bool) -> str:
    return "taken" if taken else "not taken"


def _keep_largest(labels: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Sets all of ``part`` but its largest component to background; voxels that share a corner are connected."""
    components, count = ndimage.label(part, ndimage.generate_binary_structure(part.ndim, part.ndim))
    if count < 2:
        return labels
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.where(part & (components != sizes.argmax()), 0, labels).astype(labels.dtype)


def _mean_dice(predictions: list[np.ndarray], truths: list[np.ndarray], labels: Labels) -> np.ndarray:
    """Returns the mean Dice over the cases of each target, ``(T,)``; NaN if a target is nowhere."""
    table = np.array([_dice(*pair, labels) for pair in zip(predictions, truths, strict=True)])
    found = ~np.isnan(table)
    sums = np.where(found, table, 0).sum(axis=0)
    return np.divide(sums, found.sum(axis=0), out=np.full(len(sums), np.nan), where=found.any(axis=0))


def _dice(prediction: np.ndarray, truth: np.ndarray, labels: Labels) -> list[float]:
    """Dice of each target in one case; NaN where neither has it."""
    counts = truth != IGNORE
    dice = []
    for _, classes in labels.targets:
        ours, theirs = np.isin(prediction, classes) & counts, np.isin(truth, classes)
        both, total = int((ours & theirs).sum()), int(ours.sum() + theirs.sum())
        dice.append(2 * both / total if total else np.nan)
    return dice
