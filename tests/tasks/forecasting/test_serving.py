"""Forecasts for files and requests, through the real commands where files are concerned."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from core.cli import main
from core.errors import DataError
from core.track.package import load_package
from tasks.forecasting.config import DataConfig, GenericConfig
from tasks.forecasting.data.frequency import default_seasonality
from tasks.forecasting.data.tables import frame_to_data
from tasks.forecasting.ensemble import Ensemble
from tasks.forecasting.forecaster import Forecaster, GroupModel
from tasks.forecasting.serving import example_request, serve_frame
from tasks.forecasting.task import TASK


def write_table(path, names=("a", "b"), months=40, level=100.0):
    """Writes a long table of monthly sales and returns its path."""
    times = pd.period_range("2015-01", periods=months, freq="M").start_time.strftime("%Y-%m-%d")
    season = 10 * np.sin(2 * np.pi * np.arange(months) / 12)
    frames = [
        pd.DataFrame({"unique_id": name, "ds": times, "y": level * (i + 1) + np.arange(months) + season})
        for i, name in enumerate(names)
    ]
    pd.concat(frames).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package of a model that was trained for a moment."""
    root = tmp_path_factory.mktemp("model")
    table = write_table(root / "sales.csv", names=[f"n{i}" for i in range(6)])
    flags = {
        "data.path": table,
        "data.horizon": 4,
        "model.lookbacks": [2],
        "model.blocks": 1,
        "model.width": 4,
        "train.steps": 3,
        "train.batch_size": 8,
        "train.tune_allocator": "false",
        "tracking": "none",
        "output": root / "runs",
    }
    assert main(TASK, "train", [f"--{name}={value}" for name, value in flags.items()]) == 0
    (folder,) = (root / "runs" / "forecasting").iterdir()
    return folder / "package"


@pytest.fixture
def predict(package, capsys):
    """Runs ``predict`` and returns its exit code and what it printed."""

    def run(source, target, *flags):
        argv = [f"--model={package}", "--tracking=none", f"--input={source}", f"--output={target}", *flags]
        code = main(TASK, "predict", argv)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def forecaster(package):
    return TASK.predictor(load_package(package))


def test_a_file_becomes_a_table_of_forecasts(predict, tmp_path, forecaster):
    table = write_table(tmp_path / "in.csv")
    code, out, err = predict(table, tmp_path / "out.csv", f"--plot={tmp_path / 'plot.png'}")
    assert (code, err) == (0, "")
    frame = pd.read_csv(tmp_path / "out.csv")
    assert list(frame) == ["unique_id", "ds", "forecast", "lo-80", "hi-80", "lo-95", "hi-95"]
    assert frame["unique_id"].tolist() == ["a"] * 4 + ["b"] * 4
    assert frame["ds"].tolist()[:4] == ["2018-05-01", "2018-06-01", "2018-07-01", "2018-08-01"]
    assert (frame["lo-95"] <= frame["lo-80"]).all()
    assert (frame["lo-80"] < frame["forecast"]).all()
    assert (frame["forecast"] < frame["hi-80"]).all()
    assert "2 series, 8 rows" in out
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    served = serve_frame(forecaster, pd.read_csv(table), {})
    np.testing.assert_allclose(served["forecast"], frame["forecast"], rtol=1e-6)


def test_columns_horizon_and_parquet(predict, tmp_path):
    table = tmp_path / "in.csv"
    frame = pd.read_csv(write_table(table)).rename(columns={"unique_id": "shop", "ds": "day", "y": "sold"})
    frame.to_csv(table, index=False)
    names = ["--data.id_column=shop", "--data.time_column=day", "--data.target_column=sold"]
    code, out, err = predict(table, tmp_path / "out.parquet", "--horizon=6", *names)
    assert (code, err) == (0, "")
    assert "rolled forward" in out
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert list(frame)[:3] == ["shop", "day", "forecast"]
    assert len(frame) == 12


