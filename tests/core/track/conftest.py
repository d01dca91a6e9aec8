"""Lets the tests here, and the processes that they start, import ``track_fakes`` and ``track_workers``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
