from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from tasks.forecasting.config import DataConfig
from tasks.forecasting.data.series import Group, SeriesData, future_index, history_index
from tasks.forecasting.data.tables import frame_to_data

NAN = float("nan")


def days(values, name="a", start="2024-01-01", freq="D"):
    times = pd.date_range(start, periods=len(values), freq=freq)
    return pd.DataFrame({"unique_id": name, "ds": times, "y": np.asarray(values, dtype=float)})


def read(frame, horizon=2, **options):
    return frame_to_data(frame, DataConfig(horizon=horizon, **options))


def only(data):
    (group,) = data.groups
    return group


def said(data, text):
    return any(text in note for note in data.notes)


def test_the_last_values_are_held_out():
    group = only(read(days([1, 2, 3, 4, 5])))
    assert group.history[0].tolist() == [1, 2, 3]
    assert group.future.tolist() == [[4, 5]]
    assert only(read(days([1, 2, 3]), holdout=False)).future is None


@pytest.mark.parametrize(
    ("missing", "history"),
    [("interpolate", [2, 3, 4, 5, 5]), ("zero", [2, 0, 4, 5, 0]), ("drop", [2, 4, 5])],
)
def test_missing_values_and_missing_rows(missing, history):
    # Leading and trailing NaN are cut; NaN at index 2, no row at index 5; index 6 and 7 are held out.
    frame = days([NAN, 2, NAN, 4, 5, 99, 7, 8, NAN]).drop(index=5)
    data = read(frame, missing=missing)
    group = only(data)
    assert group.history[0].tolist() == history
    assert group.future.tolist() == [[7, 8]]
    assert str(group.starts[0]) == "2024-01-02"
    assert said(data, "missing values or steps: 2 in 1 series (a)")
    assert said(data, "2 missing values before the first or after the last known one were cut off")


def test_interpolation_never_uses_the_test_part_and_its_gaps_are_not_scored():
    group = only(read(days([1, 2, NAN, 100, NAN, 300]), horizon=3))
    assert group.history[0].tolist() == [1, 2, 2]
    np.testing.assert_array_equal(group.future, [[100, NAN, 300]])


def test_missing_error_names_series_and_time():
    with pytest.raises(
        DataError, match=r"series a lacks 1 values or steps, the first at 2024-01-03 .*data\.missing"
    ):
        read(days([1, 2, NAN, 4, 5]), missing="error")


def test_infinite_values_are_missing():
    data = read(days([1, np.inf, 3, 4, 5]))
    assert only(data).history[0].tolist() == [1, 2, 3]
    assert said(data, "infinite values: 1 (first: series a, row 2)")


def test_rows_in_any_order_give_the_same_data():
    frame = pd.concat([days(np.arange(9)), days(np.arange(9) ** 2, "b")])
    shuffled = read(frame.sample(frac=1, random_state=0).sort_values("unique_id", kind="stable"))
    assert shuffled.digest == read(frame).digest
    assert said(shuffled, "rows out of time order")
    interleaved = read(frame.sort_values("ds", kind="stable"))
    assert not said(interleaved, "rows out of time order")
    assert interleaved.digest == read(frame).digest


def test_equal_duplicates_are_dropped():
    data = read(pd.concat([days([1, 2, 3, 4, 5])] * 2))
    assert only(data).history[0].tolist() == [1, 2, 3]
    assert said(data, "rows that repeat another row: 5, dropped")


@pytest.mark.parametrize(("rule", "value"), [("first", 1), ("last", 9), ("mean", 5)])
def test_duplicates_with_other_values_follow_the_rule(rule, value):
    frame = pd.concat([days([1, 2, 3, 4, 5]), days([9])])
    data = read(frame, duplicates=rule)
    assert only(data).history[0].tolist() == [value, 2, 3]
    assert said(data, f"data.duplicates {rule}")
    with pytest.raises(DataError, match=r"series a has time 2024-01-01 00:00:00 twice .*rows 1 and 6"):
        read(frame)


def test_a_coarser_frequency_is_refused_with_both_times():
    with pytest.raises(
        DataError, match=r"2024-01-01 00:00:00 and 2024-01-02 00:00:00 in one step of M.*finer"
    ):
        read(days([1, 2, 3]), freq="M")


def test_short_series_are_dropped_and_named():
    frame = pd.concat([days(np.arange(9)), days([1, 2, 3], "short")])
    data = read(frame)
    assert only(data).ids == ["a"]
    assert said(data, "1 series shorter than 2 values before the 2 held out for the test (short)")
    assert only(read(frame, min_length=1)).ids == ["a", "short"]
    assert only(read(frame, holdout=False, min_length=4)).ids == ["a"]
    with pytest.raises(DataError, match=r"no series is left.*smaller data\.horizon"):
        read(days([1, 2, 3]))


def test_series_without_values_are_dropped_and_named():
    data = read(pd.concat([days(np.arange(9)), days([NAN] * 9, "void")]))
    assert only(data).ids == ["a"]
    assert said(data, "1 series without any value (void)")


