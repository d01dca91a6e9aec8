"""Training windows: where they are cut, what lies in them, and that every stream is its own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from core.errors import DataError
from core.train.distributed import World
from tasks.forecasting.sampler import FlatSeries, Member, WindowSource

CPU = torch.device("cpu")
HORIZON = 3
MEMBERS = [Member(6, "smape", 0), Member(6, "mase", 0), Member(9, "smape", 0)]
# Every value says where it is from: thousands are the series, units the position, and none is zero.
SERIES = [1000.0 * (i + 1) + np.arange(n) for i, n in enumerate((1, 2, 5, 14, 40))]


def source(members=MEMBERS, history=2.0, batch_size=64, **options):
    return WindowSource(
        SERIES, horizon=HORIZON, history=history, members=members, batch_size=batch_size, seed=3, **options
    )


def first(windows, count=1, start=0):
    return [batch["windows"] for batch in itertools.islice(windows.batches(start, CPU), count)]


def rows(windows):
    """Input, mask, target and mask of every window as arrays, with the member axis merged."""
    for x, x_mask, y, y_mask in windows:
        yield from zip(*(t.flatten(0, 1).numpy() for t in (x, x_mask, y, y_mask)), strict=True)


def test_no_window_crosses_a_series_and_masks_say_what_is_known():
    for x, x_mask, y, y_mask in rows(first(source())[0]):
        values, known = np.append(x, y), np.append(x_mask, y_mask) == 1
        assert not values[~known].any()
        seen = values[known]
        assert len({int(value) // 1000 for value in seen}) == 1, "one series"
        assert (np.diff(seen) == 1).all(), "neighbouring values"
        series = SERIES[int(seen[0]) // 1000 - 1]
        # What is masked lies before the first value or after the last, never between.
        edges = np.flatnonzero(np.diff(known.astype(int)))
        assert len(edges) <= 2
        assert known[: len(x)].any(), "the input holds a value"
        if not known[0]:
            assert seen[0] == series[0]
        if not known[-1]:
            assert seen[-1] == series[-1]


@pytest.mark.parametrize(("history", "reach"), [(1.0, 3), (2.0, 6), (1.5, 4), (100.0, 300)])
def test_cuts_are_uniform_within_the_history(history, reach):
    windows = source(history=history, batch_size=4000)
    index, cut = windows.draw(0)
    assert index.shape == cut.shape == (3, 4000)
    counts = np.bincount(index.flatten(), minlength=5)
    assert np.abs(counts / counts.sum() - 0.2).max() < 0.02, "series are uniform whatever their length"
    for i, values in enumerate(SERIES):
        cuts = cut[index == i].numpy()
        lowest = max(1, len(values) - reach)
        allowed = np.arange(lowest, max(lowest + 1, len(values)))
        assert set(cuts) == set(allowed), f"series of {len(values)}"
        shares = np.bincount(cuts, minlength=allowed[-1] + 1)[allowed] / len(cuts)
        assert np.abs(shares - 1 / len(allowed)).max() < 0.06


def test_a_slow_reference_gives_the_same_windows():
    """One value at a time, from the drawn series and cuts alone."""
    windows = source(batch_size=16)
    index, cut = windows.draw(7)
    (batch,) = first(windows, start=7)
    member = 0
    for (x, x_mask, y, y_mask), lookback, count in zip(batch, (6, 9), (2, 1), strict=True):
        assert x.shape == (count, 16, lookback)
        assert y.shape == (count, 16, HORIZON)
        for e in range(count):
            for b in range(16):
                values = SERIES[index[member, b]]
                for step in range(lookback + HORIZON):
                    position = int(cut[member, b]) - lookback + step
                    inside = 0 <= position < len(values)
                    got, got_mask = (
                        (x[e, b, step], x_mask[e, b, step])
                        if step < lookback
                        else (y[e, b, step - lookback], y_mask[e, b, step - lookback])
                    )
                    assert got_mask == float(inside)
                    assert got == (values[position] if inside else 0.0)
            member += 1


def test_a_members_stream_does_not_depend_on_the_others():
    together = first(source(), count=3)
    for i, member in enumerate(MEMBERS):
        group, row = (0, i) if i < 2 else (1, 0)
        for batch, (alone,) in zip(together, first(source([member]), count=3), strict=True):
            for a, b in zip(batch[group], alone, strict=True):
                assert torch.equal(a[row], b[0])


def test_members_see_different_windows():
    index, _ = source().draw(0)
    assert not torch.equal(index[0], index[1])
    repeats = source([Member(6, "smape", 0), Member(6, "smape", 1)])
    assert not torch.equal(*repeats.draw(0)[0])


def test_it_can_be_entered_anywhere():
    windows = source()
    for a, b in zip(first(windows, count=2, start=5), first(windows, count=7)[5:], strict=True):
        assert all(torch.equal(s, t) for p, q in zip(a, b, strict=True) for s, t in zip(p, q, strict=True))
    assert not torch.equal(first(windows)[0][0][0], first(windows, start=1)[0][0][0])


def test_ranks_together_hold_one_batch():
    whole = source(batch_size=12).draw(4)
    parts = [source(batch_size=12, world=World(rank, 3)).draw(4) for rank in range(3)]
    for i in (0, 1):
        assert all(part[i].shape == (3, 4) for part in parts)
        assert torch.equal(torch.stack([part[i] for part in parts], -1).flatten(1), whole[i])
    with pytest.raises(DataError, match="batch_size 64 cannot be shared by 3 processes equally"):
        source(world=World(0, 3))


def test_last_windows_end_with_the_last_value():
    x, mask = FlatSeries(SERIES, CPU, before=9).last_windows(6)
    for values, row, known in zip(SERIES, x.numpy(), mask.numpy(), strict=True):
        count = min(6, len(values))
        assert (row[6 - count :] == values[-count:]).all()
        assert known.tolist() == [0] * (6 - count) + [1] * count
        assert not row[: 6 - count].any()
