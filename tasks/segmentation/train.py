"""Trains a segmentation network: ``python -m tasks.segmentation.train --help``."""

import sys

from core.cli import main
from tasks.segmentation.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "train"))