def test_constant_and_repeated_series_are_kept_and_said():
    frame = pd.concat([days([5] * 9), days(np.arange(9), "b"), days(np.arange(9), "c")])
    data = read(frame)
    assert only(data).ids == ["a", "b", "c"]
    assert said(data, "1 series with a constant history (a)")
    assert said(data, "1 series repeat another one value for value (c = b)")
    np.testing.assert_array_equal(only(data).naive_scale(), [NAN, 1, 1])


def test_irregular_timestamps_are_refused_and_a_few_stray_ones_are_moved():
    times = pd.to_datetime("2024-01-01") + pd.to_timedelta(np.cumsum([0, 61, 501, 1777, 90, 3333]), "min")
    with pytest.raises(DataError, match="timestamps are irregular"):
        read(pd.DataFrame({"unique_id": "a", "ds": times, "y": np.arange(6.0)}))
    frame = days(np.arange(20), freq="15min")
    frame.loc[7, "ds"] += pd.Timedelta(2, "min")
    data = read(frame)
    assert len(only(data).history[0]) == 18
    assert said(data, "timestamps between the steps of 15min: 1 (first: row 8, 2024-01-01 01:47:00)")


def test_jitter_inside_the_hour_is_said():
    frame = days(np.arange(20), freq="h")
    frame["ds"] += pd.to_timedelta(np.arange(20), "s")
    data = read(frame)
    assert only(data).freq == "h"
    assert said(data, "timestamps inside a step of h: 19 (first: row 2, 2024-01-01 01:00:01)")


def test_a_date_far_off_is_refused_with_its_rows():
    frame = pd.concat([days(np.arange(20), freq="min"), days([1.0], start="2090-01-01")])
    with pytest.raises(
        DataError, match=r"jumps from 2024-01-01 00:19:00 to 2090-01-01 00:00:00 \(rows 20 and 21\)"
    ):
        read(frame)


def test_weekdays_have_no_gap_at_the_weekend():
    data = read(days(np.arange(15), freq="B"))
    assert only(data).history[0].tolist() == list(range(13))
    assert not said(data, "missing values or steps")


def test_whole_number_times_stay_whole_numbers():
    frame = pd.DataFrame({"unique_id": "a", "ds": range(7, 27), "y": np.arange(20.0)})
    data = read(frame, seasonality=4, holdout=False)
    group = only(data)
    assert (group.name, group.seasonality) == ("Other", 4)
    assert list(future_index(group, 0)) == [27, 28]
    assert history_index(group, 0).tolist() == list(range(7, 27))
    with pytest.raises(DataError, match="10 apart"):
        read(frame.assign(ds=frame.ds * 10))


def test_default_horizon_is_said():
    data = frame_to_data(days(np.arange(40)), DataConfig())
    assert only(data).horizon == 14
    assert said(data, "horizon 14 is the default")


def test_groups_are_filtered_by_name():
    frame = pd.concat([days(np.arange(9)), days(np.arange(9), "h", freq="h")])
    assert [g.name for g in read(frame, groups=["hourly"]).groups] == ["Hourly"]
    with pytest.raises(DataError, match=r"no 'Dayly' series\. Did you mean 'Daily'\?"):
        read(frame, groups=["Dayly"])


def group(**changes):
    values = {
        "name": "Daily", "freq": "D", "seasonality": 2, "horizon": 2, "ids": ["a", "b"],
        "history": [np.array([1.0, 2.0, 4.0]), np.array([3.0])],
        "starts": [pd.Period("2024-01-01", "D")] * 2, "future": np.array([[1.0, NAN], [2.0, 3.0]]),
    }  # fmt: skip
    return Group(**{**values, **changes})


def test_digest_sees_everything_that_is_learned_from_or_scored():
    base = SeriesData("x", [group()]).digest
    assert base == SeriesData("y", [group()], ["note"]).digest
    assert len(base) == 64
    other = [
        group(ids=["a", "c"]), group(horizon=3), group(seasonality=3), group(name="D"), group(future=None),
        group(history=[np.array([1.0, 2.0]), np.array([4.0, 3.0])]),
        group(future=np.array([[1.0, 9.0], [2.0, 3.0]])),
    ]  # fmt: skip
    assert len({SeriesData("x", [g]).digest for g in other} | {base}) == len(other) + 1
    # Known to any process and machine: changes of the recipe must be seen.
    assert base.startswith("9b906b12c87cc91e")


def test_select_and_naive_scale():
    chosen = group().select([1, 0, 1])
    assert chosen.ids == ["b", "a", "b"]
    np.testing.assert_array_equal(chosen.future[1], [1, NAN])
    # a: |4 - 1| at lag 2; b has one value; a series not longer than m falls back to lag 1.
    np.testing.assert_array_equal(group().naive_scale(), [3, NAN])
    np.testing.assert_array_equal(group(seasonality=3).naive_scale(), [1.5, NAN])
