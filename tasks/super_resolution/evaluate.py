"""Scores a trained network: ``python -m tasks.super_resolution.evaluate --help``."""

import sys

from core.cli import main
from tasks.super_resolution.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "evaluate"))
