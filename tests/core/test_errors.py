"""What users see of errors: one line, whatever is in the names of their files, and whatever was raised."""

from __future__ import annotations

import pytest
import torch

from core.cli import OUT_OF_MEMORY, with_one_line_errors
from core.errors import LONGEST, ConfigError, DataError, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("größe 測試.png", "größe 測試.png"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
        (b"\xff".decode(errors="surrogateescape"), "\\udcff"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text, line):
    assert one_line(text) == line


def test_the_middle_of_a_long_line_is_left_out():
    line = one_line("a" * 10_000 + "b")
    assert len(line) < LONGEST + 10
    assert line.startswith("aaa") and line.endswith("aab") and " ... " in line


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("--x 1\nis wrong"), 2, "--x 1\\nis wrong"),
        (DataError("a.csv: is empty"), 1, "a.csv: is empty"),
        (OSError(36, "File name too long", "xxx"), 1, "xxx: File name too long"),
        (OSError("no number"), 1, "no number"),
        (MemoryError(), 1, OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, OUT_OF_MEMORY),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_a_code(error, code, said, capsys):
    def work(argv):
        raise error

    assert with_one_line_errors(work, []) == code
    assert capsys.readouterr().err == f"error: {said}\n"


def test_too_much_memory_is_one_line(capsys):
    assert with_one_line_errors(lambda argv: torch.empty(2**60).numel(), []) == 1
    assert capsys.readouterr().err == f"error: {OUT_OF_MEMORY}\n"


def test_what_is_our_fault_is_not_hidden():
    def work(argv):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        with_one_line_errors(work, [])
