"""Pictures of enlarged test images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from core.report.pictures import comparison
from core.task import Evaluation
from tasks.super_resolution.data import SuperResolutionData
from tasks.super_resolution.scoring import all_cases, nearest, protocol_for, scale_of

PICTURES = 4  # at most, of all test sets


def draw_all(
    config: Any, data: SuperResolutionData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields small, baseline, enlarged and true versions of the first image of each set and scale."""
    drawn: set[tuple[str, str]] = set()
    for case in all_cases(data):
        key = (case.group, case.image, case.condition)
        if len(drawn) == PICTURES:
            return
        if key[::2] in drawn or key not in results["model"].outputs.images:
            continue
        drawn.add(key[::2])
        small: np.ndarray = nearest(case.pixels, scale_of(case))
        value = protocol_for(config.scoring, case).psnr(small, case.truth)
        panels = [(f"small, {value:.2f} dB", small)]
        for name in [*(name for name in results if name != "model"), "model"]:
            shown = results[name].outputs
            title = "ours" if name == "model" else name
            panels.append((f"{title} {shown.scores[key]:.2f} dB", shown.images[key]))
        panels.append(("truth", case.truth))
        yield (
            f"{case.group}_{case.condition.replace(' ', '_')}",
            comparison(panels, title=f"{case.image}, {case.condition}"),
        )
