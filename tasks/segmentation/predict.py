"""Segments images and volumes: ``python -m tasks.segmentation.predict --help``."""

import sys

from core.cli import main
from tasks.segmentation.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
