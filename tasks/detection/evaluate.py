"""Scores a detector: ``python -m tasks.detection.evaluate --help``."""

import sys

from core.cli import main
from tasks.detection.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "evaluate"))
