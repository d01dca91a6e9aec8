"""Scores a keyword spotter: ``python -m tasks.speech.evaluate --help``."""

import sys

from core.cli import main
from tasks.speech.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "evaluate"))
