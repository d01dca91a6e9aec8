"""Writes a forecaster for other runtimes: ``python -m tasks.forecasting.export --help``."""

import sys

from core.cli import main
from tasks.forecasting.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
