"""Lets the tests of this folder import ``released_csi4cast``, whatever pytest's mode."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
