"""Forecasts for files and for requests: tables in, tables out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.config import to_dict
from core.errors import ConfigError, DataError, SkipwayError
from core.files import make_folder
from tasks.forecasting.config import DataConfig, ForecastingPredictConfig
from tasks.forecasting.data.frequency import following_stamps, parse_frequency, title
from tasks.forecasting.data.load import load_data
from tasks.forecasting.data.series import Group, SeriesData, future_index
from tasks.forecasting.data.tables import frame_to_data
from tasks.forecasting.forecaster import Forecast, Forecaster, GroupModel

# A model that is served reads and writes no files: what only those need is imported where it is needed.

SUFFIXES = (".csv", ".csv.gz", ".txt", ".tsv", ".parquet", ".jsonl", ".jsonl.gz")
PICTURES = (".png", ".svg", ".pdf")
EXAMPLE_LENGTH = 48  # enough to tell any frequency by, and few enough to read
FARTHEST = 100  # times the longest horizon of its models that a request may ask for


def forecast_frame(group: Group, forecast: Forecast, id_column: str, time_column: str) -> pd.DataFrame:
    """Returns forecasts as a long table: id, time, ``forecast``, and ``lo-80, hi-80`` for each level."""
    count, steps = forecast.median.shape
    times = [np.asarray(future_index(group, i, steps)) for i in range(count)]
    columns: dict[str, Any] = {
        id_column: np.repeat(np.array(group.ids, dtype=object), steps),
        time_column: np.concatenate(times),
        "forecast": forecast.median.ravel(),
    }
    for level, (low, high) in forecast.intervals.items():
        columns |= {f"lo-{level}": low.ravel(), f"hi-{level}": high.ravel()}
    return pd.DataFrame(columns)


def predict_files(forecaster: Forecaster, config: ForecastingPredictConfig) -> list[str]:
    """Forecasts the series of a file, or of every table in a folder.

    Returns:
        One line for each file that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: The output or the picture cannot be written where they should be.
        DataError: The file cannot be used, or the folder holds no table.
    """
    from rich.progress import track

    assert config.input is not None and config.output is not None
    if config.plot_series and not config.plot:
        raise ConfigError("--plot_series chooses what --plot FILE draws; give both")
    source, target = Path(config.input), Path(config.output)
    if not source.is_dir():
        if target.is_dir():
            target = target / f"{_stem(source)}.csv"
        if config.plot and not config.plot.lower().endswith(PICTURES):
            raise ConfigError(f"--plot {config.plot}: pictures end in {', '.join(PICTURES)}")
        _predict_file(forecaster, config, source, target, config.plot)
        return []
    files = sorted(path for path in source.iterdir() if path.name.endswith(SUFFIXES))
    if not files:
        raise DataError(f"{source} holds no table; known endings are {', '.join(SUFFIXES)}")
    if target.is_file():
        raise ConfigError(f"--input {source} is a folder and --output {target} is a file; name a folder")
    make_folder(target, "--output")
    failures = []
    stems = [_stem(path) for path in files]
    for path, stem in zip(track(files, description="forecasting", transient=True), stems, strict=True):
        if stems.count(stem) > 1:  # sales.csv and sales.parquet
            stem = path.name.replace(".", "_")
        plot = str(target / f"{stem}.png") if config.plot else None
        try:
            _predict_file(forecaster, config, path, target / f"{stem}.csv", plot)
        except SkipwayError as error:
            if config.strict:
                raise
            failures.append(str(error) if path.name in str(error) else f"{path}: {error}")
    return failures


def _stem(path: Path) -> str:
    """Returns a table's name without its ending."""
    endings = [suffix for suffix in SUFFIXES if path.name.endswith(suffix)]
    return path.name.removesuffix(max(endings, key=len, default=path.suffix))


