"""A model package: ``config.json``, ``weights.safetensors`` and ``metadata.json``, never a pickle.

A package holds data only. The code that turns it into a model is the installed task's, so loading one cannot
run anything that came with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import PackageError
from core.files import load_json
from core.track.environment import installed
from core.track.folder import finite, write_atomic

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.task import Packaged

FORMAT_VERSION = 1
CONFIG, WEIGHTS, METADATA = "config.json", "weights.safetensors", "metadata.json"
CARD = "README.md"
"""The model card; a package without one is whole."""
PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt", ".dill"})
"""File types that run code when they are loaded, or may."""

RESERVED = frozenset({"format_version", "task", "skipway_version", "created", "sha256"})
"""Keys of the metadata that :func:`save_package` writes itself."""


@dataclass(frozen=True)
class Package:
    """A checked package.

    Attributes:
        folder: Where it lies.
        task: Name of the task that made it.
        config: Content of ``config.json``.
        metadata: Content of ``metadata.json``.
    """

    folder: Path
    task: str
    config: dict[str, Any]
    metadata: dict[str, Any]

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Reads the weights into CPU memory, with those of the base where the package holds a difference.

        Args:
            prefix: Only those whose names begin with it; the names stay as they are.

        Raises:
            PackageError: They are damaged, or the base is gone or not the same.
        """
        from safetensors import SafetensorError, safe_open

        differs = "base" in self.metadata
        try:
            with safe_open(self.folder / WEIGHTS, "pt") as file:
                names = [name for name in file.keys() if differs or name.startswith(prefix)]  # noqa: SIM118  # no mapping
                stored = {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise PackageError(f"{self.folder / WEIGHTS} is damaged: {error}") from None
        if not differs:
            return stored
        from core.compress.package import restore

        whole = restore(self.folder, stored, self.metadata["base"])
        return {name: tensor for name, tensor in whole.items() if name.startswith(prefix)}

    def load_into(self, model: nn.Module, prefix: str = "") -> nn.Module:
        """Gives a new model the weights, or those whose names begin with ``prefix``, and returns it for evaluation.

        Raises:
            PackageError: Weights and configuration do not fit, or weights are NaN.
        """
        tensors = {name.removeprefix(prefix): tensor for name, tensor in self.tensors(prefix).items()}
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise PackageError(
                f"{self.folder} does not fit its model: {' '.join(str(error).split())}"
            ) from None
        if any(tensor.isnan().any() for tensor in tensors.values()):
            raise PackageError(f"{self.folder} has weights that are NaN; train again")
        return model.eval()


def save_package(folder: Path, packaged: Packaged, task: str) -> Path:
    """Writes a package and returns its folder; an older one in its place is replaced as a whole.

    Args:
        folder: Target.
        packaged: Content; tensors of any device. Tensors that share memory are stored apart. A number in the
            JSON files that is not finite comes back as a string, ``nan`` or ``inf``.
        task: Name of the task.

    Raises:
        PackageError: The weights cannot be written, as on a full disk.
        OSError: Another file cannot.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    taken = RESERVED & packaged.metadata.keys()
    assert not taken, f"metadata keys {sorted(taken)} are reserved"
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    # safetensors refuses views of one storage, as tied weights are.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in packaged.tensors.items()}
    try:
        save_file(tensors, temporary / WEIGHTS)
    except SafetensorError as error:  # its own type, for a full disk too
        raise PackageError(f"cannot write {temporary / WEIGHTS}: {error}") from None
    (temporary / CONFIG).write_text(_json(packaged.config), encoding="utf-8")
    metadata = {
        "format_version": FORMAT_VERSION,
        "task": task,
        "skipway_version": installed("skipway"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": {name: file_digest(temporary / name) for name in (CONFIG, WEIGHTS)},
        **packaged.metadata,
    }
    (temporary / METADATA).write_text(_json(metadata), encoding="utf-8")
    for path in temporary.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    _swap(temporary, folder)
    return folder


def add_metadata(package: Package, entries: dict[str, Any]) -> Package:
    """Adds to the metadata what is known only once the package is read back, such as its scores.

    The digests are of configuration and weights, which stay as they are.

    Args:
        package: The package.
        entries: New entries; one of the same name is replaced.
    """
    taken = RESERVED & entries.keys()
    assert not taken, f"metadata keys {sorted(taken)} are reserved"
    metadata = finite({**package.metadata, **entries})
    write_atomic(package.folder / METADATA, _json(metadata))
    return replace(package, metadata=metadata)


def _swap(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    # A folder cannot be replaced in one step; a kill between these two leaves the old one under this name.
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    folder.rename(aside)
    temporary.rename(folder)
    shutil.rmtree(aside)


def file_digest(path: Path) -> str:
    """Returns the hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(content: dict[str, Any]) -> str:
    return json.dumps(finite(content), indent=2, allow_nan=False) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = load_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackageError(f"{path.parent} is not a model package: {path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise PackageError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise PackageError(f"{path} cannot be read: expected an object, got {type(content).__name__}")
    return content


def load_package(folder: Path) -> Package:
    """Reads and checks a package; the weights are read by :meth:`Package.tensors`.

    Raises:
        PackageError: a file is missing, damaged or not the one that was saved, the format is newer than this
            version knows, or a pickle lies in the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PackageError(f"there is no model package at {folder}")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise PackageError(
                f"{path} may be a pickle, which runs code when it is loaded: a package holds none; delete it "
                "if you trust the rest"
            )
    metadata = _read_json(folder / METADATA)
    version, task, digests = metadata.get("format_version"), metadata.get("task"), metadata.get("sha256")
    if (
        not isinstance(version, int)
        or version < 1
        or not isinstance(task, str)
        or not isinstance(digests, dict)
    ):
        raise PackageError(f"{folder / METADATA} lacks format_version, task or sha256")
    if version > FORMAT_VERSION:
        raise PackageError(
            f"{folder} has package format {version}, this skipway reads up to {FORMAT_VERSION}: "
            f"install skipway {metadata.get('skipway_version', 'of a later version')}"
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise PackageError(f"{folder} is not a model package: {name} is missing")
        if file_digest(folder / name) != digests.get(name):
            raise PackageError(
                f"{folder / name} is damaged or was changed: its SHA-256 is not the one in {METADATA}; "
                "copy the package again"
            )
    return Package(folder, task, _read_json(folder / CONFIG), metadata)
