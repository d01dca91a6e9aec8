"""Trains a network that enlarges images: ``python -m tasks.super_resolution.train --help``."""

import sys

from core.cli import main
from tasks.super_resolution.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "train"))
