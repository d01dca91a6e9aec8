"""Scores of a network and of classical methods on the same small images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from core.data.images.files import from_float, to_float
from core.data.images.quality import Protocol, variants
from core.data.images.resize import RESIZERS, imresize
from core.infer.restorer import Restorer
from core.infer.scoring import Case, protocol_table, score
from core.registry import Registry
from core.task import Evaluation
from tasks.super_resolution.config import SuperResolutionScoringConfig
from tasks.super_resolution.data import SuperResolutionData, compressed

BASELINES: Registry[Callable[[np.ndarray, int], np.ndarray]] = Registry("baseline")
"""Name to a function of a small image ``(h, w, C)`` of any type and the scale, to the large image of the same type."""


@BASELINES.register("bicubic")
def bicubic(image: np.ndarray, scale: int) -> np.ndarray:
    """Bicubic enlargement, MATLAB's ``imresize``."""
    return imresize(image, scale)


@BASELINES.register("bilinear")
def bilinear(image: np.ndarray, scale: int) -> np.ndarray:
    """Bilinear enlargement, MATLAB's ``imresize``."""
    return imresize(image, scale, "bilinear")


@BASELINES.register("nearest")
def nearest(image: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel becomes a square."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def all_cases(data: SuperResolutionData, resizer: str = "matlab") -> Iterator[Case]:
    """Yields every test image at every scale.

    Args:
        data: Test sets, with their scales.
        resizer: What makes the small images, one of ``RESIZERS``; pairs have their own.
    """
    suffix = f" jpeg {data.quality}" if data.quality else ""
    for group, part in data.tests.items():
        for scale in data.scales:
            for i, name in enumerate(part.high.names):
                low, high = part.pair(i, scale)
                if resizer != "matlab":
                    low = RESIZERS[resizer](high, 1 / scale)
                if data.quality:
                    low = compressed(low, data.quality)
                yield Case(group, name, f"x{scale}{suffix}", to_float(low), to_float(high), scale)


def count_cases(data: SuperResolutionData) -> int:
    """Returns the number of :func:`all_cases`."""
    return len(data.scales) * sum(len(part.high.names) for part in data.tests.values())


def protocol_for(config: SuperResolutionScoringConfig, case: Case) -> Protocol:
    """Returns the protocol of a case: its scale is the border unless the configuration names one."""
    shave = scale_of(case) if config.shave is None else config.shave
    return Protocol(config.channel, shave, config.rounding, config.y_rounding)


def scale_of(case: Case) -> int:
    """Returns the enlargement of a case."""
    assert case.level is not None
    return int(case.level)


def score_network(restorer: Restorer, config: Any, data: SuperResolutionData) -> Evaluation:
    """Scores a trained model; with ``all_protocols`` its notes say what other protocols would have given."""
    if getattr(config, "ensemble", False):
        restorer.ensemble()

    def restored(case: Case) -> np.ndarray:
        return restorer(case.pixels, scale_of(case))

    protocol = partial(protocol_for, config.scoring)
    result = score(restored, all_cases(data), count_cases(data), protocol, "testing")
    if getattr(config, "all_protocols", False):
        paired = any(part.low for part in data.tests.values())
        names = [] if paired else [name for name in RESIZERS if name != "matlab"]
        others: dict[str, Iterable[Case]] = {
            f"small images by {name}": all_cases(data, name) for name in names
        }

        def choices(case: Case) -> dict[str, Protocol]:
            return variants(protocol(case), data.channels)

        result.notes += protocol_table(restored, all_cases(data), choices, others)
    return result


def score_baselines(config: Any, data: SuperResolutionData) -> dict[str, Evaluation]:
    """Scores the configured baselines, from 8-bit images to 8-bit images."""
    protocol = partial(protocol_for, config.scoring)
    results = {}
    for name in config.scoring.baselines:

        def restored(case: Case, method: Any = BASELINES[name]) -> np.ndarray:
            return method(from_float(case.pixels, np.uint8), scale_of(case))

        results[name] = score(restored, all_cases(data), count_cases(data), protocol, name)
    return results
