"""Scores of a denoiser and of classical methods; what a user is told of the noise of a file."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from core.data.images.files import to_float
from core.data.images.folder import Loaded
from core.data.images.quality import Protocol
from core.errors import ConfigError
from tasks.denoising import scoring
from tasks.denoising.config import DataConfig, DenoisingScoringConfig
from tasks.denoising.data import DenoisingData, ImageSet
from tasks.denoising.scoring import (
    BASELINES,
    all_cases,
    check_baselines,
    count_cases,
    score_baselines,
    score_denoiser,
)
from tasks.denoising.serving import misfit


def smooth(seed, side=32, channels=1):
    rows, columns = np.mgrid[:side, :side] / side
    waves = [127 + 60 * np.sin(4 * rows + seed) + 60 * np.cos(5 * columns * (c + 1)) for c in range(channels)]
    return np.stack(waves, axis=2).astype(np.uint8)


def loaded(*images):
    return Loaded([f"{i}.png" for i in range(len(images))], list(images))


def data_of(channels=1, real=False):
    sets = {
        "A": loaded(smooth(0, 32, channels), smooth(1, 40, channels)),
        "B": loaded(smooth(2, 36, channels)),
    }
    tests = {
        name: ImageSet(images, loaded(*(255 - image for image in images.images)) if real else None)
        for name, images in sets.items()
    }
    return DenoisingData("test", channels, None, tests)


def config_of(all_protocols=False, baselines=("nlm", "noisy"), **data):
    return SimpleNamespace(
        data=DataConfig(**data),
        scoring=DenoisingScoringConfig(baselines=list(baselines)),
        all_protocols=all_protocols,
    )


def psnr(restored, truth):
    """By the definition, on 8 bit values."""
    levels = np.floor(np.clip(restored, 0, 1) * 255 + 0.5)
    return 10 * np.log10(255**2 / np.mean((levels - 255 * truth.astype(np.float64)) ** 2))


def half(pixels):
    return (0.5 * pixels + 0.25).astype(np.float32)


def test_every_image_is_tested_under_every_condition():
    config = DataConfig(kinds=["gaussian", "jpeg"], test_sigma=[15.0, 50.0], test_quality=[10])
    cases = list(all_cases(config, data_of()))
    assert len(cases) == count_cases(config, data_of()) == 9
    assert [(c.group, c.image, c.condition, c.level) for c in cases[:4]] == [
        ("A", "0.png", "sigma 15", 15),
        ("A", "0.png", "sigma 50", 50),
        ("A", "0.png", "jpeg 10", None),
        ("A", "1.png", "sigma 15", 15),
    ]
    for case in cases:
        assert case.pixels.dtype == case.truth.dtype == np.float32


def test_real_noise_has_one_condition_and_no_known_level():
    cases = list(all_cases(DataConfig(test_sigma=[15.0, 50.0]), data_of(real=True)))
    assert len(cases) == count_cases(DataConfig(test_sigma=[15.0, 50.0]), data_of(real=True)) == 3
    assert {(case.condition, case.level) for case in cases} == {("real", None)}
    np.testing.assert_allclose(cases[0].pixels, 1 - cases[0].truth, atol=1e-6)


def test_means_are_of_each_set_and_condition_and_of_all_rows():
    config = config_of(test_sigma=[10.0, 30.0])
    result = score_denoiser(half, config, data_of())
    expected = {}
    for case in all_cases(config.data, data_of()):
        key = f"{case.group} {case.condition}/psnr"
        expected.setdefault(key, []).append(psnr(half(case.pixels), case.truth))
    for name, values in expected.items():
        assert result.metrics[name] == pytest.approx(np.mean(values))
    assert list(expected) == ["A sigma 10/psnr", "A sigma 30/psnr", "B sigma 10/psnr", "B sigma 30/psnr"]
    # Of rows, not of the means of the sets.
    assert result.metrics["psnr"] == pytest.approx(np.mean([*chain.from_iterable(expected.values())]))
    assert len(result.rows) == 6 and result.notes == []
    assert set(result.metrics) == {f"{n.split('/')[0]}/{m}" for n in expected for m in ("psnr", "ssim")} | {
        "psnr",
        "ssim",
    }


def test_the_protocol_is_the_configurations():
    config = config_of()
    config.scoring = DenoisingScoringConfig(shave=3, rounding="truncate")
    result = score_denoiser(half, config, data_of())
    protocol = Protocol(shave=3, rounding="truncate")
    cases = all_cases(config.data, data_of())
    expected = [protocol.psnr(half(case.pixels), case.truth) for case in cases]
    assert result.metrics["psnr"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_other_protocols_are_compared_with_the_configured_one(channels):
    config = config_of(all_protocols=True, sigma=60.0)
    result = score_denoiser(half, config, data_of(channels))
    title, first, *others = result.notes
    assert title.startswith("PSNR by protocol")
    assert first.split()[:2] == ["as", "given"]
    assert first.endswith("+0.000")
    assert float(first.split()[2]) == pytest.approx(result.metrics["psnr"], abs=1e-3)
    lines = {line[:46].strip(): line for line in others}
    assert {"another seed of the noise", "noisy image clipped and rounded to 8 bit"} <= set(lines)
    assert ("luma instead of RGB" in lines) == (channels == 3)
    clipped = config_of(kinds=["clipped"], sigma=60.0)
    expected = score_denoiser(half, clipped, data_of(channels)).metrics["psnr"]
    line = lines["noisy image clipped and rounded to 8 bit"]
    assert float(line.split()[-3]) == pytest.approx(expected, abs=1e-3)
    assert float(line.split()[-1]) == pytest.approx(expected - result.metrics["psnr"], abs=2e-3)


def test_of_real_noise_nothing_else_can_be_made():
    config = config_of(all_protocols=True)
    notes = score_denoiser(half, config, data_of(real=True)).notes
    assert not any("noise" in note or "noisy" in note for note in notes)


def test_dncnn_3_is_scored_as_published():
    """Each condition by its own protocol, in the table of the others too."""
    kinds = ["gaussian", "super_resolution", "jpeg"]
    config = config_of(all_protocols=True, kinds=kinds, scales=[3], test_quality=[10])
    data = data_of()
    data.tests["A"].colour["0.png"] = smooth(0, 32, 3)
    result = score_denoiser(half, config, data)
    expected = {"sigma 25": [], "x3": [], "jpeg 10": []}
    for case in all_cases(config.data, data):
        restored, truth = half(case.pixels), case.truth
        if case.condition == "x3":
            error = np.clip(restored, 0, 1)[3:-3, 3:-3].astype(np.float64) - truth[3:-3, 3:-3]
            expected["x3"].append(-10 * np.log10(np.mean(error**2)))
        else:
            expected[case.condition].append(psnr(restored, truth))
    for condition, values in expected.items():
        rows = result.rows[result.rows["condition"] == condition]
        np.testing.assert_allclose(rows["psnr"], values, rtol=1e-5)
    assert float(result.notes[1].split()[2]) == pytest.approx(result.metrics["psnr"], abs=1e-3)
    (luma, *_) = [case for case in all_cases(config.data, data) if case.condition == "x3"]
    rgb = smooth(0, 32, 3)[:30, :30].astype(np.float64)
    levels = 16 + (rgb @ [[65.481], [128.553], [24.966]]) / 255
    np.testing.assert_allclose(255 * luma.truth, levels, atol=1e-3)


# ---------------------------------------------------------------- baselines


@pytest.mark.parametrize("channels", [1, 3])
def test_the_noisy_image_and_non_local_means(channels):
    config = config_of(sigma=25.0)
    results = score_baselines(config, data_of(channels))
    assert list(results) == ["nlm", "noisy"]
    noisy = [psnr(case.pixels, case.truth) for case in all_cases(config.data, data_of(channels))]
    assert results["noisy"].metrics["psnr"] == pytest.approx(np.mean(noisy))
    # sigma 25 of 255 is 20.17 dB, and more where the noise is clipped.
    assert 20.1 < results["noisy"].metrics["psnr"] < 20.9
    assert results["nlm"].metrics["psnr"] > results["noisy"].metrics["psnr"] + 4


@pytest.mark.parametrize("sigma", [0.0, 10.0, 50.0])
def test_non_local_means_at_every_level(sigma):
    clean = to_float(smooth(0))
    noisy = clean + np.random.default_rng(0).normal(0, sigma / 255, clean.shape).astype(np.float32)
    restored = BASELINES["nlm"](noisy, sigma)
    assert restored.dtype == np.float32 and restored.shape == clean.shape
    assert np.mean((restored - clean) ** 2) <= np.mean((noisy - clean) ** 2) + 1e-6


def test_where_the_level_is_not_known_it_is_estimated(monkeypatch):
    given = []
    monkeypatch.setitem(BASELINES._entries, "noisy", lambda image, sigma: given.append(sigma) or image)
    clean = loaded(smooth(0, 64))
    noise = np.random.default_rng(0).normal(0, 20, (64, 64, 1))
    noisy = loaded(np.clip(clean.images[0] + noise, 0, 255).astype(np.uint8))
    data = DenoisingData("pairs", 1, None, {"A": ImageSet(clean, noisy)})
    score_baselines(config_of(baselines=["noisy"]), data)
    assert given == [pytest.approx(20, rel=0.15)]
    score_baselines(config_of(baselines=["noisy"], sigma=33.0), data_of())
    assert given[1:] == [33.0] * 3
    # Shot noise is far above the read noise alone.
    score_baselines(
        config_of(baselines=["noisy"], kinds=["poisson_gaussian"], sigma=1.0, photons=20.0), data_of()
    )
    assert min(given[4:]) > 15


def test_bm3d_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setattr(scoring, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"the baseline bm3d needs the package bm3d .*: pip install bm3d"
    ) as error:
        check_baselines(["noisy", "bm3d"])
    assert "\n" not in str(error.value)
    check_baselines(["nlm", "noisy"])


# ---------------------------------------------------------------- what is said of a file


@pytest.mark.parametrize(
    ("kinds", "sigma", "noise", "said"),
    [
        (["gaussian"], 25.0, 25.0, ""),
        (["gaussian"], 25.0, 17.0, ""),
        (["gaussian"], 25.0, 16.0, "; this model is for 25"),
        (["clipped"], 25.0, 40.0, "; this model is for 25"),
        (["gaussian"], [0.0, 55.0], 3.0, ""),
        (["gaussian", "jpeg"], [0.0, 55.0], 56.0, "; this model is for 0 to 55"),
        (["jpeg"], 25.0, 90.0, ""),
    ],
)
def test_a_model_of_other_noise_is_told(kinds, sigma, noise, said):
    restorer = SimpleNamespace(metadata={"degradation": {"kinds": kinds, "sigma": sigma}})
    assert misfit(restorer, noise) == said


def test_of_a_model_of_real_noise_nothing_is_said():
    for metadata in ({}, {"degradation": {"kinds": ["real"]}}):
        assert misfit(SimpleNamespace(metadata=metadata), 90.0) == ""
