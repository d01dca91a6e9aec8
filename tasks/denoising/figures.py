"""Pictures of a denoiser's results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from core.data.images.files import to_float
from core.infer.restorer import Restorer
from core.infer.scoring import Case, protocol_of
from core.report.pictures import comparison, curves
from core.task import Evaluation
from tasks.denoising.data import DenoisingData
from tasks.denoising.noise import noise_levels
from tasks.denoising.scoring import BASELINES, all_cases, protocol_for

PICTURES = 4  # at most, of all test sets
LEVELS = (5.0, 15.0, 25.0, 35.0, 50.0, 75.0)
CURVE_IMAGES, CURVE_SIDE = (
    3,
    192,
)  # images of the curve by noise level, and pixels of their middle that are used


def draw_all(
    restorer: Restorer, config: Any, data: DenoisingData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields pictures of test images, and the curve by noise level for Gaussian noise."""
    yield from draw_images(config, data, results)
    real = any(part.noisy for part in data.tests.values())
    if "gaussian" in config.data.kinds and not real:
        yield "psnr_by_noise_level", draw_levels(restorer, config, data)


def draw_images(
    config: Any, data: DenoisingData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields noisy, baseline, restored and clean versions of the first image of each set."""
    shown = {name: result.outputs for name, result in results.items()}
    baseline = next((name for name in results if name not in ("model", "noisy")), None)
    drawn: set[tuple[str, str]] = set()
    for case in all_cases(config.data, data):
        key = (case.group, case.image, case.condition)
        # One picture of each set and condition.
        if len(drawn) == PICTURES or key not in shown["model"].images or key[::2] in drawn:
            continue
        drawn.add(key[::2])
        noisy = protocol_for(config, case).psnr(case.pixels, case.truth)
        panels = [(f"noisy {noisy:.2f} dB", case.pixels)]
        for name, title in ((baseline, str(baseline)), ("model", "ours")):
            if name is not None and key in shown[name].images:
                panels.append((f"{title} {shown[name].scores[key]:.2f} dB", shown[name].images[key]))
        panels.append(("clean", case.truth))
        title = f"{case.image}, {case.condition}"
        yield f"{case.group}_{case.condition.replace(' ', '_')}", comparison(panels, title=title)


def draw_levels(restorer: Restorer, config: Any, data: DenoisingData) -> Figure:
    """Draws PSNR by noise level of the model and the baselines, on the middle of a few test images."""
    levels = sorted({*LEVELS, *noise_levels(config.data)})
    few = replace(config.data, kinds=["gaussian"], test_sigma=levels)
    part = next(iter(data.tests.values()))
    images = [middle(image, CURVE_SIDE) for image in part.clean.images[:CURVE_IMAGES]]
    names = part.clean.names[: len(images)]
    small = replace(
        data, train=None, tests={"": replace(part, clean=replace(part.clean, names=names, images=images))}
    )
    protocol = protocol_of(config.scoring)
    methods = {"ours": lambda case: restorer(case.pixels)}
    for name in config.scoring.baselines:
        if name != "bm3d":  # seconds for each image
            methods[name] = _baseline(name)
    found: dict[str, dict[float, list[float]]] = {name: {level: [] for level in levels} for name in methods}
    for case in all_cases(few, small):
        assert case.level is not None
        for name, method in methods.items():
            found[name][case.level].append(protocol.psnr(method(case), case.truth))
    series = {name: [float(np.mean(values[level])) for level in levels] for name, values in found.items()}
    trained = config.data.sigma
    title = (
        f"trained for {trained[0]:g} to {trained[1]:g}"
        if isinstance(trained, list)
        else f"trained for {trained:g}"
    )
    return curves(levels, series, "noise level, standard deviation in levels of 255", "PSNR, dB", title)


def _baseline(name: str) -> Any:
    def restored(case: Case) -> np.ndarray:
        assert case.level is not None
        return BASELINES[name](to_float(case.pixels), case.level)

    return restored


def middle(image: np.ndarray, side: int) -> np.ndarray:
    """Cuts the middle of ``(H, W, C)``, at most ``side`` pixels high and wide."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top : top + side, left : left + side]
