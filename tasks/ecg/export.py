"""Writes a classifier of electrocardiograms as ONNX or pt2: ``python -m tasks.ecg.export --help``."""

import sys

from core.cli import main
from tasks.ecg.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
