from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from tasks.forecasting.config import DataConfig
from tasks.forecasting.data.frequency import (
    default_horizon,
    default_seasonality,
    ordinals,
    parse_frequency,
    period,
    title,
)
from tasks.forecasting.data.series import future_index, history_index
from tasks.forecasting.data.tables import frame_to_data


@pytest.mark.parametrize(
    ("text", "alias"),
    [
        ("MS", "M"), ("ME", "M"), ("m", "M"), ("H", "h"), ("15T", "15min"), ("QS-JAN", "Q-DEC"),
        ("QE-NOV", "Q-NOV"),
        ("YS-APR", "Y-MAR"), ("A", "Y"), ("w-wed", "W-WED"), ("2W", "2W"), ("B", "B"), ("D", "D"),
    ],
)  # fmt: skip
def test_aliases_of_every_pandas_are_read(text, alias):
    assert parse_frequency(text).alias == alias


@pytest.mark.parametrize("text", ["fortnight", "0D", "W-FOO", "Q-MON", "", "15"])
def test_other_words_are_refused_by_name(text):
    with pytest.raises(DataError, match=r"data\.freq"):
        parse_frequency(text)


def test_seasonality_and_horizon_tables():
    expected = {"Y": (1, 6), "Q": (4, 8), "M": (12, 18), "W": (52, 13), "D": (7, 14), "h": (24, 48),
                "B": (5, 10), "15min": (96, 96), "2h": (12, 12), "7min": (1, 8), "s": (60, 60)}  # fmt: skip
    assert {f: (default_seasonality(f), default_horizon(f)) for f in expected} == expected
    assert [title(f) for f in ("M", "W-WED", "15min", "B")] == ["Monthly", "Weekly", "15min", "Weekdays"]


@pytest.mark.parametrize(
    ("offset", "freq"),
    [
        ("MS", "M"), ("ME", "M"), ("QS", "Q-DEC"), ("QE", "Q-DEC"), ("QE-NOV", "Q-NOV"), ("YS", "Y-DEC"),
        ("YE-JUN", "Y-JUN"), ("YS-APR", "Y-MAR"), ("W-MON", "W-SUN"), ("W-SUN", "W-SUN"), ("W-WED", "W-WED"),
        ("D", "D"), ("B", "B"), ("h", "h"), ("2h", "2h"), ("15min", "15min"), ("s", "s"), ("2ME", "2M"),
        ("2W", "2W-SUN"), ("10D", "10D"), ("90min", "90min"),
    ],
)  # fmt: skip
def test_frequency_is_inferred_and_forecast_times_continue_the_users(offset, freq):
    times = pd.date_range("2020-01-31", periods=23, freq=offset)
    frame = pd.DataFrame({"unique_id": "a", "ds": times[:20], "y": np.arange(20.0)})
    (group,) = frame_to_data(frame, DataConfig(horizon=3, holdout=False)).groups
    assert group.freq == freq
    assert list(history_index(group, 0)) == list(times[:20])
    assert list(future_index(group, 0)) == list(times[20:])


def test_ordinals_count_steps_and_periods_come_back():
    times = pd.to_datetime(["2024-01-05", "2024-01-08", "2024-01-09"]).to_numpy()
    numbers = ordinals(times, "B")  # Friday, Monday, Tuesday
    assert np.diff(numbers).tolist() == [1, 1]
    assert period(int(numbers[1]), "B") == pd.Period("2024-01-08", freq="D")
    quarter = ordinals(times, "15min")
    assert quarter[1] - quarter[0] == 3 * 24 * 60
    assert period(int(ordinals(times, "M")[0]), "M") == pd.Period("2024-01", freq="M")


def test_mixed_frequencies_make_groups_and_a_lone_row_joins_the_most_common():
    parts = [
        pd.DataFrame(
            {"unique_id": name, "ds": pd.date_range("2021-01-01", periods=n, freq=f), "y": np.arange(n)}
        )
        for name, f, n in (("d1", "D", 9), ("m", "MS", 9), ("d2", "D", 9), ("one", "MS", 1))
    ]
    data = frame_to_data(pd.concat(parts), DataConfig(horizon=2, holdout=False))
    assert {g.name: g.ids for g in data.groups} == {"Daily": ["d1", "d2", "one"], "Monthly": ["m"]}
    assert any("Daily (3 series), Monthly (1 series)" in note for note in data.notes)


def test_series_that_close_their_years_differently_get_calendar_years():
    parts = [
        pd.DataFrame(
            {"unique_id": f, "ds": pd.date_range("2001-01-01", periods=5, freq=f), "y": np.arange(5)}
        )
        for f in ("YE-JUN", "YE")
    ]
    (group,) = frame_to_data(pd.concat(parts), DataConfig(horizon=1, holdout=False)).groups
    assert group.freq == "Y-DEC"
    assert group.stamp == "start"
    assert [str(start) for start in group.starts] == ["2001", "2001"]


def test_times_after_2262_are_text():
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2250-01-01", periods=12, freq="YS"), "y": 1.0}
    )
    (group,) = frame_to_data(frame, DataConfig(horizon=2, holdout=False)).groups
    assert list(future_index(group, 0)) == ["2262", "2263"]
