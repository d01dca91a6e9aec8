"""Writes a segmentation network as ONNX or pt2: ``python -m tasks.segmentation.export --help``."""

import sys

from core.cli import main
from tasks.segmentation.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
