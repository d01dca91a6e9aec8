"""What ``predict`` says of the noise, and where its results go."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.data.images.degrade import estimate_sigma
from tasks.denoising import serving
from tasks.denoising.config import DenoisingPredictConfig
from tasks.denoising.serving import noise_level
from tasks.denoising.task import TASK


def noisy(height, width, sigma, channels=1, seed=0):
    values = np.random.default_rng(seed).normal(128, sigma, (height, width, channels))
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def test_a_small_image_is_estimated_as_a_whole():
    pixels = noisy(90, 70, 12, 3)
    assert noise_level(pixels) == pytest.approx(estimate_sigma(pixels / np.float32(255)), rel=1e-5)
    assert noise_level(np.full((40, 40, 1), 255, np.uint8)) == 0


@pytest.mark.parametrize(
    ("height", "width", "count"), [(64, 64, 1), (65, 40, 2), (30, 500, 2), (300, 200, 4)]
)
def test_a_large_image_is_estimated_on_crops(monkeypatch, height, width, count):
    shapes = []

    def seen(values):
        shapes.append(values.shape)
        return estimate_sigma(values)

    monkeypatch.setattr(serving, "CROP", 64)
    monkeypatch.setattr(serving, "estimate_sigma", seen)
    assert noise_level(noisy(height, width, 20)) == pytest.approx(20, rel=0.1)
    assert shapes == [(min(height, 64), min(width, 64), 1)] * count


def test_flat_crops_tell_nothing_of_the_noise(monkeypatch):
    monkeypatch.setattr(serving, "CROP", 64)
    pixels = noisy(256, 256, 20)
    pixels[:128] = 255
    assert noise_level(pixels) == pytest.approx(20, rel=0.1)


def test_three_columns_are_no_colours():
    assert noise_level(noisy(400, 3, 20)) == pytest.approx(20, rel=0.3)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_the_result_goes_beside_the_input(tmp_path, name):
    config = DenoisingPredictConfig(input=str(tmp_path / name))
    assert TASK.default_output(SimpleNamespace(), config) == str(tmp_path / "photo_denoised.png")
