"""``docs/benchmarks.md``: a table of all bars, then a section of each benchmark as its script printed it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.measure import bars_of

TITLE = "# Benchmarks"
BARS = "Bars"
INTRO = """\
Peers run in the same run, interleaved; figures are medians. One machine, one day: look at the ratios. `make bench`
writes this page; `python -m benchmarks --only detection,speech` measures these sections again and keeps the others.
"""
RULES = """\
## Residual rules
`python -m tasks.compare --task TASK` trains the default configuration of a task with each rule and three seeds: mean,
spread, the difference to `add` with the same seed, CPU seconds, and a figure, in `runs/compare/`. A table stands in the
README of the task. CPU seconds hold for one number of threads on an idle machine: with `OMP_NUM_THREADS=1` waiting
threads are not counted. The last digits of a score depend on the number of threads, too.
"""


@dataclass(frozen=True)
class Script:
    """A benchmark that prints a section.

    Attributes:
        title: Heading of its section.
        options: Of its command; ``{peers}`` is the folder of the peers, ``{folder}`` that of the page, ``{tracking}``
            the registry.
        quick: Options that show whether it works, in place of figures.
        one_thread: Whether ``OMP_NUM_THREADS=1`` is set.
    """

    title: str
    options: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    one_thread: bool = False


SCRIPTS = {
    "forecasting": Script("Forecasting"),
    "restoration": Script(
        "Image restoration",
        ("--rounds", "5", "--deepinv", "{peers}/deepinv"),
        ("--quick", "--rounds", "2", "--threads", "1"),
    ),
    "speech": Script("Keyword spotting", ("--librosa", "{peers}/librosa"), one_thread=True),
    "segmentation": Script("Segmentation", ("--nnunet", "{peers}/nnunet"), one_thread=True),
    "allocator": Script("Large freed blocks"),
    "detection": Script(
        "Detection", ("--rounds", "5", "--ultralytics", "{peers}/ultralytics"), one_thread=True
    ),
    "backbones": Script(
        "Backbones",
        ("--threads", "1", "--rounds", "8"),
        ("--models", "resnet18", "--size", "32", "--batch", "2", "--rounds", "2"),
    ),
    "variance_growth": Script("Growth of the variance", quick=("--width", "64", "--samples", "8")),
    "sequence": Script(
        "State-space scan, challenge score, channels", ("--mambapy", "{peers}/mambapy"), one_thread=True
    ),
    "loaders": Script("Data that grows", ("--figure", "{folder}/loaders.png"), one_thread=True),
    "serving": Script("Serving", ("--tracking", "{tracking}")),
}
"""Module to what it prints, in the order of the page. Serving needs champions in a registry."""


def split_page(page: str) -> dict[str, str]:
    """Returns the sections of a page by their titles, without the table of bars and what is always the same."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    sections = {part.splitlines()[0].removeprefix("## "): part.strip() + "\n" for part in parts}
    fixed = {BARS, RULES.splitlines()[0].removeprefix("## ")}
    return {title: text for title, text in sections.items() if title not in fixed}


def assemble(sections: dict[str, str]) -> str:
    """Returns the page.

    Args:
        sections: Title to text, which begins with the heading; sections of no known script come last.
    """
    known = [script.title for script in SCRIPTS.values() if script.title in sections]
    titles = known + [title for title in sections if title not in known]
    texts = [re.sub(r"\n{3,}", "\n\n", sections[title].strip()) + "\n" for title in titles]
    return "\n".join([f"{TITLE}\n{INTRO}", _bars(titles, sections), *texts, RULES])


def _bars(titles: list[str], sections: dict[str, str]) -> str:
    rows = [
        f"## {BARS}",
        "| benchmark | bar | asked | measured | | why it is missed |",
        "|---|---|---|---|---|---|",
    ]
    for title in titles:
        link = f"[{title}](#{anchor(title)})"
        for bar in bars_of(sections[title]):
            verdict = "met" if bar.met else "**MISSED**"
            rows.append(f"| {link} | {bar.what} | {bar.asked} | {bar.measured} | {verdict} | {bar.why} |")
    return "\n".join(rows) + "\n"


def anchor(title: str) -> str:
    """Returns what GitHub and other hosts call a heading in links."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
