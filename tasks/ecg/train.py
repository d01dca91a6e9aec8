"""Trains a classifier of electrocardiograms: ``python -m tasks.ecg.train --help``."""

import sys

from core.cli import main
from tasks.ecg.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "train"))
