"""Scores a predictor of channel state information: ``python -m tasks.csi.evaluate --help``."""

import sys

from core.cli import main
from tasks.csi.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "evaluate"))
