from __future__ import annotations

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from tasks.forecasting.config import DataConfig
from tasks.forecasting.data.competitions import M4
from tasks.forecasting.data.load import load_data


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("tourism", {"Yearly": (518, 4, 1), "Quarterly": (427, 8, 4), "Monthly": (366, 24, 12)}),
        ("m1", {"Yearly": (181, 6, 1), "Quarterly": (203, 8, 4), "Monthly": (617, 18, 12)}),
        (
            "m3",
            {
                "Yearly": (645, 6, 1),
                "Quarterly": (756, 8, 4),
                "Monthly": (1428, 18, 12),
                "Other": (174, 8, 1),
            },
        ),
    ],
)
def test_sizes_horizons_and_seasonalities_are_the_competitions(name, groups):
    data = load_data(DataConfig(name=name))
    assert {g.name: (len(g), g.horizon, g.seasonality) for g in data.groups} == groups
    assert data.size == sum(count for count, _, _ in groups.values())
    for group in data.groups:
        assert np.isfinite(group.future).all()
        assert all(np.isfinite(values).all() and len(values) > 1 for values in group.history)


def test_tourism_is_the_default_and_m3_starts_with_its_first_series():
    assert load_data(DataConfig()).digest == load_data(DataConfig(name="tourism")).digest
    (group,) = load_data(DataConfig(name="m3", groups=["Yearly"])).groups
    assert group.ids[0] == "N0001"
    # Makridakis and Hibon's N0001: 14 values from 940.66, then 6 to forecast.
    assert group.history[0][0] == pytest.approx(940.66)
    assert len(group.history[0]) == 14


def test_groups_and_holdout():
    data = load_data(DataConfig(groups=["monthly"]))
    assert [g.name for g in data.groups] == ["Monthly"]
    whole = load_data(DataConfig(groups=["Monthly"], holdout=False)).groups[0]
    assert whole.future is None
    np.testing.assert_array_equal(
        whole.history[5], np.concatenate([data.groups[0].history[5], data.groups[0].future[5]])
    )
    with pytest.raises(DataError, match="no 'Weekly' series"):
        load_data(DataConfig(groups=["Weekly"]))
    with pytest.raises(DataError, match=r"data\.horizon 25: .* Monthly series has 24 values"):
        load_data(DataConfig(groups=["Monthly"], horizon=25))
    assert load_data(DataConfig(groups=["Monthly"], horizon=3)).groups[0].future.shape == (366, 3)


@pytest.fixture
def m4(tmp_path):
    for folder in ("Train", "Test"):
        (tmp_path / folder).mkdir()
    header = ",".join(f'"V{i}"' for i in range(1, 23))
    ragged = [["H1", *range(1, 22)], ["H2", *range(30, 45), *[""] * 6]]
    rows = "\n".join(",".join(f'"{cell}"' if cell != "" else "" for cell in row) for row in ragged)
    (tmp_path / "Train" / "Hourly-train.csv").write_text(f"{header}\n{rows}\n")
    tests = {"H2": range(100, 148), "H1": range(48)}
    body = "\n".join(",".join([f'"{name}"', *map(str, values)]) for name, values in tests.items())
    (tmp_path / "Test" / "Hourly-test.csv").write_text("V1,V2\n" + body + "\n")
    (tmp_path / "Train" / "Daily-train.csv").write_text("V1,V2\n" + f"D1,{','.join(map(str, range(40)))}\n")
    return tmp_path


def test_m4_files_are_ragged_and_matched_by_id(m4):
    data = load_data(DataConfig(path=str(m4)))
    daily, hourly = data.groups
    assert hourly.ids == ["H1", "H2"]
    assert [len(values) for values in hourly.history] == [21, 15]
    assert hourly.history[1][-1] == 44
    assert hourly.future[:, 0].tolist() == [0, 100]
    assert (hourly.horizon, hourly.seasonality) == M4["Hourly"] == (48, 24)
    # Without a test file the last values are held out.
    assert daily.history[0].tolist() == list(range(26))
    assert daily.future[0].tolist() == list(range(26, 40))
    assert any("no Daily-test.csv" in note for note in data.notes)


def test_m4_is_found_in_the_home_folder(m4, monkeypatch):
    monkeypatch.setenv("HOME", str(m4.parent))
    assert (
        load_data(DataConfig(name="m4", path=f"~/{m4.name}")).digest
        == load_data(DataConfig(path=str(m4))).digest
    )


def test_m4_problems_are_named(m4, tmp_path):
    train = m4 / "Train" / "Hourly-train.csv"
    with pytest.raises(DataError, match=r"M4 has no 'Hourley' series\. Did you mean 'Hourly'"):
        load_data(DataConfig(path=str(m4), groups=["Hourley"]))
    with pytest.raises(DataError, match=r"there is no Weekly-train\.csv"):
        load_data(DataConfig(path=str(m4), groups=["Weekly"]))
    train.write_text(train.read_text() + "H3,1,2\n")
    with pytest.raises(DataError, match=r"Hourly-test\.csv: series H3 of Hourly-train\.csv are missing"):
        load_data(DataConfig(path=str(m4)))
    train.write_text(train.read_text().replace("H3,1,2", "H3,1,zwei"))
    with pytest.raises(DataError, match=r"Hourly-train\.csv, line 4, column 3: 'zwei' is not a number"):
        load_data(DataConfig(path=str(m4)))
    train.write_text(train.read_text().replace("H3,1,zwei", 'H3,1,"2,5"'))
    with pytest.raises(DataError, match=r"line 4, column 3: '2,5' is not a number"):
        load_data(DataConfig(path=str(m4)))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no file such as Train/Hourly-train"):
        load_data(DataConfig(path=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"data\.name m4 needs data\.path"):
        load_data(DataConfig(name="m4"))
