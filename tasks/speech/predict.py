"""Spots words in recordings: ``python -m tasks.speech.predict --help``."""

import sys

from core.cli import main
from tasks.speech.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
