"""The tutorials are followed literally, and so is what they say of their own form."""

from __future__ import annotations

from pathlib import Path

import pytest
import tutorial

TUTORIALS = sorted((tutorial.ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.fixture(scope="module")
def tools():
    with tutorial.warm_python() as folder:
        yield folder


@pytest.fixture
def database(_migrated):
    """The tables of a tracking store, which take seconds to make."""
    return _migrated


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_does_what_it_says(page, tmp_path, tools, database):
    tutorial.copy_repository(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    tutorial.follow(page.read_text(encoding="utf-8"), tmp_path, tools)


def test_a_wrong_line_a_missing_place_and_a_stray_block_are_found(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    good = "Change `a.txt`:\n```diff\n one\n+new\n two\n```\n```console\n$ sed -n 2p a.txt\nnew\n```\n"
    tutorial.follow(good, tmp_path, tmp_path)
    assert Path(tmp_path / "a.txt").read_text() == "one\nnew\ntwo\n"
    for page, words in (
        (good, "there 0 times"),
        ("```console\n$ echo 12.5 dB\n7 dB\nmore\n```\n", "lacks the line"),
        ("```console\n$ echo something\n```\n", "says"),
        ("Look:\n```python\nx\n```\n", "no line says"),
        ("`a.txt`:\n```text\nx\n```\n", "there already"),
    ):
        with pytest.raises(AssertionError, match=words):
            tutorial.follow(page, tmp_path, tmp_path)
