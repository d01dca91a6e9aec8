"""From what a user types after ``--model`` to the folder of a package."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from core.errors import NoModelError, PackageError, TrackingError
from core.track import store
from core.track.package import METADATA
from core.track.pyfunc import MODEL_NAME

_EXAMPLES = "a package folder, a run folder, models:/NAME@champion, models:/NAME/3 or runs:/ID"


def fetch(where: str, uri: str | None) -> Path:
    """Returns the local folder of a model package; a remote one is downloaded for the life of the process.

    Nothing that comes with the model is run; :func:`core.track.package.load_package` checks it.

    Args:
        where: A package folder, a run folder, ``models:/name@alias``, ``models:/name/3``, ``models:/m-<id>``
            or ``runs:/<id>``, with or without the model's name.
        uri: Address of the store for ``models:`` and ``runs:``.

    Raises:
        PackageError: there is nothing at ``where``.
        TrackingError: no such model, alias or version, or the store does not answer.
    """
    if not _remote(where):
        return _local(Path(where))
    return fetch_pinned(pin(where, uri), uri)


def pin(where: str, uri: str | None) -> str:
    """Returns an address that stays what it is: a version instead of an alias, a whole path of a folder.

    Args:
        where: As for :func:`fetch`.
        uri: Address of the store for ``models:`` and ``runs:``.

    Raises:
        TrackingError: as :func:`fetch`.
    """
    if not _remote(where):
        return str(Path(where).absolute())
    _prepare(where, uri)
    return _concrete(where)


def fetch_pinned(where: str, uri: str | None) -> Path:
    """Returns the local folder of a model package as :func:`fetch` does, from an address of :func:`pin`.

    The registry is not asked, so that this also works while the lock of a local store is held.

    Args:
        where: Result of :func:`pin`.
        uri: Address of the store for ``models:`` and ``runs:``.

    Raises:
        PackageError: there is nothing at ``where``.
        TrackingError: no such model, or the store does not answer.
    """
    if not _remote(where):
        return _local(Path(where))
    _prepare(where, uri)
    return _package_in(_download(where), where)


def _remote(where: str) -> bool:
    return re.match(r"(models|runs):/", where) is not None


def _prepare(where: str, uri: str | None) -> None:
    if uri is None:
        raise NoModelError(f"{where} lies in a tracking store, but tracking is none; give --tracking URI")
    if (path := store.sqlite_path(uri)) and not path.exists():
        # Looking for a model must not leave an empty store behind, least of all in the wrong folder.
        raise NoModelError(
            f"there is no tracking store {path}, so no {where}; train first, or give --tracking or --model"
        )
    store.prepare(uri)


def _local(path: Path) -> Path:
    for folder in (path, path / "package"):
        if (folder / METADATA).is_file():
            return folder
    if not path.exists():
        raise PackageError(f"there is no model at {path}; expected {_EXAMPLES}")
    if (path / "MLmodel").is_file():
        return _package_in(path, str(path))
    raise PackageError(f"{path} holds no model package ({METADATA} is missing); expected {_EXAMPLES}")


def _concrete(where: str) -> str:
    """Returns an address without alias, after a check that gives better errors than a failed download."""
    from core.track import registry

    if match := re.fullmatch(r"models:/+([^/@]+)[@/]([^/@]+)", where):
        name, version = match.groups()
        return f"models:/{name}/{registry.resolve_version(name, version)}"
    if re.fullmatch(r"models:/+m-\w+", where):
        return where
    if match := re.fullmatch(r"runs:/+(\w+)(?:/(.+))?", where):
        return f"runs:/{match.group(1)}/{match.group(2) or MODEL_NAME}"
    raise TrackingError(f"{where!r} is not the address of a model; expected {_EXAMPLES}")


def _download(address: str) -> Path:
    import mlflow

    target = None
    if store.sqlite_path(store.current()) is None:
        # A server's files are copied; those of a local store are used where they lie.
        target = tempfile.mkdtemp(prefix="skipway-")
        atexit.register(shutil.rmtree, target, ignore_errors=True)
    try:
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=target))
    except store.failures() as error:
        raise TrackingError(
            f"{address} cannot be fetched from {store.public_uri(store.current())}: {store.brief(error)}"
        ) from None


def _package_in(model: Path, where: str) -> Path:
    for folder in (model, model / "artifacts" / "package"):
        if (folder / METADATA).is_file():
            return folder
    raise PackageError(f"{where} is an MLflow model that skipway did not make: it holds no package")
