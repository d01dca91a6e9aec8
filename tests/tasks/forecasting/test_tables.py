from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, DataError
from tasks.forecasting.config import DataConfig
from tasks.forecasting.data.load import load_data
from tasks.forecasting.data.series import future_index
from tasks.forecasting.data.tables import frame_to_data


def long(times, values=None, name="a"):
    values = np.arange(1.0, len(times) + 1) if values is None else values
    return pd.DataFrame({"unique_id": name, "ds": times, "y": values})


DAYS = pd.date_range("2024-03-01", periods=12, freq="D")
CSV = "unique_id,ds,y\n" + "".join(f"a,2024-03-{d:02d},{d}\n" for d in range(1, 13))


@pytest.fixture
def read(tmp_path):
    def reader(content, name="sales.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_data(DataConfig(path=str(path), **{"horizon": 2, **options}))

    return reader


def only(data):
    (group,) = data.groups
    return group


def said(data, text):
    return any(text in note for note in data.notes)


def test_one_series_from_every_container_has_one_digest(read, tmp_path):
    digest = read(CSV).digest
    assert read(gzip.compress(CSV.encode()), "sales.csv.gz").digest == digest
    assert read(CSV.replace(",", ";")).digest == digest
    assert read(CSV.replace(",", "\t"), "sales.tsv").digest == digest
    assert read(CSV.replace("\n", "\r\n")).digest == digest
    assert read("\ufeff" + CSV).digest == digest
    assert read(CSV.encode("utf-16")).digest == digest
    frame = long(DAYS)
    frame.to_parquet(tmp_path / "sales.parquet")
    assert load_data(DataConfig(path=str(tmp_path / "sales.parquet"), horizon=2)).digest == digest
    wide = pd.DataFrame({"date": DAYS, "a": np.arange(1, 13)})
    assert read(wide.to_csv(index=False)).digest == digest
    wide.set_index("date").to_parquet(tmp_path / "wide.parquet")
    assert load_data(DataConfig(path=str(tmp_path / "wide.parquet"), horizon=2)).digest == digest
    assert frame_to_data(frame, DataConfig(horizon=2)).digest == digest
    assert frame_to_data(frame.assign(ds=DAYS.to_period("D")), DataConfig(horizon=2)).digest == digest


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("row", "message"), [("a,2024-03-05,five", "'five'"), ("a,soon,5", "'soon'"), (" ,2024-03-05,5", "empty")]
)
def test_an_error_names_the_line_of_the_file(read, end, row, message):
    text = CSV.replace("a,2024-03-05,5", row).replace("a,2024-03-02", "\n  \na,2024-03-02")
    with pytest.raises(DataError, match=f"line 9[,:].*{message}"):
        read(("\n" + text).replace("\n", end))


def test_cells_of_mixed_types_are_told_apart_by_their_text():
    frame = pd.concat([long(DAYS, name=name) for name in (1, True, "1.0")], ignore_index=True)
    assert only(frame_to_data(frame, DataConfig(horizon=2))).ids == ["1", "True", "1.0"]
    for column, message in (("ds", "is not a date"), ("y", "is not a number")):
        with pytest.raises(DataError, match=f"row 1, column '{column}'.*{message}"):
            frame_to_data(frame.assign(**{column: [[1, 2]] * len(frame)}), DataConfig(horizon=2))


def test_decimal_commas_and_windows_text(read):
    text = "unique_id;ds;y\n" + "".join(f"Köln;{d:02d}.03.2024;{d},5\n" for d in range(1, 13))
    data = read(text.encode("cp1252"))
    assert only(data).ids == ["Köln"]
    assert only(data).future.tolist() == [[11.5, 12.5]]
    assert list(future_index(only(data), 0).astype(str)) == ["2024-03-11", "2024-03-12"]
    assert said(data, "decimal commas")
    assert said(data, "Windows-1252")
    assert said(data, "separated by ';'")


@pytest.mark.parametrize(
    ("times", "first"),
    [
        ([f"{d:02d}/01/2024" for d in range(10, 22)], "2024-01-10"),
        ([f"01/{d:02d}/2024" for d in range(10, 22)], "2024-01-10"),
        ([f"2024-01-{d}T00:00:00" for d in range(10, 22)], "2024-01-10"),
        (range(20240110, 20240122), "2024-01-10"),
        (range(202401, 202413), "2024-01"),
        (range(1990, 2002), "1990"),
        ([f"{2000 + q // 4}-Q{q % 4 + 1}" for q in range(12)], "2000Q1"),
        ([1704844800 + 86400 * d for d in range(12)], "2024-01-10"),
    ],
)
def test_forms_of_dates(times, first):
    group = only(frame_to_data(long(list(times)), DataConfig(horizon=2, holdout=False)))
    assert str(group.starts[0]) == first
    assert len(group.history[0]) == 12


