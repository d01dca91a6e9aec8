"""Measures by hand and by plain loops."""

import math

import numpy as np
import pytest

from tasks.csi.measures import cosine_similarity, decibel, join, measure, spectral_efficiency, step_nmse


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    shape = (3, 4, 2, 5)
    truth, error = (rng.normal(size=shape) + 1j * rng.normal(size=shape) for _ in range(2))
    return (truth + 0.3 * error).astype(np.complex64), truth.astype(np.complex64)


def test_nmse_is_the_mean_over_antennas_of_error_over_power(pair):
    predicted, truth = pair
    found = step_nmse(predicted, truth)
    for n in range(3):
        for h in range(2):
            ratios = []
            for a in range(4):
                error = sum(abs(predicted[n, a, h, k] - truth[n, a, h, k]) ** 2 for k in range(5))
                ratios.append(error / sum(abs(truth[n, a, h, k]) ** 2 for k in range(5)))
            assert found[n, h] == pytest.approx(np.mean(ratios), rel=1e-5)
    assert step_nmse(np.zeros_like(truth), truth) == pytest.approx(np.ones((3, 2)))


def test_an_antenna_in_a_fade_weighs_as_much_as_another_but_not_in_the_ratio_of_sums():
    truth = np.array([1.0, 0.1], np.complex64).reshape(1, 2, 1, 1)
    predicted = truth + np.float32(0.1)
    found = measure(predicted, truth, 10.0)
    assert found.nmse == pytest.approx([(0.01 + 1) / 2])
    assert found.error / found.power == pytest.approx([0.02 / 1.01])


def test_spectral_efficiency_of_a_hand_example():
    truth = np.array([3.0, 4.0j], np.complex64).reshape(1, 2, 1, 1)
    right = spectral_efficiency(2j * truth, truth, 10.0)  # a common factor changes no beam
    assert right == pytest.approx([math.log2(1 + 25 * 10)])
    one = np.array([1.0, 0.0], np.complex64).reshape(1, 2, 1, 1)
    assert spectral_efficiency(one, truth, 0.0) == pytest.approx([math.log2(1 + 9)])
    across = np.array([4.0, -3.0j], np.complex64).reshape(1, 2, 1, 1)
    assert spectral_efficiency(across, truth, 10.0) == pytest.approx([0.0])
    assert spectral_efficiency(0 * truth, truth, 10.0) == pytest.approx([0.0])


def test_cosine_similarity_of_a_hand_example():
    truth = np.array([3.0, 4.0j], np.complex64).reshape(1, 2, 1, 1)
    one = np.array([1.0, 0.0], np.complex64).reshape(1, 2, 1, 1)
    assert cosine_similarity(5j * truth, truth) == pytest.approx([1.0])
    assert cosine_similarity(one, truth) == pytest.approx([0.6])
    assert cosine_similarity(0 * truth, truth) == pytest.approx([0.0])


def test_the_true_channel_is_perfect(pair):
    _, truth = pair
    found = measure(truth, truth, 10.0)
    assert found.nmse.tolist() == [0, 0, 0]
    assert found.cosine == pytest.approx([1, 1, 1])
    assert found.efficiency == pytest.approx(found.perfect)
    assert (measure(*pair, 10.0).efficiency < found.perfect).all()


def test_parts_are_joined_in_order(pair):
    predicted, truth = pair
    whole = measure(predicted, truth, 10.0)
    parts = join([measure(predicted[:1], truth[:1], 10.0), measure(predicted[1:], truth[1:], 10.0)])
    np.testing.assert_allclose(parts.step_nmse, whole.step_nmse)
    np.testing.assert_allclose(parts.cosine, whole.cosine)


def test_decibel():
    assert decibel(0.01) == pytest.approx(-20)
    assert decibel(0.0) == -math.inf
