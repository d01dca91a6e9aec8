"""Lets the tests of this folder import its helpers, whatever pytest's mode; a small data set and a run on it."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Made records in the layout of the challenges."""
    from tasks.ecg.data.synthetic import write_records

    folder = tmp_path_factory.mktemp("records") / "records"
    write_records(folder, seed=5, records=24)
    return folder


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """CSV files of 2 s and their labels."""
    from record_folders import csv_folder

    return csv_folder(tmp_path_factory.mktemp("table") / "table")


@pytest.fixture(scope="session")
def trained(records, tmp_path_factory):
    """The folder of a finished run on ``records``."""
    from record_folders import MADE, SMALL, TINY

    from core.cli import main
    from tasks.ecg.task import TASK

    root = tmp_path_factory.mktemp("trained")
    argv = [f"--data.path={records}", f"--output={root / 'runs'}", "--train.validate_every=2"]
    assert main(TASK, "train", [*argv, *MADE, *TINY, *SMALL]) == 0
    return root


@pytest.fixture
def no_figures(monkeypatch):
    """They take most of the time."""
    from tasks.ecg.task import TASK

    monkeypatch.setattr(TASK, "figures", lambda *given: iter(()))
