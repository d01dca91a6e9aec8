"""Writes a detector as ONNX or pt2: ``python -m tasks.detection.export --help``."""

import sys

from core.cli import main
from tasks.detection.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
