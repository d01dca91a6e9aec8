"""Choosing the best of cross-validated models and pairs: by hand-made probabilities, to a package on disk."""

import hashlib
import json
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.task import Packaged
from core.track.package import load_package, save_package
from tasks.segmentation import best, candidates
from tasks.segmentation.config import DataConfig
from tasks.segmentation.data.cases import Case, Fold, Geometry, Scan, SegmentationData, Voxels
from tasks.segmentation.labels import IGNORE, Labels, object_labels
from tasks.segmentation.postprocess import Postprocessing

TWO = Labels(("background", "head", "tail"), (0, 1, 2))
ONE = Labels(("background", "vessel"), (0, 255))
SHAPE = (1, 4, 4)


def case_of(name):
    digest = hashlib.sha256(name.encode()).hexdigest()
    geometry = Geometry(SHAPE, (999.0, 1.0, 1.0), ".png")
    return Case(
        name, (), None, None, geometry, Scan(digest, SHAPE, geometry.spacing, 1.0, np.zeros((1, 0)), {})
    )


def data_of(truths, labels=TWO, masks=None, test=()):
    """Two folds; the first validates on the even positions. A test set of its own is behind the other cases."""
    cases = [case_of(f"case_{i}") for i in range(len(truths))]

    def read(case):
        i = cases.index(case)
        mask = masks[i] if masks else None
        return Voxels(np.zeros((1, *SHAPE), np.float32), truths[i], mask, None, case.geometry)

    pool = tuple(range(len(truths) - len(test)))
    folds = [Fold(f"fold_{k}", pool[1 - k :: 2], pool[k::2], tuple(test) or pool[k::2]) for k in range(2)]
    return SegmentationData("made", cases, folds, labels, ["MRI"], read)


@dataclass
class FakeSegmenter:
    """Says for each case what it was told to; remembers which folds' networks were asked."""

    configuration: str
    answers: dict
    labels: Labels = TWO
    asked: list = field(default_factory=list)
    step: float = 0.0
    mirror: str = ""
    batch: int = 0

    @property
    def plan(self):
        return SimpleNamespace(configuration=self.configuration)

    def segment(self, voxels, name, folds=None, progress=None, keep_probabilities=False):
        assert keep_probabilities
        self.asked.append((name, folds))
        return SimpleNamespace(labels=None, objects=None, probabilities=self.answers[name])


def probabilities_of(classes, sure=0.9, count=3):
    """Softmax outputs ``(count, Z, Y, X)`` that give ``sure`` to the class of each voxel."""
    rest = (1 - sure) / (count - 1)
    return np.stack([np.where(classes == c, sure, rest) for c in range(count)]).astype(np.float32)


def truth_of(rng):
    return rng.integers(0, 3, SHAPE).astype(np.int16)


def wrong(classes, voxels):
    """Another class at the first ``voxels`` voxels."""
    changed = classes.copy()
    flat = changed.reshape(-1)
    flat[:voxels] = (flat[:voxels] + 1) % 3
    return changed


def fakes(truths, errors, configurations, sure=None):
    return [
        FakeSegmenter(
            configuration,
            {
                f"case_{i}": probabilities_of(wrong(truth, error), (sure or {}).get(configuration, 0.9))
                for i, truth in enumerate(truths)
            },
        )
        for configuration, error in zip(configurations, errors, strict=True)
    ]


def mean_dice(truths, predictions):
    """nnU-Net's mean: over the cases that have a value, then over the classes."""
    values = []
    for c in (1, 2):
        scores = []
        for truth, predicted in zip(truths, predictions, strict=True):
            size = np.sum(truth == c) + np.sum(predicted == c)
            scores.append(2 * np.sum((truth == c) & (predicted == c)) / size if size else math.nan)
        values.append(np.nanmean(scores))
    return np.mean(values)


@pytest.fixture
def truths():
    rng = np.random.default_rng(0)
    return [truth_of(rng) for _ in range(4)]


