"""What a run was made with: code, versions, machine and command line."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds ``core``: a checkout, or ``site-packages``."""


def installed(name: str) -> str:
    """Returns the version of a distribution, or ``not installed``."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git_tags() -> dict[str, str]:
    """Returns ``git.commit`` and ``git.dirty`` of the checkout that runs, or nothing outside one.

    An installation inside somebody else's repository is not mistaken for it.
    """
    if _git("ls-files", "--error-unmatch", "core/__init__.py") is None:
        return {}
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if not commit or status is None:
        return {}
    return {"git.commit": commit, "git.dirty": str(bool(status)).lower(), "mlflow.source.git.commit": commit}


def without_passwords(word: str) -> str:
    """Returns a word of a command line without the user names and passwords of the addresses in it.

    An address may follow a flag: ``--tracking=http://user:password@host:5000``.
    """
    return re.sub(r"//[^/?#\s]*@", "//", word)


def environment_tags(seed: int | None = None) -> dict[str, str]:
    """Returns the tags of a new run. Passwords in addresses on the command line are left out."""
    tags = {f"version.{name}": installed(name) for name in ("skipway", "torch", "mlflow", "numpy")}
    tags |= {
        "version.python": platform.python_version(),
        "platform": platform.platform(),
        "command": shlex.join(without_passwords(argument) for argument in sys.argv),
        "mlflow.source.name": Path(sys.argv[0]).name or "python",
        "mlflow.source.type": "LOCAL",
    }
    if seed is not None:
        tags["seed"] = str(seed)
    return tags | git_tags()
