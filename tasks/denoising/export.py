"""Writes a denoiser as ONNX or pt2: ``python -m tasks.denoising.export --help``."""

import sys

from core.cli import main
from tasks.denoising.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
