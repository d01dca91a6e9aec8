"""Names findings in electrocardiograms: ``python -m tasks.ecg.predict --help``."""

import sys

from core.cli import main
from tasks.ecg.task import TASK

if __name__ == "__main__":
    sys.exit(main(TASK, "predict"))
