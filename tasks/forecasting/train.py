"""Trains an N-BEATS ensemble: ``python -m tasks.forecasting.train --help``."""

import sys

from core.cli import main
from tasks.forecasting.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "train"))