def test_bad_files_of_a_folder_are_skipped_and_counted(predict, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_table(source / "good.csv")
    write_table(source / "last.csv")
    (source / "bad.csv").write_text("unique_id,ds,y\na,2020-01-01,what\n")
    (source / "empty.csv").write_text("")
    (source / "notes.md").write_text("no table")
    code, _, err = predict(source, target)
    assert code == 1
    assert sorted(path.name for path in target.iterdir()) == ["good.csv", "last.csv"]
    lines = err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)
    assert "bad.csv" in lines[0]
    assert "empty.csv" in lines[1]


def test_strict_stops_at_the_first_bad_file(predict, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    write_table(source / "z.csv")
    (source / "a.csv").write_text("unique_id,ds,y\na,2020-01-01,what\n")
    code, _, err = predict(source, tmp_path / "out", "--strict=true")
    assert code == 1
    assert err.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())


def test_tables_of_one_name_do_not_replace_each_other(predict, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    pd.read_csv(write_table(source / "sales.csv")).to_parquet(source / "sales.parquet", index=False)
    write_table(source / "sales.2020.csv", names=["c"])
    assert predict(source, target)[0] == 0
    assert sorted(p.name for p in target.iterdir()) == [
        "sales.2020.csv",
        "sales_csv.csv",
        "sales_parquet.csv",
    ]


def test_the_input_is_never_replaced(predict, tmp_path):
    table = write_table(tmp_path / "in.csv")
    before = table.read_bytes()
    code, _, err = predict(table, table)
    assert (code, err.count("\n")) == (2, 1)
    assert "would replace the input" in err
    code, _, err = predict(tmp_path, tmp_path)
    assert code == 1
    assert "would replace the input" in err
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--group=Dayly"], "has no model 'Dayly'; it has Monthly"),
        (["--horizon=-2"], "-2"),
        (["--data.target_column=z"], "z"),
        (["--plot_series=[zz]", "--plot=p.png"], "there is no series 'zz'"),
        (["--plot_series=[a]"], "--plot_series chooses what --plot FILE draws"),
        (["--plot=p.foo"], "--plot p.foo: pictures end in .png, .svg, .pdf"),
        (["--plot=in.csv/p.png"], "--plot in.csv cannot be made a folder"),
        (["--plot=folder.png"], "--plot folder.png is a folder"),
    ],
)
def test_wrong_wishes_are_one_line(flags, expected, predict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    code, _, err = predict(write_table(tmp_path / "in.csv"), tmp_path / "out.csv", *flags)
    assert code in (1, 2)
    assert err.count("\n") == 1
    assert expected in err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("flag", ["--data.name=tourism", "--data.path=x.csv", "--data.horizon=3"])
def test_only_what_reads_the_input_can_be_set(flag, predict, tmp_path, capsys):
    """Another source than the input would be forecast in its place, or the option would do nothing."""
    with pytest.raises(SystemExit) as stopped:
        predict(write_table(tmp_path / "in.csv"), tmp_path / "out.csv", flag)
    assert stopped.value.code == 2
    assert flag.split("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_a_file_in_the_way_of_a_folder_is_one_line(predict, tmp_path):
    table = write_table(tmp_path / "in.csv")
    (tmp_path / "in").mkdir()
    write_table(tmp_path / "in" / "a.csv")
    for source, target, expected in (
        (table, table / "out.csv", "in.csv cannot be made a folder"),
        (tmp_path / "in", table, "is a file; name a folder"),
        (tmp_path / "in", table / "out", "out cannot be made a folder"),
    ):
        code, _, err = predict(source, target)
        assert (code, err.count("\n")) == (2, 1)
        assert expected in err


def test_folders_for_tables_and_pictures_are_made(predict, tmp_path):
    plot = tmp_path / "pictures" / "p.svg"
    code, _, err = predict(write_table(tmp_path / "in.csv"), tmp_path / "new" / "out.csv", f"--plot={plot}")
    assert (code, err) == (0, "")
    assert (tmp_path / "new" / "out.csv").is_file()
    assert "<svg" in plot.read_text()


def test_an_unknown_ending_is_told_before_the_work(predict, tmp_path):
    code, _, err = predict(write_table(tmp_path / "in.csv"), tmp_path / "out.xlsx")
    assert code == 2
    assert "write a .csv or a .parquet file" in err
    assert not (tmp_path / "out.xlsx").exists()


def test_a_folder_without_tables(predict, tmp_path):
    (tmp_path / "in").mkdir()
    code, _, err = predict(tmp_path / "in", tmp_path / "out")
    assert code == 1
    assert "holds no table" in err


# ---------------------------------------------------------------- requests


def test_the_example_is_served(forecaster):
    frame, params = example_request(forecaster)
    answer = serve_frame(forecaster, frame, params)
    assert answer["unique_id"].tolist() == ["a"] * 4 + ["b"] * 4
    assert np.isfinite(answer["forecast"]).all()
    json.loads(answer.to_json(orient="records"))
    longer = serve_frame(forecaster, frame, params | {"horizon": 5, "group": "Monthly", "freq": "M"})
    assert len(longer) == 10
    np.testing.assert_allclose(longer["forecast"][:4], answer["forecast"][:4])


def test_wrong_requests_are_one_line(forecaster):
    frame, params = example_request(forecaster)
    for wrong, options in (
        (frame.drop(columns="y"), params),
        (frame.assign(ds="never"), params),
        (frame, params | {"horizon": -1}),
        (frame, params | {"group": "None"}),
    ):
        with pytest.raises(DataError) as caught:
            serve_frame(forecaster, wrong, options)
        assert "\n" not in str(caught.value)


def untrained(*freqs, horizon=3):
    """A forecaster with a small model of each frequency."""
    config = GenericConfig(lookbacks=[2], losses=["mape"], blocks=1, width=4)
    models = {
        freq: GroupModel(freq, default_seasonality(freq), horizon, Ensemble(config, horizon).eval())
        for freq in freqs
    }
    return Forecaster(models, config, [80], "spread")


@pytest.mark.parametrize(
    ("freq", "second", "horizon"),
    [
        ("Y", "1971-01-01", 3), ("Y", "1971-01-01", 300), ("Q", "1970-04-01", 3), ("M", "1970-02-01", 3),
        ("W-SUN", "1970-01-05", 3), ("D", "1970-01-02", 3), ("B", "1970-01-02", 3),
        ("2B", "1970-01-05", 3), ("h", "1970-01-01 01:00:00", 3), ("15min", "1970-01-01 00:15:00", 3),
        ("s", "1970-01-01 00:00:01", 3), ("100ms", "1970-01-01 00:00:00.100", 3),
    ],
)  # fmt: skip
def test_the_example_of_every_frequency_is_served(freq, second, horizon):
    forecaster = untrained(freq, horizon=horizon)
    frame, params = example_request(forecaster)
    assert frame["ds"][1] == second
    assert 8 <= len(frame) / 2 <= 60
    answer = serve_frame(forecaster, frame, params)
    assert answer.groupby("unique_id").size().to_dict() == {"a": horizon, "b": horizon}
    asked = DataConfig(freq=params["freq"] or None, holdout=False)
    assert frame_to_data(frame, asked).groups[0].freq.removesuffix("-DEC") == freq
    # A default would be taken for the frequency of every request.
    assert params["freq"] == ("2B" if freq == "2B" else "")


def test_the_example_has_a_frequency_that_needs_no_parameter():
    frame, params = example_request(untrained("2B", "M"))
    assert (frame["ds"][1], params["freq"]) == ("1970-02-01", "")


def test_serving_loads_no_library_for_pictures_or_terminals(run_python):
    code = "import sys, tasks.forecasting.serving; print({'matplotlib', 'rich'} & set(sys.modules))"
    assert run_python(code).strip() == "set()"