def test_ambiguous_dates_are_said():
    times = [f"0{month}/0{day}/2024" for month, day in ((1, 1), (1, 2), (1, 3))]
    data = frame_to_data(long(times), DataConfig(freq="D", horizon=1, holdout=False))
    assert str(only(data).starts[0]) == "2024-01-01"
    assert said(data, "month first")


def test_zones_become_utc_or_local_dates():
    hours = pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")  # the clock changes inside
    data = frame_to_data(long(hours), DataConfig(horizon=2, holdout=False))
    assert only(data).freq == "h"
    assert str(only(data).starts[0]) == "2024-03-29 23:00"
    assert len(only(data).history[0]) == 60
    assert said(data, "converted to UTC")
    days = pd.date_range("2024-03-25", periods=12, freq="D", tz="Europe/Berlin")
    for times in (days, days.astype(str)):
        data = frame_to_data(long(times), DataConfig(horizon=2, holdout=False))
        assert str(only(data).starts[0]) == "2024-03-25"
        assert len(only(data).history[0]) == 12
        assert not said(data, "missing values")


def test_wide_without_header_or_times_counts_steps(read):
    text = "".join(f"{i / 7:.6f},{i + 1}\n" for i in range(30))
    data = read(gzip.compress(text.encode()), "rates.txt.gz", seasonality=5)
    assert only(data).ids == ["0", "1"]
    assert only(data).future[1].tolist() == [29, 30]
    assert only(data).seasonality == 5
    assert list(future_index(only(data), 0)) == [28, 29]
    assert said(data, "there is no header")
    assert said(data, "rows are steps 0, 1, 2")


def test_ids_stay_text(read):
    data = read(CSV.replace("a,", "007,"))
    assert only(data).ids == ["007"]
    assert only(read(CSV.replace("a,", "NA,"))).ids == ["NA"]


def test_a_table_without_ids_is_one_series(read):
    text = CSV.replace("unique_id,", "").replace("a,", "")
    data = read(text)
    assert only(data).ids == ["sales"]
    assert said(data, "there is no column 'unique_id'")


def test_columns_are_configurable(read):
    text = CSV.replace("unique_id,ds,y", "shop,day,sold")
    data = read(text, id_column="shop", time_column="day", target_column="sold")
    assert data.digest == read(CSV).digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("unique_id,ds,y\n", "there is a header but no row"),
        (b"\x00\x01\x02\x03" * 50, "binary file, not text"),
        ("unique_id,ds,yy\na,2024-01-01,1\n", r"no column 'y' \(data\.target_column\)\. Did you mean 'yy'\?"),
        ("unique_id,when,y\na,2024-01-01,1\n", r"no column 'ds' \(data\.time_column\).*unique_id, when, y"),
        ("unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,two\n", "line 3, column 'y': 'two' is not a number"),
        ("unique_id,ds,y\n\na,2024-01-01,1\n\na,2024-01-02,two\n", "line 5, column 'y': 'two'"),
        (
            "unique_id,ds,y\na,2024-01-01,1\na,2024-13-02,2\n",
            r"line 3, column 'ds'.*'2024-13-02' is not a date",
        ),
        ("unique_id,ds,y\na,2024-01-01,1\na,,2\n", r"line 3, column 'ds'"),
        ("unique_id,ds,y\na,2024-01-01,1\n,2024-01-02,2\n", "line 3: column 'unique_id' is empty"),
        ("unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,1,5\n", "same number of columns.*line 3"),
        ("unique_id,ds,y\na,2024-01-01,1\n", "set data.freq"),
        ("date,a,b\n2024-01-01,1,2\n2024-01-02,1,x\n", "line 3, column 'b': 'x' is not a number"),
        ("date\n2024-01-01\n", "no column beside the times"),
    ],
)
def test_unusable_files_are_one_clear_line(read, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    assert "sales.csv" in str(caught.value)


def test_damaged_archives_are_one_clear_line(read, tmp_path):
    with pytest.raises(DataError, match=r"sales\.csv\.gz: the gzip file is truncated"):
        read(gzip.compress(CSV.encode())[:40], "sales.csv.gz")
    with pytest.raises(DataError, match=r"sales\.parquet: not a whole Parquet file"):
        read(b"PAR1 and then nothing", "sales.parquet")
    with pytest.raises(DataError, match=r"there is no file .*nowhere\.csv"):
        load_data(DataConfig(path=str(tmp_path / "nowhere.csv")))


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError, match=r"unknown data 'tourist'\. Did you mean 'tourism'\?"):
        load_data(DataConfig(name="tourist"))
    with pytest.raises(ConfigError, match=r"data\.name wide needs data\.path"):
        load_data(DataConfig(name="wide"))
    with pytest.raises(ConfigError, match=r"data\.horizon"):
        load_data(DataConfig(horizon=0))
