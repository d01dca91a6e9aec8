"""Pages that are made from code and metadata are up to date, and the citation is whole."""

from __future__ import annotations

import importlib
import pkgutil
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs import api, licences

ROOT = Path(__file__).resolve().parents[2]


def test_the_overview_of_the_core_is_up_to_date():
    assert api.OVERVIEW.read_text(encoding="utf-8") == api.overview(), "run `make docs`"


def test_the_overview_has_every_package_and_what_it_offers():
    text = api.OVERVIEW.read_text(encoding="utf-8")
    packages = [m.name for m in pkgutil.walk_packages([str(ROOT / "core")], "core.") if m.ispkg]
    assert all(f"\n## {name}\n" in text for name in packages)
    for name in importlib.import_module("core").__all__:
        assert f"- `{name}(" in text, name
    assert "- `create_backbone(name, *, dims=2, in_channels=3, num_classes=None, **options)`: Builds" in text


def test_pages_are_written_without_a_warning_and_without_addresses(tmp_path):
    names = ["core", "core.registry", "core.residual.rules.orthogonal"]
    api.write_pages(tmp_path, names)
    page = (tmp_path / "core" / "residual" / "rules" / "orthogonal.html").read_text(encoding="utf-8")
    assert "Orthogonal" in page and ":class:" not in page and "Arguments:" in page
    for path in tmp_path.rglob("*.html"):
        assert '<script src="http' not in path.read_text(encoding="utf-8")


def test_the_page_of_licences_has_every_declared_dependency_with_its_version():
    page = licences.PAGE.read_text(encoding="utf-8")
    made = page.partition(licences.BEGIN)[2].partition(licences.END)[0]
    rows = {cells[1].strip(): cells for line in made.splitlines() if len(cells := line.split("|")) > 5}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = licences.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    extras = project["optional-dependencies"].values()
    requirements = project["dependencies"] + [text for extra in extras for text in extra]
    for name in {Requirement(text).name for text in requirements} - {"skipway"}:
        assert name in rows, f"docs/licences.md lacks {name}: run `make docs`"
        assert rows[name][2].strip() == versions[canonicalize_name(name)], f"{name}: run `make docs`"


def test_comments_are_found_beside_and_above():
    text = """[project]
dependencies = [
  "a>=1", # first
]
[project.optional-dependencies]
# Above.
one = ["b>=2"]
two = ["a>=2"] # second
"""
    found = licences.declared(text)
    assert {key: (entry.what, entry.extras) for key, entry in found.items()} == {
        "a": (["first", "second"], ["", "two"]),
        "b": (["Above."], ["one"]),
    }


def test_weights_that_come_with_the_package_have_a_row():
    page = licences.PAGE.read_text(encoding="utf-8")
    shipped = [path.parent.relative_to(ROOT) for path in (ROOT / "tasks").glob("*/weights/*/config.json")]
    assert shipped and all(f"| `{folder.as_posix()}` |" in page for folder in shipped)


@pytest.fixture
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_is_what_its_schema_asks_for(citation):
    known = {
        "cff-version",
        "message",
        "type",
        "title",
        "version",
        "license",
        "authors",
        "abstract",
        "keywords",
    }
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() <= known
    assert (str(citation["cff-version"]), citation["type"]) == ("1.2.0", "software")
    assert citation["authors"] == [{"name": "The Skipway developers"}]
    assert all(isinstance(word, str) for word in citation["keywords"])
    assert len(set(citation["keywords"])) == len(citation["keywords"])


def test_the_citation_agrees_with_the_project(citation):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert set(citation["keywords"]) == set(project["keywords"])
