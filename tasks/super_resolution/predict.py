"""Enlarges image files: ``python -m tasks.super_resolution.predict --help``."""

import sys

from core.cli import main
from tasks.super_resolution.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
