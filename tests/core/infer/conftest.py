"""Lets the tests of this folder import ``tiled_nets``, whatever pytest's import mode."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
