"""Lets the tests of all tasks import ``commands``, whatever pytest's mode."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
