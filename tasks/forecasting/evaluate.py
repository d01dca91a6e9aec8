"""Scores a forecaster: ``python -m tasks.forecasting.evaluate --help``."""

import sys

from core.cli import main
from tasks.forecasting.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "evaluate"))
