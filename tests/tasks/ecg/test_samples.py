"""Training crops, and how they are changed at random."""

from dataclasses import replace

import numpy as np
import pytest
from peak_network import RATE, beats, small_data

from tasks.ecg.augment import SLOW, augment, crop, wander
from tasks.ecg.config import AugmentConfig
from tasks.ecg.samples import EcgSamples


def rng(seed=0):
    return np.random.default_rng(seed)


def all_options():
    return AugmentConfig(scale=0.2, noise=0.05, wander=0.3, lead_dropout=0.3, mixup=0.5)


def test_crops_lie_anywhere_in_the_record_and_leave_it_alone():
    signal = np.tile(np.arange(300, dtype=np.float32), (2, 1))
    starts = {int(crop(signal, 290, rng(i))[0, 0]) for i in range(200)}
    assert starts == set(range(11))
    part = crop(signal, 10, rng())
    np.testing.assert_array_equal(np.diff(part), 1)
    part[:] = -1
    assert signal.min() == 0
    short = crop(signal[:, :5], 8, rng())
    np.testing.assert_array_equal(short[0], [0, 1, 2, 3, 4, 0, 0, 0])


def test_without_options_a_crop_stays():
    signal, present = beats(), np.ones(12, bool)
    changed = augment(signal, present, AugmentConfig(), RATE, rng())
    np.testing.assert_array_equal(changed, signal)
    assert changed is not signal


def test_each_change_is_as_large_as_asked_for():
    signal, present = beats(samples=5000), np.ones(12, bool)
    scales = [
        augment(signal, present, AugmentConfig(scale=0.2), RATE, rng(i))[0, 40] / signal[0, 40]
        for i in range(200)
    ]
    assert 0.8 <= min(scales) < 0.83 and 1.17 < max(scales) <= 1.2
    noise = augment(signal, present, AugmentConfig(noise=0.05), RATE, rng()) - signal
    assert noise.std() == pytest.approx(0.05, rel=0.02) and abs(noise.mean()) < 1e-3
    slow = wander((12, 5000), 0.3, RATE, rng())
    assert 0.15 < np.abs(slow).max() <= 0.3
    spectrum = np.abs(np.fft.rfft(slow * np.hanning(5000)))
    peaks = np.fft.rfftfreq(5000, 1 / RATE)[spectrum.argmax(1)]
    assert peaks.min() > SLOW - 0.03 and peaks.max() < 0.53 and len(set(peaks)) > 6


def test_a_lead_that_is_missing_stays_zero():
    signal, present = beats(), np.ones(12, bool)
    signal[4], present[4] = 0, False
    for i in range(20):
        changed = augment(signal, present, all_options(), RATE, rng(i))
        assert not changed[4].any() and changed.any()
    dropped = augment(signal, present, AugmentConfig(lead_dropout=0.5), RATE, rng(1))
    gone = ~dropped.any(1)
    assert 2 < gone.sum() < 11
    np.testing.assert_array_equal(dropped[~gone], signal[~gone])


def test_one_lead_always_stays():
    signal, present = beats(), np.zeros(12, bool)
    present[[3, 7]] = True
    kept = set()
    for i in range(30):
        changed = augment(signal, present, AugmentConfig(lead_dropout=1.0), RATE, rng(i))
        assert changed.any(1).sum() == 1
        kept.add(int(changed.any(1).argmax()))
    assert kept == {3, 7}


def test_an_epoch_has_every_training_record_once():
    data = small_data()
    samples = EcgSamples(data, data.folds[0], 250, AugmentConfig())
    drawn = [samples.draw(i, rng(i)) for i in range(len(samples))]
    assert [d["ids"] for d in drawn] == ["r1", "r2", "r4", "r5"]
    for sample, record in zip(drawn, (1, 2, 4, 5), strict=True):
        assert sample["signal"].shape == (12, 250) and str(sample["signal"].dtype) == "torch.float32"
        assert sample["labels"].tolist() == data.labels[record].tolist()
        assert sample["signal"][0].max() <= 0.2 + 0.3 * record + 1e-6
    assert not drawn[1]["signal"][11].any()
    assert not drawn[3]["signal"][:, 180:].any() and drawn[3]["signal"][:, :180].any()


def test_a_draw_depends_on_its_generator_alone():
    data = small_data()
    samples = EcgSamples(data, data.folds[0], 250, all_options())
    before = [s.copy() for s in data.signals]
    first = samples.draw(2, rng(5))
    samples.draw(0, rng(9))
    again, other = samples.draw(2, rng(5)), samples.draw(2, rng(6))
    assert (first["signal"] == again["signal"]).all() and (first["labels"] == again["labels"]).all()
    assert not (first["signal"] == other["signal"]).all()
    for old, new in zip(before, data.signals, strict=True):
        np.testing.assert_array_equal(old, new)


def test_mixed_crops_have_mixed_labels():
    data = small_data()
    data.signals = [np.full((12, 300), i, np.float32) for i in range(6)]
    data.labels = np.arange(6)[:, None] > np.array([1, 3, 4])
    fold = replace(data.folds[0], train=np.array([1, 5]))
    samples = EcgSamples(data, fold, 250, AugmentConfig(mixup=1.0))
    mixed = 0
    for i in range(40):
        sample = samples.draw(0, rng(i))
        share = (float(sample["signal"][0, 0]) - 1) / 4  # of record 5
        assert sample["labels"].tolist() == pytest.approx([share] * 3, abs=1e-6)
        mixed += 0.01 < share < 0.99
    assert 10 < mixed < 35


def test_what_follows_a_short_record_stays_zeros_as_at_test():
    data = small_data()
    options = AugmentConfig(scale=0.2, noise=0.05, wander=0.3)
    for mixup in (0.0, 1.0):
        samples = EcgSamples(
            data, replace(data.folds[0], train=np.array([5])), 250, replace(options, mixup=mixup)
        )
        signal = samples.draw(0, rng(1))["signal"]
        assert not signal[:, 180:].any() and signal[:, :180].all()
    # With a longer record it is mixed, and changed, to the end.
    samples = EcgSamples(
        data, replace(data.folds[0], train=np.array([5, 1])), 250, replace(options, mixup=1.0)
    )
    assert any(samples.draw(0, rng(i))["signal"][:, 180:].any() for i in range(5))
