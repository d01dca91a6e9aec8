"""Writes a keyword spotter as ONNX or pt2: ``python -m tasks.speech.export --help``."""

import sys

from core.cli import main
from tasks.speech.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "export"))
