"""Where windows of a record begin, and how their answers become one."""

import numpy as np
import pytest

from tasks.ecg.windows import batches, cut, pool, stride_of, window_counts, window_starts


@pytest.mark.parametrize(
    ("samples", "length", "stride", "starts"),
    [
        (1000, 250, 125, [0, 125, 250, 375, 500, 625, 750]),  # the benchmark's seven
        (1010, 250, 125, [0, 125, 250, 375, 500, 625, 750, 760]),
        (250, 250, 125, [0]),
        (251, 250, 125, [0, 1]),
        (100, 250, 125, [0]),
        (700, 250, 400, [0, 400, 450]),
    ],
)
def test_the_last_window_ends_with_the_record(samples, length, stride, starts):
    assert window_starts(samples, length, stride).tolist() == starts


def test_the_stride_is_half_a_window_by_default():
    assert stride_of(None, 250, 100) == 125
    assert stride_of(0.5, 250, 500) == 250
    assert stride_of(0.0001, 250, 100) == stride_of(None, 1, 100) == 1


def test_a_short_record_is_followed_by_zeros():
    windows = cut(np.ones((2, 3), np.float32), np.array([0]), 5)
    assert windows.tolist() == [[[1, 1, 1, 0, 0]] * 2]


def test_batches_hold_the_windows_of_all_records_in_order():
    rng = np.random.default_rng(0)
    signals = [rng.standard_normal((3, n)).astype(np.float32) for n in (40, 5, 23, 10)]
    counts = window_counts(signals, 10, 4)
    whole = np.concatenate([cut(s, window_starts(s.shape[1], 10, 4), 10) for s in signals])
    assert counts.sum() == len(whole)
    for size in (1, 3, 7, 100):
        parts = list(batches(signals, 10, 4, size))
        assert {len(p) for p in parts[:-1]} <= {size} and len(parts[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert list(batches([], 10, 4, 3)) == []


def test_pooling_over_the_windows_of_each_record():
    values = np.array([[0.1, 0.9], [0.3, 0.1], [0.5, 0.5], [0.2, 0.7]], np.float32)
    counts = np.array([2, 1, 1])
    np.testing.assert_allclose(pool(values, counts, "max"), [[0.3, 0.9], [0.5, 0.5], [0.2, 0.7]])
    np.testing.assert_allclose(pool(values, counts, "mean"), [[0.2, 0.5], [0.5, 0.5], [0.2, 0.7]])
    assert pool(values, counts, "mean").dtype == np.float32
    assert pool(values[:0], counts[:0], "max").shape == (0, 2)
