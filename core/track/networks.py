"""Several networks in one package: the folds of a cross-validation, each under its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from core.track.package import Package

SINGLE = "model"
"""Name of the part of a training without folds."""


def named_tensors(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Returns the weights of all networks, with the fold's name in front where there are several."""
    several = len(networks) > 1
    return {
        f"{fold}.{name}" if several else name: tensor
        for fold, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def load_folds(
    package: Package, folds: Sequence[str], empty: Callable[[], nn.Module]
) -> dict[str, nn.Module]:
    """Returns the trained networks of a package, one a fold, in evaluation mode.

    Args:
        package: Has the tensors of :func:`named_tensors`.
        folds: Names of the folds; none for a package of one network, which is :data:`SINGLE`.
        empty: Builds a network that gets the weights.

    Raises:
        PackageError: Weights and configuration do not fit.
    """
    if not folds:
        return {SINGLE: package.load_into(empty())}
    return {name: package.load_into(empty(), f"{name}.") for name in folds}


def network_of(networks: Mapping[str, nn.Module], part: str) -> nn.Module:
    """Returns the network of a part of another training: that of the same fold, or else the first."""
    return networks.get(part, next(iter(networks.values())))
