"""The coarser model of a cascade: which data it fits, and what it learned from, also inside another package."""

import dataclasses
from types import SimpleNamespace

import base_plan
import pytest
from torch import nn

from core.errors import ConfigError
from tasks.segmentation import build
from tasks.segmentation.cascade import check_same_data
from tasks.segmentation.data.cases import Fold
from tasks.segmentation.labels import Labels
from tasks.segmentation.prepare import Previous

LABELS = Labels(("background", "head"), (0, 1))
PACKAGE = SimpleNamespace(folder="runs/low", config={"channels": ["MRI"]})
PLAN = dataclasses.replace(base_plan.PLAN, configuration="3d_lowres", normalisation=("none",))


def previous(*known):
    """A coarser model whose networks all learned from some cases."""
    return Previous(SimpleNamespace(labels=LABELS, knows=known.__contains__), "")


def data(channels=("MRI",), labels=LABELS, validation=(1,)):
    names = ("a", "b", "c")
    return SimpleNamespace(
        cases=[SimpleNamespace(name=name) for name in names],
        training=[SimpleNamespace(name="a")],
        folds=[Fold("model", (0,), validation, (2,))],
        channels=list(channels),
        labels=labels,
    )


@pytest.mark.parametrize("name", ["b", "c"])
def test_a_coarser_model_that_learned_from_a_test_case(name):
    with pytest.raises(ConfigError, match=f"--plan.previous runs/low learned from {name}, which is tested"):
        check_same_data(previous("a", name), PACKAGE, data())


def test_what_is_said_of_a_coarser_model():
    assert "that did not learn from it" in check_same_data(previous(), PACKAGE, data())
    assert "train the 3d_lowres model with --data.folds 5" in check_same_data(previous("a"), PACKAGE, data())


def test_a_coarser_model_of_other_data():
    for other in (data(channels=["CT"]), data(labels=Labels(("background", "tail"), (0, 1)))):
        with pytest.raises(ConfigError, match="finds head in MRI; this data has"):
            check_same_data(previous(), PACKAGE, other)


def test_parts_of_a_package_know_what_they_learned_from(monkeypatch):
    """Not what the finer model, or the first member of an ensemble, learned from."""

    def networks(package, settings, prefix):
        return {fold: nn.Conv3d(1, 2, 1) for fold in settings["folds"]}

    monkeypatch.setattr(build, "load_networks", networks)

    def package(folds, learned_from, **config):
        settings = {"labels": LABELS.to_dict(), "channels": ["MRI"], "plan": PLAN.to_dict(), "folds": folds}
        more = {"postprocessing": None, "previous": None, "members": [], **config}
        return SimpleNamespace(config={**settings, **more}, metadata={"learned_from": learned_from})

    coarse = package(["fold_0", "fold_1"], {"fold_0": ["b"], "fold_1": ["a"]})
    fine = package(["model"], {"model": ["a"]}, previous=build.as_part(coarse))
    loaded = build.load_segmenter(fine)
    assert loaded.knows("a") and not loaded.knows("b")
    assert loaded.previous.unseen("a") == ["fold_0"] and loaded.previous.unseen("b") == ["fold_1"]
    simple = package(["model"], {"model": ["c"]})
    both = package(["model"], {"model": ["c"]}, members=[build.as_part(simple), build.as_part(fine)])
    first, second = build.load_segmenter(both).members
    assert first.knows("c") and not first.knows("a") and second.knows("a") and not second.knows("c")
    assert second.previous.unseen("a") == ["fold_0"]