def _predict_file(
    forecaster: Forecaster, config: ForecastingPredictConfig, source: Path, target: Path, plot: str | None
) -> None:
    if target.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--output {target}: write a .csv or a .parquet file")
    make_folder(target.parent, "--output")
    if plot:
        make_folder(Path(plot).parent, "--plot")
    for option, path in (("--output", str(target)), ("--plot", plot)):
        if path and Path(path).is_dir():
            raise ConfigError(f"{option} {path} is a folder; name a file that can be written")
    if target.exists() and target.samefile(source):
        raise ConfigError(f"--output {target} would replace the input; name another file or folder")
    # The steps are the model's or config.horizon; a horizon here keeps the reader from stating its default.
    data = load_data(DataConfig(**to_dict(config.data), path=str(source), holdout=False, horizon=1))
    shown = _choose(data, config.plot_series)
    forecasts = {g.name: forecaster.forecast(g, config.group, config.horizon) for g in data.groups}
    notes = [*data.notes, *(note for forecast in forecasts.values() for note in forecast.notes)]
    for note in notes:
        print(f"           {note}")
    frame = pd.concat(
        forecast_frame(g, forecasts[g.name], config.data.id_column, config.data.time_column)
        for g in data.groups
    )
    if target.suffix == ".parquet":
        frame.to_parquet(target, index=False)
    else:
        frame.to_csv(target, index=False)
    print(f"written    {target}: {data.size} series, {len(frame)} rows")
    if plot:
        from tasks.forecasting.figures import forecast_figure

        forecast_figure([(group, forecasts[group.name], i) for group, i in shown]).savefig(plot, dpi=130)
        print(f"written    {plot}")


def _choose(data: SeriesData, names: list[str] | None) -> list[tuple[Group, int]]:
    """Returns the named series, or the first six."""
    every = [(group, i) for group in data.groups for i in range(len(group))]
    if names is None:
        return every[:6]
    by_name = {group.ids[i]: (group, i) for group, i in every}
    if missing := [name for name in names if name not in by_name]:
        raise DataError(f"--plot_series: there is no series {missing[0]!r} in {data.name}")
    return [by_name[name] for name in names]


def serve_frame(forecaster: Forecaster, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """Answers a request: columns ``unique_id, ds, y`` in, ``unique_id, ds, forecast, lo-..., hi-...`` out.

    Args:
        forecaster: The model.
        frame: One row a series and time; times as ISO text or timestamps.
        params: ``horizon`` (0: the model's), ``group`` and ``freq`` (empty: by frequency).

    Raises:
        DataError: The table cannot be read, a parameter is wrong, or ``horizon`` would keep the server for minutes.
    """
    horizon = params.get("horizon") or None
    most = FARTHEST * max(model.horizon for model in forecaster.models.values())
    if horizon is not None and horizon > most:
        raise DataError(f"the parameter horizon must be at most {most}, not {horizon}; train a model for it")
    config = DataConfig(holdout=False, freq=params.get("freq") or None)
    data = frame_to_data(frame, config, "request")
    answers = []
    for group in data.groups:
        forecast = forecaster.forecast(group, params.get("group") or None, horizon)
        answers.append(forecast_frame(group, forecast, "unique_id", "ds"))
    answer = pd.concat(answers, ignore_index=True)
    answer["ds"] = answer["ds"].astype(str)
    return answer


def example_request(forecaster: Forecaster) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns two short series in the frequency of a model, and the default parameters.

    The model is the first whose frequency can be read off timestamps. Where there is none, as for ``2B``, the
    parameters name the first model's.
    """
    for model in forecaster.models.values():
        frame = _example_frame(model)
        read = frame_to_data(frame, DataConfig(holdout=False), "request").groups[0]
        if title(read.freq) == title(model.freq):
            return frame, {"horizon": 0, "group": "", "freq": ""}
    model = next(iter(forecaster.models.values()))
    return _example_frame(model), {"horizon": 0, "group": "", "freq": model.freq}


def _example_frame(model: GroupModel) -> pd.DataFrame:
    # A weekday is kept as the period of its day. Eight of them cross a weekend, which tells them from days.
    start = pd.Period("1970-01-01", freq="D" if parse_frequency(model.freq).base == "B" else model.freq)
    length = int(np.clip(3 * max(model.horizon, model.seasonality), 8, EXAMPLE_LENGTH))
    times = following_stamps(start, 0, length, model.freq, "start").astype(str)
    season = np.sin(2 * np.pi * np.arange(length) / max(2, model.seasonality))
    frames = [
        pd.DataFrame({"unique_id": name, "ds": times, "y": level + np.arange(length) + 5 * season})
        for name, level in (("a", 100.0), ("b", 200.0))
    ]
    return pd.concat(frames, ignore_index=True)
