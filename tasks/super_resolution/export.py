"""Writes a trained network for other runtimes: ``python -m tasks.super_resolution.export --help``."""

import sys

from core.cli import main
from tasks.super_resolution.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
