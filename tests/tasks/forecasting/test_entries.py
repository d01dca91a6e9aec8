from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.common import ListDataset
from gluonts.dataset.pandas import PandasDataset

from core.errors import DataError
from tasks.forecasting.config import DataConfig
from tasks.forecasting.data.entries import from_gluonts
from tasks.forecasting.data.load import load_data
from tasks.forecasting.data.series import future_index

ENTRIES = [
    {"start": "2024-01-01", "target": list(range(12)), "item_id": "x"},
    {"start": "2024-01-05 00:00:00", "target": [None, "NaN", 3, 4, 5, 6, 7, 8, 9]},
]


def lines(entries):
    return "".join(json.dumps(entry) + "\n" for entry in entries)


@pytest.fixture
def read(tmp_path):
    def reader(content, name="data.jsonl", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_data(DataConfig(path=str(path), **{"horizon": 2, "freq": "D", **options}))

    return reader


def test_json_lines(read):
    data = read(lines(ENTRIES))
    (group,) = data.groups
    assert group.ids == ["x", "1"]
    assert group.history[1].tolist() == [3, 4, 5, 6, 7]
    assert [str(start) for start in group.starts] == ["2024-01-01", "2024-01-07"]
    assert group.future.tolist() == [[10, 11], [8, 9]]
    assert read(gzip.compress(lines(ENTRIES).encode()), "data.json.gz").digest == data.digest


def test_the_frequency_may_stand_in_the_metadata(read, tmp_path):
    with pytest.raises(DataError, match=r"set data\.freq"):
        read(lines(ENTRIES), freq=None)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "metadata.json").write_text(json.dumps({"freq": "1D", "prediction_length": 2}))
    assert read(lines(ENTRIES), freq=None).groups[0].freq == "D"


def test_repeated_ids_stay_apart(read):
    data = read(lines([ENTRIES[0], ENTRIES[0] | {"target": [5.0] * 9}]))
    assert data.groups[0].ids == ["x", "x (2)"]
    assert any("repeat an item_id" in note for note in data.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"start": "2024-01-01", "target": [1, 2', "line 1, column 40: not JSON"),
        (lines(ENTRIES[:1]) + "[1, 2]\n", "line 2: a line is an object with start, target"),
        (lines([{"start": "2024-01-01", "target": [1, "k"]}]), r"line 1, target\[1\]: 'k' is not a number"),
        (lines([{"start": "2024-01-01", "target": [[1, 2], [3, 4]]}]), "line 1: target must be one list"),
        (lines([{"start": "yesterday?", "target": [1, 2]}]), "line 1: start 'yesterday\\?' is not a date"),
        ("", "the file is empty"),
    ],
)
def test_damaged_lines_are_named(read, content, message):
    with pytest.raises(DataError, match=message):
        read(content)


def test_datasets_in_memory_keep_order_and_every_series():
    dataset = ListDataset(
        [
            {"start": "2024-01-01", "target": [1.0, 2.0, 3.0], "item_id": "b"},
            {"start": "2024-02-01", "target": [np.nan, 5.0, np.nan, 7.0], "item_id": "a"},
        ],
        freq="ME",
    )
    group = from_gluonts(dataset, horizon=2)
    assert (group.name, group.freq, group.seasonality, group.horizon) == ("Monthly", "M", 12, 2)
    assert group.ids == ["b", "a"]
    assert group.history[1].tolist() == [5, 6, 7]
    assert list(future_index(group, 1).astype(str)) == ["2024-06-01", "2024-07-01"]
    assert group.future is None


def test_pandas_datasets():
    frame = pd.DataFrame(
        {"id": np.repeat(["a", "b"], 5), "y": np.arange(10.0)},
        index=np.tile(pd.date_range("2024-01-01", periods=5, freq="h"), 2),
    )
    group = from_gluonts(PandasDataset.from_long_dataframe(frame, item_id="id", target="y"))
    assert (group.freq, group.horizon, group.ids) == ("h", 48, ["a", "b"])
    assert group.history[1].tolist() == [5, 6, 7, 8, 9]


def test_a_series_without_values_is_refused():
    with pytest.raises(DataError, match="entry 0: the target has no value"):
        from_gluonts([{"start": pd.Period("2024-01", "M"), "target": np.array([np.nan])}])
    with pytest.raises(DataError, match="no entries"):
        from_gluonts([])
    with pytest.raises(DataError, match="carries no frequency"):
        from_gluonts([{"start": "2024-01", "target": np.array([1.0])}])
