"""Baselines on channels whose best prediction is known."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.csi.baselines import BASELINES, Autoregression, Last, Wiener, fit_ar, fit_pad, fit_wiener
from tasks.csi.measures import step_nmse
from tasks.csi.prony import LARGEST, prony_angular_delay


def rotating(doppler, count=5, seed=0, reports=19):
    """One Doppler shift for all channels (N, A, T, K)."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(count, 4, 1, 8)) + 1j * rng.normal(size=(count, 4, 1, 8))
    return (first * np.exp(2j * np.pi * doppler * np.arange(reports))[:, None]).astype(np.complex64)


def split(data, whole):
    part = replace(
        data.train, history=whole[:, :, :16], target=whole[:, :, 16:], condition=np.zeros(len(whole), int)
    )
    return replace(data, train=part)


def noisy(channels, snr, seed=0):
    rng = np.random.default_rng(seed)
    power = (np.abs(channels) ** 2).mean() * 10 ** (-snr / 10)
    noise = rng.normal(size=channels.shape) + 1j * rng.normal(size=channels.shape)
    return (channels + np.sqrt(power / 2) * noise).astype(np.complex64)


def test_last_repeats_the_last_report(csi_data):
    history = csi_data.test.history
    predicted = Last(3).predict(history, 0.0)
    assert predicted.shape == csi_data.test.target.shape
    assert (predicted == history[:, :, 15:16]).all()


def test_wiener_finds_the_rotation_of_channels_with_one_doppler_shift(csi_data, csi_config):
    method = fit_wiener(split(csi_data, rotating(0.07)), csi_config.data, csi_config.scoring)
    test = rotating(0.07, seed=1)
    assert step_nmse(method.predict(test[:, :, :16], np.zeros(5)), test[:, :, 16:]).max() < 1e-8
    # One look back rotates by the steps alone.
    one = fit_wiener(split(csi_data, rotating(0.07)), csi_config.data, replace(csi_config.scoring, order=1))
    assert one.cross[0] == pytest.approx(np.exp(2j * np.pi * 0.07 * np.arange(1, 4)), abs=1e-6)


def test_wiener_is_the_linear_regression_of_histories_in_that_noise(csi_data, csi_config):
    many = np.concatenate([csi_data.train.history] * 60), np.concatenate([csi_data.train.target] * 60)
    history = noisy(many[0], 10.0)
    power = (np.abs(many[0]) ** 2).mean()
    noise = np.full(len(history), (np.abs(history - many[0]) ** 2).mean() / power)
    method = fit_wiener(csi_data, csi_config.data, csi_config.scoring)
    assert isinstance(method, Wiener)
    rows, targets = (np.moveaxis(part, 2, 3).reshape(-1, part.shape[2]) for part in (history, many[1]))
    weights = np.linalg.lstsq(rows.astype(complex), targets.astype(complex), rcond=None)[0]
    slow = np.moveaxis((rows @ weights).reshape(*np.moveaxis(many[1], 2, 3).shape), 3, 2)
    fast = method.predict(history, noise)
    best, found = (step_nmse(predicted, many[1]).mean() for predicted in (slow, fast))
    assert found == pytest.approx(best, rel=0.03)
    # Noise that it is not told of misleads it.
    assert step_nmse(method.predict(history, 0 * noise), many[1]).mean() > 2 * best


def test_wiener_knows_the_noise_of_each_sample_and_counts_on_none_in_clean_ones(csi_data, csi_config):
    ridge = replace(csi_config.scoring, ridge=0.5)
    method = fit_wiener(csi_data, csi_config.data, ridge)
    history, noise = csi_data.test.history[:3], np.array([0.0, 0.1, 2.0])
    together = method.predict(history, noise)
    for i in range(3):
        weights = np.linalg.solve(method.covariance + (noise[i] + 1e-9) * np.eye(16), method.cross)
        alone = np.einsum("oh,aok->ahk", weights, history[i].astype(complex))
        np.testing.assert_allclose(together[i], alone, atol=2e-3)
        np.testing.assert_array_equal(method.predict(history[i : i + 1], noise[i : i + 1])[0], together[i])


def test_ar_is_a_ridge_regression_on_the_training_histories_in_noise(csi_data, csi_config):
    from tasks.csi.samples import CsiSamples

    scoring = replace(csi_config.scoring, order=5, ridge=0.01)
    method = fit_ar(csi_data, csi_config.data, scoring)
    assert isinstance(method, Autoregression) and method.weights.shape == (5, 3)
    samples, rng = CsiSamples(csi_data.train, csi_config.data), np.random.default_rng(csi_config.data.seed)
    rows, targets = [], []
    for i in range(len(csi_data.train)):
        history = samples.noisy_history(i, rng)
        for a in range(4):
            for k in range(8):
                rows.append(history[a, -5:, k].astype(complex))
                targets.append(csi_data.train.target[i, a, :, k].astype(complex))
    x, y = np.stack(rows), np.stack(targets)
    penalty = 0.01 * np.mean(np.abs(x) ** 2) * len(x)
    # A ridge regression is a least squares one with rows of penalties.
    x = np.concatenate([x, np.sqrt(penalty) * np.eye(5)])
    y = np.concatenate([y, np.zeros((5, 3))])
    np.testing.assert_allclose(method.weights, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-5)
    history = csi_data.test.history
    expected = sum(method.weights[i, 2] * history[:, :, 11 + i] for i in range(5))
    np.testing.assert_allclose(method.predict(history, 0.0)[:, :, 2], expected, atol=1e-5)