def test_singles_and_pairs_from_the_simplest_on():
    names = ["a", "b", "c", "d"]
    configurations = ["3d_cascade_fullres", "3d_fullres", "2d", "3d_lowres"]
    made = candidates.candidates_of(configurations, names)
    assert [c.members for c in made[:4]] == [(2,), (3,), (1,), (0,)]
    assert [c.name for c in made[4:]] == [
        "2d + 3d_lowres",
        "2d + 3d_fullres",
        "2d + 3d_cascade_fullres",
        "3d_lowres + 3d_fullres",
        "3d_lowres + 3d_cascade_fullres",
        "3d_fullres + 3d_cascade_fullres",
    ]


def test_models_of_one_configuration_are_named_by_where_they_are():
    made = candidates.candidates_of(["2d", "2d"], ["runs/a", "runs/b"])
    assert [c.name for c in made] == ["2d (runs/a)", "2d (runs/b)", "2d (runs/a) + 2d (runs/b)"]


def test_the_dice_of_each_candidate(truths):
    segmenters = fakes(truths, [6, 2], ["2d", "3d_fullres"], {"2d": 0.5, "3d_fullres": 0.9})
    made = {c.name: c for c in candidates.compare(segmenters, ["a", "b"], data_of(truths))}
    assert list(made) == ["2d", "3d_fullres", "2d + 3d_fullres"]
    assert made["2d"].dice == pytest.approx(mean_dice(truths, [wrong(t, 6) for t in truths]))
    expected = mean_dice(truths, [wrong(t, 2) for t in truths])
    assert made["3d_fullres"].dice == pytest.approx(expected)
    # The surer one decides where they differ.
    assert made["2d + 3d_fullres"].dice == pytest.approx(expected)
    assert candidates.best_of(list(made.values())).name == "3d_fullres", "of equals the simpler one"


def test_each_case_is_segmented_by_the_network_that_has_not_seen_it(truths):
    segmenters = fakes(truths, [0, 0], ["2d", "3d_fullres"])
    candidates.compare(segmenters, ["a", "b"], data_of(truths))
    for segmenter in segmenters:
        assert sorted(segmenter.asked) == [
            ("case_0", ["fold_0"]),
            ("case_1", ["fold_1"]),
            ("case_2", ["fold_0"]),
            ("case_3", ["fold_1"]),
        ]


def test_a_test_set_of_its_own_does_not_choose(truths):
    data = data_of(truths, test=(3,))
    segmenters = fakes(truths, [0], ["2d"])
    (candidate,) = candidates.compare(segmenters, ["a"], data)
    asked = [("case_0", ["fold_0"]), ("case_2", ["fold_0"]), ("case_1", ["fold_1"])]
    assert segmenters[0].asked == asked
    truth = [truth for _, truth in candidates.held_out(candidate, data)]
    np.testing.assert_array_equal(truth, [truths[i] for i in (0, 2, 1)])


def test_a_pair_wins_whose_members_err_at_different_places(truths):
    # Each is wrong, and unsure, where the other is right and sure.
    first, second = fakes(truths, [0, 0], ["3d_fullres", "2d"])
    for name, truth in zip(first.answers, truths, strict=True):
        for segmenter, part in ((first, slice(0, 2)), (second, slice(2, 4))):
            mistaken = probabilities_of((truth + 1) % 3, 0.5)
            segmenter.answers[name] = segmenter.answers[name].copy()
            segmenter.answers[name][:, :, part] = mistaken[:, :, part]
    made = candidates.compare([first, second], ["a", "b"], data_of(truths))
    winner = candidates.best_of(made)
    assert winner.name == "2d + 3d_fullres" and winner.members == (1, 0)
    assert winner.dice == 1.0
    assert max(c.dice for c in made[:2]) < 0.7


