"""Finds objects in images and videos: ``python -m tasks.detection.predict --help``."""

import sys

from core.cli import main
from tasks.detection.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
