"""What the tests of all tasks share; they may import ``commands``, whatever pytest's mode."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder that the test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
