"""The page of papers names every paper that the code names, beside its file, and no file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
NAMED = re.compile(r"arXiv[: ]\s*(\d{4}\.\d{4,5})|doi\.org/([\w./-]*\w)")


def papers_of_the_code():
    """Numbers of papers and the files that name them."""
    for folder in ("core", "tasks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, doi in NAMED.findall(path.read_text(encoding="utf-8")):
                yield number or doi, path.relative_to(ROOT).as_posix()


def test_every_paper_stands_beside_its_files():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    found = set(papers_of_the_code())
    assert ("1905.10437", "tasks/forecasting/models/nbeats.py") in found
    lacking = [
        f"{paper} of {path}"
        for paper, path in sorted(found)
        # Options repeat what the models say.
        if not any(paper in row and (f"`{path}`" in row or path.endswith("/config.py")) for row in rows)
    ]
    assert not lacking, f"docs/papers.md lacks {lacking}"


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"`([\w/]+\.(?:py|md))`", PAGE))
    assert len(named) > 150
    assert not [path for path in sorted(named) if not (ROOT / path).is_file()]