def test_what_is_ignored_or_outside_the_field_of_view_counts_for_nothing():
    truth = np.zeros(SHAPE, np.int16)
    truth[0, :2] = 1
    ignored = truth.copy()
    ignored[0, 0] = IGNORE
    mask = np.ones(SHAPE, bool)
    mask[0, 0] = False
    predicted = truth.copy()
    predicted[0, 0] = 2  # a mistake in the row that does not count
    for seen, masks in ((ignored, None), (truth, [mask, mask])):
        segmenter = FakeSegmenter("2d", {f"case_{i}": probabilities_of(predicted) for i in range(2)})
        (candidate,) = candidates.compare([segmenter], ["a"], data_of([seen, seen], masks=masks))
        assert candidate.dice == 1.0
        assert math.isnan(candidate.targets[1]), "tail is nowhere"


def test_a_class_in_no_case_leaves_the_mean_alone_and_no_class_at_all_never_wins():
    made = candidates.Candidate("a", (0,), cases=[[0.5, math.nan], [0.7, math.nan], [math.nan, math.nan]])
    np.testing.assert_allclose(made.targets, [0.6, np.nan])
    assert made.dice == pytest.approx(0.6)
    nothing = candidates.Candidate("b", (1,), cases=[[math.nan, math.nan]])
    worst = candidates.Candidate("c", (2,), cases=[[0.0, 0.0]])
    assert candidates.best_of([nothing, worst]) is worst


def test_averaged_regions_are_cut_at_one_half():
    labels = Labels(
        ("background", "edema", "core"), (0, 1, 2), None, (("whole", (1, 2)), ("core", (2,))), (1, 2)
    )
    truth = np.array([0, 1, 2, 2] * 4, np.int16).reshape(SHAPE)
    # Alone the first misses the core, and the second the edema; their mean finds both.
    answers = [
        np.stack([np.where(truth > 0, 0.9, 0.2), np.where(truth > 1, 0.4, 0.1)]),
        np.stack([np.where(truth > 1, 0.9, 0.3), np.where(truth > 1, 0.9, 0.1)]),
    ]
    segmenters = [
        FakeSegmenter(f"{i + 2}d", {"case_0": a, "case_1": a}, labels) for i, a in enumerate(answers)
    ]
    segmenters[1].configuration = "3d_fullres"
    first, second, both = candidates.compare(segmenters, ["a", "b"], data_of([truth, truth], labels))
    np.testing.assert_allclose([first.targets, second.targets, both.targets], [[1, 0], [0.8, 1], [1, 1]])


def test_prediction_and_truth_of_the_held_out_cases(truths):
    masks = [np.ones(SHAPE, bool) for _ in truths]
    masks[2][0, 1, 1] = False
    data = data_of(truths, masks=masks)
    (candidate,) = candidates.compare(fakes(truths, [3], ["2d"]), ["a"], data)
    pairs = candidates.held_out(candidate, data)
    assert len(pairs) == 4
    for position, (predicted, truth) in zip((0, 2, 1, 3), pairs, strict=True):
        expected = truths[position].copy()
        expected[~masks[position]] = IGNORE
        np.testing.assert_array_equal(truth, expected)
        np.testing.assert_array_equal(predicted, wrong(truths[position], 3))
    assert len(zlib.decompress(candidate.predictions[0])) == 2 * 16


class FakeTask:
    """As :class:`core.task.Task` for what the command calls."""

    name = "segmentation"
    bundled = {}  # noqa: RUF012
    trained_for = ()

    def __init__(self, data, segmenters):
        self.data, self.segmenters, self.loaded = data, segmenters, None

    def load(self, config):
        self.loaded = config.data
        return self.data

    def predictor(self, package):
        return self.segmenters[Path(package.folder).name]


