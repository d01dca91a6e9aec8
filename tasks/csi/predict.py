"""Predicts the next reports of channels: ``python -m tasks.csi.predict --help``."""

import sys

from core.cli import main
from tasks.csi.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
