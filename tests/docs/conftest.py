"""The tests of the pages may import ``tutorial``, whatever pytest's mode."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