def write_package(folder, data, configuration, **changes):
    digest = changes.pop("digest", data.digest)
    config = {
        "objective": "segment",
        "labels": data.labels.to_dict(),
        "channels": data.channels,
        "plan": {"configuration": configuration},
        "model": {"name": "resenc_unet"},
        "folds": ["fold_0", "fold_1"],
        "postprocessing": None,
        "previous": None,
        "members": [],
        **changes,
    }
    stored = {"name": "made", "size": 4, "digest": digest, "config": {"path": "cells", "folds": 2}}
    tensors = {f"fold_{k}.weight": torch.full((2,), len(configuration) + k) for k in range(2)}
    metadata = {
        "data": stored,
        "options": {"scoring": {"step": 0.75, "mirror": "no"}},
        "classes": ["head"],
        "learned_from": {"fold_0": [configuration]},
    }
    return save_package(folder, Packaged(config, tensors, metadata), "segmentation")


@pytest.fixture
def models(tmp_path, truths):
    """A task and the packages of a bad 2d and a good 3d_fullres model."""
    data = data_of(truths)
    bad, good = fakes(truths, [6, 2], ["2d", "3d_fullres"])
    for name, segmenter in (("flat", bad), ("deep", good)):
        write_package(tmp_path / name, data, segmenter.configuration)
    return FakeTask(data, {"flat": bad, "deep": good})


def options(tmp_path, *names, **others):
    return best.BestConfig(
        models=[str(tmp_path / name) for name in names],
        output=str(tmp_path / "best"),
        tracking="none",
        **others,
    )


def test_the_winner_is_packaged_with_its_post_processing(models, tmp_path, capsys):
    assert best.run(models, options(tmp_path, "flat", "deep")) == 0
    package = load_package(tmp_path / "best")
    assert package.config["plan"] == {"configuration": "3d_fullres"}
    assert set(package.config["postprocessing"]) == {"all_foreground", "classes"}
    assert package.tensors()["fold_1.weight"].tolist() == [11, 11]
    selection = package.metadata["selection"]
    assert selection["models"] == [str(tmp_path / "deep")]
    assert list(selection["dice"]) == ["2d", "3d_fullres", "2d + 3d_fullres"]
    assert package.metadata["data"]["digest"] == models.data.digest
    printed = capsys.readouterr().out
    assert "3d_fullres *" in printed and "head" in printed and "tail" in printed


def test_data_and_scoring_are_those_of_the_training(models, tmp_path):
    best.run(models, options(tmp_path, "flat", "deep"))
    assert models.loaded.path == "cells" and models.loaded.folds == 2
    assert {(s.step, s.mirror) for s in models.segmenters.values()} == {(0.75, "no")}
    best.run(
        models,
        options(tmp_path, "flat", "deep", data=DataConfig(path="moved", folds=2), given=("data.path",)),
    )
    assert models.loaded.path == "moved"


def test_a_pair_becomes_an_ensemble_package(models, tmp_path, truths):
    for segmenter, rows in (
        (models.segmenters["flat"], slice(0, 2)),
        (models.segmenters["deep"], slice(2, 4)),
    ):
        for i, truth in enumerate(truths):
            segmenter.answers[f"case_{i}"] = probabilities_of(truth)
            segmenter.answers[f"case_{i}"][:, :, rows] = probabilities_of((truth + 1) % 3, 0.5)[:, :, rows]
    assert best.run(models, options(tmp_path, "deep", "flat")) == 0
    package = load_package(tmp_path / "best")
    assert [member["plan"]["configuration"] for member in package.config["members"]] == ["2d", "3d_fullres"]
    assert package.config["labels"] == json.loads(json.dumps(TWO.to_dict()))
    tensors = package.tensors()
    assert sorted(tensors) == [f"{i}.fold_{k}.weight" for i in range(2) for k in range(2)]
    assert tensors["0.fold_0.weight"].tolist() == [2, 2] and tensors["1.fold_0.weight"].tolist() == [10, 10]
    assert package.metadata["selection"]["dice"]["2d + 3d_fullres"] == 1.0
    # A member says itself what it learned from: the metadata are those of the first.
    assert [member["learned_from"] for member in package.config["members"]] == [
        {"fold_0": ["2d"]},
        {"fold_0": ["3d_fullres"]},
    ]


