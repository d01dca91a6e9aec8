"""Scores of a denoiser and of classical methods on the same degraded images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from core.data.images.degrade import estimate_sigma
from core.data.images.files import to_float
from core.data.images.quality import Protocol, variants
from core.errors import ConfigError
from core.infer.restorer import Restorer
from core.infer.scoring import Case, protocol_of, protocol_table, score
from core.registry import Registry
from core.task import Evaluation
from tasks.denoising.config import DataConfig
from tasks.denoising.data import DenoisingData
from tasks.denoising.noise import conditions

SMALLEST = 0.5  # levels of 255; the classical methods divide by the noise level

BASELINES: Registry[Callable[[np.ndarray, float], np.ndarray]] = Registry("baseline")
"""Name to a function of a noisy image ``(H, W, C)``, float32 in [0, 1], and its noise level in levels of 255."""


@BASELINES.register("noisy")
def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    """Returns the image as it is."""
    return image


@BASELINES.register("nlm")
def non_local_means(image: np.ndarray, sigma: float) -> np.ndarray:
    """Non-local means (Buades et al., CVPR 2005) of scikit-image, with the filter strength of its documentation."""
    from skimage.restoration import denoise_nl_means

    level = max(sigma, SMALLEST) / 255
    restored = denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.8 * level, sigma=level, fast_mode=True, channel_axis=-1
    )
    return restored.astype(np.float32).reshape(image.shape)  # it drops the axis of a gray image


@BASELINES.register("bm3d")
def bm3d(image: np.ndarray, sigma: float) -> np.ndarray:
    """BM3D (Dabov et al., IEEE TIP 2007) of the package bm3d, for non-commercial use."""
    from bm3d import bm3d as run

    restored = run(image[..., 0] if image.shape[2] == 1 else image, max(sigma, SMALLEST) / 255)
    return np.asarray(restored, dtype=np.float32).reshape(image.shape)


def check_baselines(names: Sequence[str]) -> None:
    """Raises ``ConfigError`` if baselines cannot be scored, before a model is trained for nothing."""
    if "bm3d" in names and find_spec("bm3d") is None:
        raise ConfigError(
            "the baseline bm3d needs the package bm3d (for non-commercial use): pip install bm3d"
        )


def all_cases(config: DataConfig, data: DenoisingData) -> Iterator[Case]:
    """Yields every test image under every condition of the configuration."""
    for group, part in data.tests.items():
        for i, name in enumerate(part.clean.names):
            clean = part.clean.images[i]
            if part.noisy is not None:
                yield Case(group, name, "real", to_float(part.noisy.images[i]), to_float(clean))
                continue
            for condition in conditions(config):
                degraded, truth = condition.pair(clean, part.colour.get(name))
                yield Case(group, name, condition.name, degraded, truth, condition.sigma)


def protocol_for(config: Any, case: Case) -> Protocol:
    """Returns the protocol of a case: the configured one, as its condition changes it."""
    return _changed(protocol_of(config.scoring), config, case)


def _changed(protocol: Protocol, config: Any, case: Case) -> Protocol:
    for condition in conditions(config.data):
        if condition.name == case.condition:
            return condition.protocol(protocol)
    return protocol  # real noise, or what was asked for beside the configuration


def count_cases(config: DataConfig, data: DenoisingData) -> int:
    """Returns the number of :func:`all_cases`."""
    several = len(conditions(config))
    return sum(len(p.clean.names) * (1 if p.noisy else several) for p in data.tests.values())


def score_denoiser(restorer: Restorer, config: Any, data: DenoisingData) -> Evaluation:
    """Scores a trained model; with ``all_protocols`` its notes say what other protocols would have given."""
    protocol = partial(protocol_for, config)

    def restored(case: Case) -> np.ndarray:
        return restorer(case.pixels)

    total = count_cases(config.data, data)
    result = score(restored, all_cases(config.data, data), total, protocol, "testing")
    if getattr(config, "all_protocols", False):
        others: dict[str, Iterable[Case]] = {
            name: all_cases(changed, data) for name, changed in _other_noise(config.data, data).items()
        }

        def choices(case: Case) -> dict[str, Protocol]:
            others = variants(protocol_of(config.scoring), data.channels)
            return {name: _changed(other, config, case) for name, other in others.items()}

        result.notes += protocol_table(restored, all_cases(config.data, data), choices, others)
    return result


def _other_noise(config: DataConfig, data: DenoisingData) -> dict[str, DataConfig]:
    if any(part.noisy for part in data.tests.values()):
        return {}
    found = {"another seed of the noise": replace(config, test_seed=config.test_seed + 1)}
    if "gaussian" in config.kinds:
        clipped: Any = ["clipped" if kind == "gaussian" else kind for kind in config.kinds]
        found["noisy image clipped and rounded to 8 bit"] = replace(config, kinds=clipped)
    return found


def score_baselines(config: Any, data: DenoisingData) -> dict[str, Evaluation]:
    """Scores the configured baselines; those that need a noise level estimate it where it is not known."""
    protocol = partial(protocol_for, config)
    results = {}
    for name in config.scoring.baselines:
        method = BASELINES[name]

        def restored(case: Case, method: Any = method) -> np.ndarray:
            sigma = estimate_sigma(case.pixels) if case.level is None else case.level
            return method(case.pixels, sigma)

        total = count_cases(config.data, data)
        results[name] = score(restored, all_cases(config.data, data), total, protocol, name)
    return results
