"""Trains a denoiser: ``python -m tasks.denoising.train --help``."""

import sys

from core.cli import main
from tasks.denoising.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "train"))
