"""What label maps mean that come without a description: by their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from core.errors import DataError
from tasks.segmentation.data.scan import Look
from tasks.segmentation.labels import IGNORE, Labels

MANY = 8
"""Objects in some case, from which on numbers are taken for those of objects."""
MOST_CLASSES = 128
"""More values than that are no classes."""
FEW, FEW_IN_ORDER = 5, 10
"""Cases from which on a value that a single one has is a mistake; more are needed where it continues the others."""
MISTAKES = 0.05
"""Share of the cases, but two at least, that hold mistakes; with more of them, rare values are classes."""
VOID = 255
"""Value that counts for nothing beside consecutive classes, as in PASCAL VOC."""
FOREGROUND = "foreground"


def numbers_objects(looks: Iterable[Look]) -> bool:
    """Whether the values of label maps of images number objects.

    They do if some image has many, images differ in them, they count from 1 with few gaps in most images, and nearly
    each value is one connected piece.
    """
    sets = [frozenset(look.values) - {0} for look in looks if look.values]
    filled = [values for values in sets if values]
    if not filled or max(map(len, filled)) < MANY or len(set(filled)) < 2:
        return False
    if max(max(values) for values in filled) == VOID == max(min(values) for values in filled):
        return False
    counted = sum(len(values) >= 0.8 * max(values) for values in filled) >= 0.8 * len(filled)
    pieces = sum(look.pieces for look in looks)
    return counted and pieces <= 1.25 * sum(map(len, filled))


def find_classes(looks: Mapping[str, Look]) -> tuple[Labels, dict[str, str], list[str]]:
    """Finds the classes of label maps by their values.

    Consecutive numbers are classes, 0 and 255 (or 0 and any other number) are background and foreground, and 255
    beside consecutive numbers counts for nothing. A value that a single case has is taken for a mistake, if it fits
    none of this and there are five cases, or if there are ten; it could not be both learned and tested.

    Args:
        looks: At the cases, by their names.

    Returns:
        The labels, a reason for each case that holds a mistake, and what the user should know.

    Raises:
        DataError: There is no class, or there are too many values.
    """
    cases: Counter[int] = Counter(value for look in looks.values() for value in look.values)
    values = sorted({0, *cases})
    if len(values) < 2:
        raise DataError("all label maps are empty: they hold nothing but 0; give labels")
    common = sorted({0, *(value for value, count in cases.items() if count > 1)})
    wrong: dict[str, str] = {}
    few = FEW if _kind(values) is None else FEW_IN_ORDER
    if _kind(common) is not None and values != common and len(looks) >= few:
        odd = {name: sorted(set(look.values) - set(common)) for name, look in looks.items()}
        odd = {name: rare for name, rare in odd.items() if rare}
        if len(odd) <= max(2, MISTAKES * len(looks)):
            wrong = {
                name: f"the label {rare[0]} stands in this case alone, the others have {_listed(common)}; a "
                "dataset.json would name it"
                for name, rare in odd.items()
            }
            values = common
    if len(values) > MOST_CLASSES:
        raise DataError(
            f"label maps hold {len(values)} values; if they number objects, set --data.instances yes, else save "
            "classes as 0, 1, 2 and so on"
        )
    if 0 in values and VOID in values and _soft(looks.values()):
        raise DataError(
            f"masks hold 0 and 255 and values between, such as {values[1]}, as smoothing and JPEG leave them; save "
            "them as PNG with two values"
        )
    if values == [0, 1, VOID] and not any({1, VOID} <= set(look.values) for look in looks.values()):
        first = next(name for name, look in looks.items() if VOID in look.values)
        raise DataError(
            f"some masks have 1 and others 255 for what is marked, such as {first}; save all alike"
        )
    if _kind(values) == "void":
        names = ("background", *(f"label {value}" for value in values[1:-1]))
        return Labels(names, tuple(values[:-1]), VOID), wrong, ["the label 255 counts for nothing"]
    if len(values) == 2:
        return Labels(("background", FOREGROUND), tuple(values)), wrong, []
    names = ("background", *(f"label {value}" for value in values[1:]))
    notes = (
        [] if _kind(values) else [f"labels are no consecutive numbers, {_listed(values)}; each is a class"]
    )
    return Labels(names, tuple(values)), wrong, notes


def count_classes(values: Mapping[int, int], labels: Labels) -> dict[int, int]:
    """Returns the voxels of each class by its index.

    Args:
        values: Voxels of each value of a label map.
        labels: What the values mean.

    Raises:
        DataError: A value means nothing.
    """
    index = {value: i for i, value in enumerate(labels.values)}
    ignore = labels.ignore
    known = {*index} if ignore is None else {*index, ignore}
    if unknown := sorted(set(values) - known):
        raise DataError(f"the label {unknown[0]} is out of range, known are {_listed(sorted(known))}")
    counts = {i: values.get(value, 0) for value, i in index.items()}
    if ignore is not None and ignore in values:
        counts[IGNORE] = values[ignore]
    return counts


def _kind(values: list[int]) -> str | None:
    """How values make classes; ``None`` if they are not as people number them."""
    if len(values) == 2:
        return "mask"
    if values == list(range(len(values))):
        return "classes"
    return "void" if values[-1] == VOID and values[:-1] == list(range(len(values) - 1)) else None


def _soft(looks: Iterable[Look]) -> bool:
    """Whether values between 0 and 255 are the rare edges of masks."""
    total: Counter[int] = Counter()
    for look in looks:
        total.update(look.values)
    between = sum(total.values()) - total[0] - total[VOID]
    return len(total) > 8 and total[VOID] > 0 and between < 0.2 * total[VOID]


def _listed(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:8]))
    return f"{shown}, ..." if len(values) > 8 else shown
