"""Forecasts the series of a file: ``python -m tasks.forecasting.predict --help``."""

import sys

from core.cli import main
from tasks.forecasting.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
