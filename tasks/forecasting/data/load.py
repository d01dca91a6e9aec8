"""One door to every source of series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError, DataError
from core.registry import nearest
from tasks.forecasting.data.competitions import load_m4, load_packaged
from tasks.forecasting.data.entries import load_json_lines
from tasks.forecasting.data.series import SeriesData
from tasks.forecasting.data.tables import load_table

if TYPE_CHECKING:
    from tasks.forecasting.config import DataConfig

NAMES = ("auto", "tourism", "m1", "m3", "m4", "long", "wide", "jsonl")


def load_data(config: DataConfig) -> SeriesData:
    """Reads and checks the series that a configuration describes.

    Args:
        config: Source and treatments. ``auto`` is the Tourism competition without a path, M4 for a folder,
            and JSON Lines, Parquet or CSV by the file's suffix.

    Returns:
        Groups by frequency, and notes on everything that was dropped, filled or assumed.

    Raises:
        ConfigError: The source's name is unknown or its path is missing.
        DataError: One line with the file, the line and what to do.
    """
    name = config.name
    if name not in NAMES:
        raise ConfigError(
            f"data.name: unknown data {name!r}.{nearest(name, NAMES)} Known: {', '.join(NAMES)}"
        )
    if config.horizon is not None and config.horizon < 1:
        raise ConfigError(f"data.horizon: {config.horizon} steps cannot be forecast; use 1 or more")
    if config.seasonality is not None and config.seasonality < 1:
        raise ConfigError(
            f"data.seasonality: {config.seasonality} is not a number of steps; use 1 for no season"
        )
    if name in ("tourism", "m1", "m3") or (name == "auto" and config.path is None):
        return load_packaged("tourism" if name == "auto" else name, config)
    if config.path is None:
        raise ConfigError(f"data.name {name} needs data.path")
    path = Path(config.path).expanduser()
    if name == "m4" or (name == "auto" and path.is_dir()):
        return load_m4(path, config)
    if not path.exists():
        raise DataError(f"data.path: there is no file {path}")
    if name == "jsonl" or (name == "auto" and ({".jsonl", ".json", ".ndjson"} & set(path.suffixes))):
        return load_json_lines(path, config)
    return load_table(path, config, name)
