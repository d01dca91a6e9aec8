"""Whether options can be used, and whether a model and data mean the same. Imports no heavy library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.errors import ConfigError, DataError
from tasks.segmentation.config import InferenceConfig, SegScoringConfig

if TYPE_CHECKING:
    from tasks.segmentation.data.cases import SegmentationData
    from tasks.segmentation.labels import Labels
    from tasks.segmentation.segmenter import Segmenter


def check_inference(options: InferenceConfig, prefix: str) -> None:
    """Raises ``ConfigError`` for a step or a batch that no inference can use.

    Args:
        options: How networks are applied.
        prefix: What stands before the names of these options: ``scoring.``, or nothing in ``predict``.
    """
    if not 0 < options.step <= 1:
        raise ConfigError(f"--{prefix}step {options.step} must lie above 0, and be 1 or less")
    if options.batch < 1:
        raise ConfigError(f"--{prefix}batch {options.batch} must be 1 or more")


def check_scoring(options: SegScoringConfig) -> None:
    """Raises ``ConfigError`` for options that nothing can be scored with."""
    check_inference(options, "scoring.")
    if not options.tolerance >= 0:
        raise ConfigError(f"--scoring.tolerance {options.tolerance} must be 0 mm or more")
    if not 0 < options.iou <= 1:
        raise ConfigError(f"--scoring.iou {options.iou} must lie above 0, and be 1 or less")


def apply_options(segmenter: Segmenter, options: InferenceConfig, prefix: str = "scoring.") -> None:
    """Tells a segmenter how to apply its networks.

    Args:
        segmenter: The model.
        options: How networks are applied.
        prefix: See :func:`check_inference`.

    Raises:
        ConfigError: A value cannot be used.
    """
    check_inference(options, prefix)
    segmenter.step, segmenter.mirror, segmenter.batch = options.step, options.mirror, options.batch


def check_fits(segmenter: Segmenter, data: SegmentationData) -> list[str]:
    """Compares what a model and data mean by their classes and channels.

    Returns:
        What was assumed: classes and channels of other names are matched in order.

    Raises:
        DataError: They cannot mean the same.
    """
    ours, theirs = segmenter.labels, data.labels
    if len(segmenter.channels) != len(data.channels):
        raise DataError(
            f"{data.name}: images of {len(data.channels)} channel(s), but the model reads {len(segmenter.channels)}"
            f" ({', '.join(segmenter.channels)}); choose some with --data.channels"
        )
    if len(ours.names) != len(theirs.names) or ours.instances != theirs.instances:
        raise DataError(
            f"{data.name}: the labels are {_meaning(theirs)}, but the model knows {_meaning(ours)}; score it on data"
            " with these"
        )
    # The background comes first whatever its name is.
    return [
        *_matched(data.name, "classes", ours.names[1:], theirs.names[1:], "number them in its order"),
        *_matched(
            data.name, "channels", segmenter.channels, data.channels, "order them with --data.channels"
        ),
    ]


def _matched(where: str, what: str, ours: Sequence[str], theirs: Sequence[str], advice: str) -> list[str]:
    """Says how names are matched in order, if they differ; a name at another place than the model's is an error."""
    pairs = list(zip(ours, theirs, strict=True))
    moved = [name for name, other in pairs if name != other and any(name == b and a != b for a, b in pairs)]
    if moved:
        raise DataError(
            f"{where}: the {what} are {', '.join(theirs)}, but the model's are {', '.join(ours)}, with {moved[0]} at"
            f" another place; {advice}"
        )
    if list(ours) == list(theirs):
        return []
    return [f"{what} are matched in order: {', '.join(f'{a} = {b}' for a, b in pairs)}"]


def _meaning(labels: Labels) -> str:
    names: Sequence[str] = labels.names
    return "numbers of objects" if labels.instances else f"{len(names)} classes ({', '.join(names)})"
