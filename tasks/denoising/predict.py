"""Denoises image files: ``python -m tasks.denoising.predict --help``."""

import sys

from core.cli import main
from tasks.denoising.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
