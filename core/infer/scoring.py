"""Scores of restored images: one row an image, means of each set and condition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from core.data.images.quality import Protocol
from core.infer.config import ScoringConfig
from core.task import Evaluation

SHOWN = 4
"""Images of a test set whose pixels are kept for figures."""


@dataclass(frozen=True)
class Case:
    """One degraded image of a test.

    Attributes:
        group: Name of the test set.
        image: Name of the image.
        condition: What is wrong with it: ``sigma 25``, ``x2``.
        pixels: The degraded image ``(h, w, C)``, float32 in [0, 1].
        truth: The clean image ``(H, W, C)``, float32 in [0, 1].
        level: Noise level in levels of 255, or the enlargement; ``None`` where it is not known.
    """

    group: str
    image: str
    condition: str
    pixels: np.ndarray
    truth: np.ndarray
    level: float | None = None


Method = Callable[[Case], np.ndarray]
"""Maps a case to a restored image in the truth's shape, float32 in [0, 1]."""


@dataclass
class Shown:
    """Pixels of a few test images, for figures; the keys are (set, image, condition).

    Attributes:
        images: Restored images, float32 in [0, 1].
        scores: PSNR in dB.
    """

    images: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    scores: dict[tuple[str, str, str], float] = field(default_factory=dict)


def protocol_of(config: ScoringConfig) -> Protocol:
    """Returns the protocol of a configuration. Raises ``ConfigError`` for a border below zero."""
    return Protocol(config.channel, config.shave, config.rounding, config.y_rounding)


def score(
    method: Method, cases: Iterable[Case], total: int, protocol: Callable[[Case], Protocol], what: str
) -> Evaluation:
    """Scores a method with a progress bar.

    Args:
        method: What is scored.
        cases: Test images, made one at a time.
        total: Their number.
        protocol: How a case is compared.
        what: Words at the progress bar.
    """
    rows: list[dict[str, Any]] = []
    shown = Shown()
    seen: dict[str, set[str]] = {}
    for case in track(cases, what, total=total, transient=True):
        restored, how = method(case), protocol(case)
        row: dict[str, Any] = {"set": case.group, "image": case.image, "condition": case.condition}
        row |= {"psnr": how.psnr(restored, case.truth), "ssim": how.ssim(restored, case.truth)}
        rows.append(row)
        names = seen.setdefault(case.group, set())
        if len(names) < SHOWN or case.image in names:
            names.add(case.image)
            key = (case.group, case.image, case.condition)
            shown.images[key], shown.scores[key] = restored, row["psnr"]
    frame = pd.DataFrame(rows)
    return Evaluation(means(frame), frame, shown)


def means(frame: pd.DataFrame) -> dict[str, float]:
    """Returns the means of each set and condition where there are several, and last those of all rows."""
    found: dict[str, float] = {}
    groups = frame.groupby(["set", "condition"], sort=False)[["psnr", "ssim"]].mean()
    if len(groups) > 1:
        for (group, condition), row in zip(groups.index.tolist(), groups.to_dict("records"), strict=True):
            found |= {f"{group} {condition}/{name}": float(row[name]) for name in ("psnr", "ssim")}
    return found | {name: float(frame[name].mean()) for name in ("psnr", "ssim")}


def protocol_table(
    restored: Callable[[Case], np.ndarray],
    cases: Iterable[Case],
    choices: Callable[[Case], dict[str, Protocol]],
    others: Mapping[str, Iterable[Case]],
) -> list[str]:
    """Returns one line for each protocol: what it gives, and the difference to the configured one in dB.

    Args:
        restored: The method.
        cases: Test images.
        choices: Protocols of a case by name; the first is the configured one.
        others: The same test with another choice in making the input, by name.
    """
    found: dict[str, list[float]] = {}
    for case in cases:
        image = restored(case)
        for name, protocol in choices(case).items():
            found.setdefault(name, []).append(protocol.psnr(image, case.truth))
    for name, changed in others.items():
        for case in changed:
            first = next(iter(choices(case).values()))
            found.setdefault(name, []).append(first.psnr(restored(case), case.truth))
    values = {name: float(np.mean(scores)) for name, scores in found.items()}
    reference = next(iter(values.values()))
    lines = [f"  {name:44} {value:8.3f} dB {value - reference:+8.3f}" for name, value in values.items()]
    return ["PSNR by protocol, mean over all test images:", *lines]
