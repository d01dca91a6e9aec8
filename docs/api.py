"""``python -m docs.api``: the reference of the core from its docstrings.

It writes ``docs/api/``, pages that a browser opens without a server, and ``docs/core.md``, every public name with its
first sentence, which code hosts show.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "api"
OVERVIEW = ROOT / "docs" / "core.md"
HEAD = """# The core by name
Made by `make docs` (`python -m docs.api`) from the docstrings, which also become pages with every argument:
`docs/api/core.html`.
"""


def modules() -> list[str]:
    """Returns the importable modules of the core, packages before what they hold."""
    found = ["core"]
    for item in pkgutil.walk_packages([str(ROOT / "core")], "core."):
        last = item.name.rpartition(".")[2]
        if not last.startswith("_"):
            found.append(item.name)
    return sorted(found)


def write_pages(folder: Path, names: list[str]) -> None:
    """Writes a page for each module; a docstring that pdoc cannot read is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc  # asks the system for its name, which pdoc would not let it do
    import pdoc
    from pdoc import render

    import core

    assert mlflow.pyfunc
    for name in core.__all__:  # which are loaded when they are asked for; pdoc asks the module's dictionary
        setattr(core, name, getattr(core, name))
    # Formulas are code, so that nothing is asked of a network; a search would need the whole text on each page.
    render.configure(docformat="google", math=False, search=False, footer_text="Skipway")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of libraries, when they are imported.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        # A package's `__all__` names some of its modules again.
        warnings.filterwarnings("ignore", message="The module specification")
        # Fields of a record are inherited with the types that its own file names; they are shown as written.
        warnings.filterwarnings("ignore", message="Error parsing type annotation")
        pdoc.pdoc(*names, output_directory=folder)


def overview() -> str:
    """Returns the page of all public names: a section for each package.

    What a package offers to be imported from itself has its arguments; of other modules the names are listed.
    """
    sections: dict[str, list[str]] = {}
    for name in modules():
        path = source(name)
        said = first_sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
        package, _, last = name.rpartition(".")
        if path.name == "__init__.py":
            sections[name] = [f"## {name}", said, "", *offered(importlib.import_module(name))]
            continue
        # What the package offers itself is not told twice.
        around = getattr(importlib.import_module(package), "__all__", ())
        names = [f"`{node.name}`" for node in public(name) if node.name not in around]
        if names:
            sections[package].append(f"- **{last}**: {said} {', '.join(names)}")
    return HEAD + "".join("\n" + "\n".join(section) + "\n" for section in sections.values())


def offered(module: ModuleType) -> Iterator[str]:
    """Yields a line for each name of ``__all__``, or else for each class and function of the file itself."""
    nodes = list(public(module.__name__))
    for name in getattr(module, "__all__", ()):
        found = getattr(module, name)
        if isinstance(found, ModuleType):
            continue
        home = getattr(found, "__module__", "")
        if home != module.__name__:
            nodes += [node for node in public(home) if node.name == name]
    for node in nodes:
        yield f"- `{signature(node)}`: {first_sentence(ast.get_docstring(node))}"


def source(name: str) -> Path:
    """Returns the file of a module."""
    path = ROOT / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def public(name: str) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """Yields the classes and functions of a module that others may use, in the order of the file."""
    if not name.startswith("core"):
        return
    for node in ast.parse(source(name).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Returns the name with its arguments and defaults, without types; of records the name alone."""
    if isinstance(node, ast.FunctionDef):
        return f"{node.name}({arguments(node)})"
    made = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    return f"{node.name}({arguments(made[0], skip=1)})" if made else node.name


def arguments(node: ast.FunctionDef, skip: int = 0) -> str:
    """Returns the arguments of a function, without the first ``skip`` ones."""
    given = node.args
    for argument in [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]:
        if argument is not None:
            argument.annotation = None
    given.args = given.args[skip:]
    return ast.unparse(given)


def first_sentence(text: str | None) -> str:
    """Returns the first sentence of a docstring as Markdown."""
    assert text, "ruff asks for a docstring everywhere"
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z\"`(])", paragraph)[0]
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", sentence).replace("``", "`")


def main() -> None:
    """Writes the pages and the overview."""
    write_pages(PAGES, modules())
    OVERVIEW.write_text(overview(), encoding="utf-8")
    print(f"written    {PAGES.relative_to(ROOT)}, {OVERVIEW.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