def test_orders_above_the_history_are_the_whole_history(csi_data, csi_config):
    method = fit_ar(csi_data, csi_config.data, replace(csi_config.scoring, order=99))
    assert method.weights.shape == (16, 3)


def test_wiener_and_ar_beat_no_prediction_on_slow_channels_in_noise(csi_data, csi_config):
    slow = csi_data.test.select(csi_data.test.condition % 2 == 0)
    csi_data.train = csi_data.train.select(csi_data.train.condition % 2 == 0)
    history, target = noisy(slow.history, 5.0), slow.target
    last = step_nmse(Last(3).predict(history, 0.0), target).mean()
    ar = step_nmse(fit_ar(csi_data, csi_config.data, csi_config.scoring).predict(history, 0.0), target)
    wiener = fit_wiener(csi_data, csi_config.data, csi_config.scoring).predict(
        history, np.full(len(history), 10**-0.5)
    )
    assert ar.mean() < 0.7 * last
    assert step_nmse(wiener, target).mean() < 0.7 * last


def test_prony_continues_a_few_exponentials_at_each_delay():
    time = np.arange(20)[:, None]
    delay = np.exp(2j * np.pi * np.outer((1, 5), np.arange(8)) / 8)  # two delays of the grid
    rng = np.random.default_rng(0)
    whole = np.zeros((2, 4, 20, 8), complex)
    for path, doppler in enumerate((0.21, -0.13, 0.05, -0.31)):
        gain = rng.normal(size=(2, 4, 1, 1)) + 1j * rng.normal(size=(2, 4, 1, 1))
        whole += gain * np.exp(2j * np.pi * doppler * time) * delay[path % 2]
    predicted = prony_angular_delay(whole[:, :, :16], 4, 6)
    assert predicted.shape == (2, 4, 4, 8) and predicted.dtype == np.complex64
    assert step_nmse(predicted, whole[:, :, 16:]).max() < 1e-3
    # One exponential is not enough for two Doppler shifts.
    assert step_nmse(prony_angular_delay(whole[:, :, :16], 4, 1), whole[:, :, 16:]).mean() > 0.5


def test_prony_fits_each_sample_and_scales_with_it(exponentials):
    history = exponentials(3, 5)[:, :, :16]
    together = prony_angular_delay(history, 3, 6)
    for i in range(3):
        np.testing.assert_allclose(prony_angular_delay(history[i : i + 1], 3, 6)[0], together[i], atol=1e-5)
    np.testing.assert_allclose(prony_angular_delay(7j * history, 3, 6), 7j * together, atol=1e-3)


def test_prony_stays_bounded_whatever_it_is_given():
    rng = np.random.default_rng(0)
    growing = np.exp(0.5 * np.arange(16))[:, None] * rng.normal(size=(2, 4, 16, 8))
    growing = growing.astype(np.complex64)
    predicted = prony_angular_delay(growing, 20, 6)
    bins = np.abs(np.fft.ifft(growing, axis=3)).max(2)
    assert (np.abs(np.fft.ifft(predicted, axis=3)).max(2) <= 1.001 * LARGEST * bins).all()
    assert not prony_angular_delay(0 * growing, 3, 6).any()
    one = growing[:, :, :1]
    assert (prony_angular_delay(one, 3, 6) == np.repeat(one, 3, 2)).all()


def test_prony_beats_no_prediction_on_fast_channels(csi_data, csi_config):
    fast = csi_data.test.select(csi_data.test.condition % 2 == 1)
    method = fit_pad(csi_data, csi_config.data, csi_config.scoring)
    found = step_nmse(method.predict(fast.history, 0.0), fast.target).mean()
    assert found < 0.05 * step_nmse(Last(3).predict(fast.history, 0.0), fast.target).mean()


def test_every_baseline_of_the_configuration_exists(csi_data, csi_config):
    assert sorted(BASELINES) == sorted(csi_config.scoring.baselines)
    for name in BASELINES:
        method = BASELINES[name](csi_data, csi_config.data, csi_config.scoring)
        predicted = method.predict(csi_data.test.history, np.full(36, 0.1))
        assert predicted.shape == csi_data.test.target.shape and predicted.dtype == np.complex64