def test_objects_are_never_thinned_out(tmp_path):
    labels = object_labels()
    truth = np.zeros(SHAPE, np.int16)
    truth[0, 1:3] = 2
    data = data_of([truth, truth], labels)
    outputs = np.stack([truth > 0, truth > 1]).astype(np.float32)
    segmenter = FakeSegmenter("2d", {"case_0": outputs, "case_1": outputs}, labels)
    write_package(tmp_path / "flat", data, "2d")
    best.run(FakeTask(data, {"flat": segmenter}), options(tmp_path, "flat"))
    package = load_package(tmp_path / "best")
    assert package.config["postprocessing"] == {"all_foreground": False, "classes": []}
    assert package.metadata["selection"]["dice"] == {"2d": 1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folds": ["model"]}, "was trained without cross-validation"),
        (
            {"folds": ["fold_0", "fold_1", "fold_2"]},
            "was trained on other data, or on another split of them, than",
        ),
        ({"digest": "0" * 64}, "was trained on other data, or on another split of them, than"),
        ({"objective": "masked"}, "was pre-trained without labels and segments nothing"),
        ({"members": [{}, {}]}, "is no single segmentation model"),
    ],
)
def test_models_that_cannot_be_compared(models, tmp_path, changes, words):
    write_package(tmp_path / "other", models.data, "3d_lowres", **changes)
    with pytest.raises(ConfigError, match=words) as caught:
        best.run(models, options(tmp_path, "flat", "other"))
    assert "other" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "best").exists()


def test_what_lies_at_the_output_is_kept_unless_it_is_a_package(models, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="exists and is no model package; name a new folder"):
        best.run(models, options(tmp_path, "flat"))
    assert (tmp_path / "best" / "thesis.txt").exists()
    (tmp_path / "best" / "thesis.txt").unlink()
    for _ in range(2):  # into the empty folder, then over the package
        assert best.run(models, options(tmp_path, "flat")) == 0


def test_other_data_than_the_training(models, tmp_path, truths):
    models.data = data_of(truths[:2])
    with pytest.raises(ConfigError, match="is not what the models were trained on"):
        best.run(models, options(tmp_path, "flat", "deep"))


def test_outputs_of_another_meaning(models, tmp_path):
    models.segmenters["deep"].labels = ONE
    with pytest.raises(ConfigError, match="has other outputs than"):
        best.run(models, options(tmp_path, "flat", "deep"))


def test_no_models_is_one_line(capsys, monkeypatch):
    assert best.main([]) == ConfigError.exit_code
    assert capsys.readouterr().err == "error: give --models '[runs/a, runs/b]': the models to choose from\n"


def test_the_dice_after_post_processing_is_said(tmp_path, capsys):
    """A speck that is no part of the object goes, and the Dice of the result with it gone is told."""
    truth = np.zeros(SHAPE, np.int16)
    truth[0, :2, :2] = 1
    found = truth.copy()
    found[0, 3, 3] = 1
    data = data_of([truth, truth], ONE)
    answers = {f"case_{i}": probabilities_of(found, count=2) for i in range(2)}
    write_package(tmp_path / "flat", data, "2d")
    best.run(FakeTask(data, {"flat": FakeSegmenter("2d", answers, ONE)}), options(tmp_path, "flat"))
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith("2d, Dice 0.889, 1.000 after post-processing")  # 2 * 4 / 9, then no error
    answers = {f"case_{i}": probabilities_of(truth, count=2) for i in range(2)}
    best.run(FakeTask(data, {"flat": FakeSegmenter("2d", answers, ONE)}), options(tmp_path, "flat"))
    assert capsys.readouterr().out.splitlines()[-1].endswith("2d, Dice 1.000")


def test_what_does_not_count_is_no_error_after_post_processing():
    truth = np.zeros(SHAPE, np.int16)
    truth[0, :2] = 1
    found = truth.copy()
    truth[0, 0] = IGNORE
    assert candidates.dice_after(Postprocessing(), [(found, truth)], ONE) == 1.0
