"""Which network of a cross-validation has not learned from a record, whatever the data's split is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.data.split import name_hash
from tasks.ecg.data.dataset import EcgData, content_of

Folds = Mapping[str, Mapping[str, Sequence[str]]]
"""For each network the marks of the records of its fold's ``test`` and ``validation``."""
LENGTH = 16
"""Letters of a mark."""


def marks(data: EcgData) -> list[tuple[str, str]]:
    """Returns what each record is known by: a hash of its signal, and one of its patient's name."""
    owners = {patient: name_hash(patient)[:LENGTH] for patient in set(data.patients)}
    contents = [content_of(signal).hex()[:LENGTH] for signal in data.signals]
    return [(content, owners[patient]) for content, patient in zip(contents, data.patients, strict=True)]


def folds_of(data: EcgData) -> dict[str, dict[str, list[str]]]:
    """Returns what a package keeps of the split, see :data:`Folds`."""
    known = marks(data)

    def of(records: Sequence[int]) -> list[str]:
        return sorted({mark for i in records for mark in known[i]})

    return {
        fold.name: {"test": of(fold.test.tolist()), "validation": of(fold.validation.tolist())}
        for fold in data.folds
    }


def own_networks(folds: Folds, data: EcgData) -> list[str | None]:
    """Returns the network that has learned neither from a record nor from others of its patient; None for new ones.

    Equal signals count more than equal names, which patients of two hospitals may have.
    """
    network = {mark: name for name, fold in folds.items() for mark in fold["test"]}
    return [network.get(content) or network.get(owner) for content, owner in marks(data)]


def same_folds(folds: Folds, data: EcgData) -> bool:
    """Whether each fold's network has learned from none of the fold's test and validation records."""
    known = {mark for fold in folds.values() for mark in fold["test"]}
    mark_of = [content if content in known else owner for content, owner in marks(data)]
    return all(
        fold.name in folds
        and {mark_of[i] for i in fold.test} <= {*folds[fold.name]["test"]}
        and {mark_of[i] for i in fold.validation} <= {*folds[fold.name]["validation"]}
        for fold in data.folds
    )


def network_notes(networks: Sequence[str | None]) -> list[str]:
    """Returns lines on records that are not scored as the training's were, from the network of each."""
    known = sum(network is not None for network in networks)
    if not known:
        return ["thresholds were chosen on the networks of the folds one by one; their mean is asked here"]
    return [
        f"{known} of {len(networks)} test records were in the training: each is scored by the network that has not"
        " learned from it, others by the mean of all",
        "thresholds are those of the package, which were chosen on part of the records of the training",
    ]
