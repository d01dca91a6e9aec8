"""Packages that hold the difference from a base: how they are made, and how their weights are found again.

``metadata.json`` of such a package names the ``base``: ``model``, its address in the registry or its folder;
``weights_sha256``, the digest of its weights; ``store``, the tracking store that held it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.compress.lowrank import LEFT, WHOLE, decode, encode
from core.errors import ConfigError, PackageError, SkipwayError
from core.task import Packaged
from core.track import store
from core.track.package import RESERVED, WEIGHTS, Package, load_package, save_package
from core.track.resolve import fetch, fetch_pinned, pin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Shrunk:
    """What became of a package.

    Attributes:
        packaged: Its content, for :func:`core.track.package.save_package`.
        task: Name of its task.
        registered: The base lies in a registry, so that the package can go there too.
        before: Bytes of the weights' values before.
        after: Bytes of what is stored instead.
        factored: Weights that are stored as factors.
        whole: Tensors that are stored as they are.
        difference: Largest absolute difference of a restored weight.
    """

    packaged: Packaged
    task: str
    registered: bool
    before: int
    after: int
    factored: int
    whole: int
    difference: float


def shrink(model: str, base: str, rank: int | None, energy: float | None, uri: str | None) -> Shrunk:
    """Stores a model as its difference from a base; see :func:`core.compress.lowrank.encode`.

    Args:
        model: Address or folder of the model.
        base: Address or folder of the model that it was fine-tuned from; an alias becomes its version.
        rank: Largest rank of a weight's difference.
        energy: Share of a difference's squared norm that is enough.
        uri: Tracking store of ``models:`` and ``runs:`` addresses.

    Raises:
        PackageError: A package is damaged, of another task, or the base is a difference itself.
        ConfigError: The two are not of one architecture, are equal, or nothing would be saved.
    """
    from core.compress.lowrank import tensor_bytes

    where = pin(base, uri)
    tuned, origin = load_package(fetch(model, uri)), load_package(fetch(where, uri))
    if tuned.task != origin.task:
        raise PackageError(f"{model} is a model of the task {tuned.task}, its base {base} of {origin.task}")
    if "base" in origin.metadata:
        raise PackageError(
            f"{base} is a difference itself; give its base, {origin.metadata['base']['model']}"
        )
    weights, start = tuned.tensors(), origin.tensors()
    delta = encode(start, weights, rank, energy)
    before, after = tensor_bytes(weights), tensor_bytes(delta)
    if not delta:
        raise ConfigError(f"{model} and {base} hold the same weights: there is nothing to store")
    if after >= before:
        raise ConfigError(
            f"the difference from {base} takes {after} bytes, the weights of {model} {before}: "
            "give a smaller --rank or --energy, or the base that it was fine-tuned from"
        )
    restored = decode(start, delta)
    largest = max(
        (_difference(restored[name], weight) for name, weight in weights.items() if weight.numel()),
        default=0.0,
    )
    registered = where.startswith(("models:", "runs:"))
    reference = {"model": where, "weights_sha256": origin.metadata["sha256"][WEIGHTS]}
    if registered and uri:
        reference["store"] = store.public_uri(uri)
    kept = {key: value for key, value in tuned.metadata.items() if key not in RESERVED}
    record = {
        "rank": rank,
        "energy": energy,
        "bytes_before": before,
        "bytes_after": after,
        "difference": largest,
    }
    packaged = Packaged(tuned.config, delta, {**kept, "base": reference, "lowrank": record})
    kinds = [sum(key.startswith(kind) for key in delta) for kind in (LEFT, WHOLE)]
    return Shrunk(packaged, tuned.task, registered, before, after, kinds[0], kinds[1], largest)


def _difference(one: Tensor, other: Tensor) -> float:
    return (one.double() - other.double()).abs().nan_to_num().max().item()


def restore(folder: Path, delta: dict[str, Tensor], base: Any) -> dict[str, Tensor]:
    """Returns the weights of a package that holds a difference.

    A base in a registry is looked for in the store that this process works with (``--tracking``,
    ``MLFLOW_TRACKING_URI`` or MLflow's own setting), then in the store that the package names. The digest
    decides whether what is found is the base.

    Args:
        folder: The package, for messages.
        delta: Its tensors.
        base: Entry ``base`` of its metadata.

    Raises:
        PackageError: The base is gone or holds other weights.
    """
    if not isinstance(base, dict) or not {"model", "weights_sha256"} <= base.keys():
        raise PackageError(f"{folder / 'metadata.json'}: `base` lacks model or weights_sha256")
    where, digest = str(base["model"]), str(base["weights_sha256"])
    why = "no tracking store is set"
    for uri in _stores(base.get("store")) if where.startswith(("models:", "runs:")) else [None]:
        try:
            with _restored_store():
                package = load_package(fetch_pinned(where, uri))
                found = package.metadata["sha256"][WEIGHTS]
                if found == digest:
                    return decode(package.tensors(), delta)
            why = f"it holds other weights now, SHA-256 {found[:12]} and not {digest[:12]}"
        except SkipwayError as error:
            why = str(error)
    raise PackageError(
        f"{folder} holds only the difference from {where}, which is not there as it was ({why}); "
        "bring that model back, or set MLFLOW_TRACKING_URI to the store that has it"
    )


def _stores(recorded: str | None) -> list[str | None]:
    """Returns the stores where a registered base may lie: the one in use, then the one of the record."""
    used = store.resolve_uri(store.current() if "mlflow" in sys.modules else None)
    return list(dict.fromkeys(uri for uri in (used, recorded) if uri)) or [None]


@contextmanager
def _restored_store() -> Iterator[None]:
    """Sets the process's store back to what it was: loading a model must not move the caller to another."""
    if "mlflow" not in sys.modules:
        yield
        return
    import mlflow

    tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    inherited = os.environ.get("MLFLOW_REGISTRY_URI")
    try:
        yield
    finally:
        mlflow.set_tracking_uri(tracking)
        # An empty address follows the tracking store, as it did before.
        mlflow.set_registry_uri(registry if registry != tracking else "")
        if inherited is None:
            os.environ.pop("MLFLOW_REGISTRY_URI", None)
        else:
            os.environ["MLFLOW_REGISTRY_URI"] = inherited


def save(shrunk: Shrunk, folder: Path) -> Package:
    """Writes the package and reads it back, base included."""
    package = load_package(save_package(folder, shrunk.packaged, shrunk.task))
    package.tensors()
    return package
