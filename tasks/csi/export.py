"""Writes a predictor of channel state information as ONNX or pt2: ``python -m tasks.csi.export --help``."""

import sys

from core.cli import main
from tasks.csi.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
