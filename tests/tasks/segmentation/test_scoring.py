"""Scores of a segmenter whose answers are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from tasks.segmentation import scoring
from tasks.segmentation.checks import check_inference, check_scoring
from tasks.segmentation.config import SegScoringConfig
from tasks.segmentation.data.cases import Case, Fold, Geometry, Scan, SegmentationData, Voxels
from tasks.segmentation.labels import IGNORE, Labels, object_labels
from tasks.segmentation.scoring import score_segmenter
from tasks.segmentation.segmenter import Segmentation

SCAN = Scan("", (1, 1, 1), (1.0, 1.0, 1.0), 1.0, np.zeros((1, 0)), {})
TWO = Labels(("background", "head", "tail"), (0, 1, 2))
VESSEL = Labels(("background", "vessel"), (0, 255))


def data_of(truths, labels, *, folds=None, spacing=(1.0, 1.0, 1.0), masks=None, channels=1):
    """Cases of given labels, whose images are zeros."""
    content = {}
    for i, truth in enumerate(truths):
        geometry = Geometry(truth.shape, spacing, ".nii.gz")
        numbers = truth.astype(np.int32) if labels.instances else None
        classes = (truth > 0).astype(np.int16) if labels.instances else truth.astype(np.int16)
        image = np.zeros((channels, *truth.shape), np.float32)
        content[f"case_{i}"] = Voxels(image, classes, masks and masks[i], numbers, geometry)
    fov = Path("fov.png") if masks else None
    cases = [Case(name, (), None, fov, voxels.geometry, SCAN) for name, voxels in content.items()]
    folds = folds or [Fold("model", (), (), tuple(range(len(cases))))]
    return SegmentationData("x", cases, folds, labels, ["MRI"] * channels, lambda case: content[case.name])


class Fake:
    """Answers what it is told to, and notes what it is asked."""

    def __init__(self, labels, answers, networks=("model",), channels=1, learned_from=None):
        self.labels, self.answers, self.channels = labels, answers, ["MRI"] * channels
        self.networks, self.learned_from, self.asked = networks, learned_from or {}, []
        self.step, self.mirror, self.batch, self.mirrors = 0.5, "auto", 2, False

    def unseen(self, name):
        return [network for network in self.networks if name not in self.learned_from.get(network, [])]

    def knows(self, name):
        return not self.unseen(name)

    def segment(self, voxels, name, folds=None, progress=None, keep_probabilities=False):
        self.asked.append((name, folds, keep_probabilities))
        answer = self.answers[name]
        if isinstance(answer, Segmentation):
            return answer
        return Segmentation(answer.astype(np.int16))


def answers_of(arrays):
    return {f"case_{i}": array for i, array in enumerate(arrays)}


def scored(fake, data, **options):
    return score_segmenter(fake, SimpleNamespace(scoring=SegScoringConfig(**options)), data)


def box(shape, *parts):
    """A label map of boxes: label and slices."""
    array = np.zeros(shape, np.int16)
    for label, *slices in parts:
        array[tuple(slice(*each) for each in slices)] = label
    return array


SHAPE = (6, 12, 12)
FIRST = box(SHAPE, (1, (0, 4), (0, 6), (0, 6)), (2, (0, 4), (6, 12), (0, 6)))
HALF = box(SHAPE, (1, (0, 4), (0, 6), (0, 3)), (2, (0, 4), (6, 12), (0, 6)))


def test_rows_and_means_by_hand():
    only_head = box(SHAPE, (1, (0, 4), (0, 6), (0, 6)))
    data = data_of([FIRST, only_head], TWO, spacing=(2.0, 1.0, 1.0))
    fake = Fake(TWO, answers_of([HALF, only_head]))
    result = scored(fake, data)
    rows = result.rows.set_index(["case", "class"])
    assert rows.loc[("case_0", "head"), "dice"] == pytest.approx(2 * 72 / (72 + 144))
    assert rows.loc[("case_0", "head"), "iou"] == pytest.approx(0.5)
    assert rows.loc[("case_0", "head"), "hd95"] == pytest.approx(3.0)
    assert rows.loc[("case_0", "head"), ["voxels_truth", "voxels_predicted"]].tolist() == [144, 72]
    assert rows.loc[("case_0", "tail"), "dice"] == 1 and rows.loc[("case_0", "tail"), "surface_dice"] == 1
    # The second case has no tail, and none was found: that is no score of 0, nor of 1.
    assert np.isnan(rows.loc[("case_1", "tail"), "dice"])
    head = np.mean([2 / 3, 1])
    assert result.metrics["head/dice"] == pytest.approx(head)
    assert result.metrics["tail/dice"] == 1
    assert result.metrics["dice"] == pytest.approx((head + 1) / 2)
    assert "auc" not in result.metrics and "f1" not in result.metrics
    assert any("tail: 1 of 2 cases have none" in note for note in result.notes)
    assert fake.asked == [("case_0", ["model"], False), ("case_1", ["model"], False)]


def test_a_class_that_is_missed_has_dice_0_and_no_distance():
    empty = np.zeros(SHAPE, np.int16)
    data = data_of([FIRST, FIRST], TWO)
    result = scored(Fake(TWO, answers_of([empty, FIRST])), data)
    assert result.metrics["head/dice"] == 0.5 and result.metrics["head/hd95"] == 0
    assert any("head: in 1 of 2 cases only" in note and "infinite" in note for note in result.notes)
    assert result.rows["dice"].tolist() == [0, 0, 1, 1]


def test_what_does_not_count_is_left_out():
    truth = box((1, 10, 10), (1, (0, 1), (0, 5), (0, 10)), (IGNORE, (0, 1), (0, 1), (0, 10)))
    mask = np.ones((1, 10, 10), bool)
    mask[0, :, 5:] = False
    found = box((1, 10, 10), (1, (0, 1), (0, 1), (0, 10)), (1, (0, 1), (1, 3), (0, 5)))
    result = scored(Fake(VESSEL, answers_of([found])), data_of([truth], VESSEL, masks=[mask]))
    row = result.rows.iloc[0]
    assert (row.voxels_truth, row.voxels_predicted) == (20, 10) and row.dice == pytest.approx(2 / 3)
    assert result.metrics["ac"] == pytest.approx(35 / 45)
    assert any(note.endswith("over all pixels inside the field of view") for note in result.notes)


@pytest.mark.parametrize("outputs", [1, 2])
def test_one_class_is_pooled_over_cases(outputs):
    """F1 over all voxels is not the mean of the cases, and AUC asks the probabilities of the class."""
    truths = [box((1, 8, 8), (1, (0, 1), (0, 4), (0, 8))), box((1, 8, 8), (1, (0, 1), (0, 1), (0, 1)))]
    found = [truths[0], box((1, 8, 8), (1, (0, 1), (0, 1), (0, 4)))]
    answers = []
    for each in found:
        vessel = np.where(each > 0, 0.9, 0.2).astype(np.float32)[None]
        probabilities = vessel if outputs == 1 else np.concatenate([1 - vessel, vessel])
        answers.append(Segmentation(each, None, probabilities))
    fake = Fake(VESSEL.binary() if outputs == 1 else VESSEL, answers_of(answers))
    result = scored(fake, data_of(truths, VESSEL))
    tp, fp, tn = 33, 3, 128 - 36
    assert result.metrics["f1"] == pytest.approx(2 * tp / (2 * tp + fp))
    assert result.metrics["jaccard"] == pytest.approx(tp / (tp + fp))
    assert result.metrics["se"] == 1 and result.metrics["sp"] == pytest.approx(tn / (tn + fp))
    assert result.metrics["ac"] == pytest.approx((tp + tn) / 128)
    assert result.metrics["auc"] == pytest.approx(1 - fp / (fp + tn) / 2)
    assert result.metrics["dice"] == pytest.approx((1 + 2 / 5) / 2)
    assert not any("/" in name for name in result.metrics), "there is one target: its Dice is the Dice"
    shares = "F1 0.957, sensitivity 1.000, specificity 0.968, accuracy 0.977, AUC 0.984, Jaccard 0.917"
    assert f"{shares} over all pixels" in result.notes
    assert fake.asked[0][2], "probabilities are asked for"


def test_of_very_many_voxels_some_make_the_curve(monkeypatch):
    rng = np.random.default_rng(0)
    truth = (rng.random((1, 40, 40)) < 0.3).astype(np.int16)
    answer = Segmentation(truth, None, rng.normal(truth, 1).astype(np.float32)[None])
    every = scored(Fake(VESSEL, answers_of([answer])), data_of([truth], VESSEL)).metrics
    monkeypatch.setattr(scoring, "VOXELS", 800)
    some = scored(Fake(VESSEL, answers_of([answer])), data_of([truth], VESSEL)).metrics
    assert some["auc"] != every["auc"] and some["auc"] == pytest.approx(every["auc"], abs=0.05)
    assert some["f1"] == every["f1"]


def test_objects():
    labels = object_labels()
    truth = box((1, 12, 12), (1, (0, 1), (0, 5), (0, 5)), (2, (0, 1), (0, 5), (6, 11)))
    found = box((1, 12, 12), (5, (0, 1), (0, 5), (0, 5)))
    answer = Segmentation((found > 0).astype(np.int16), found.astype(np.int32))
    result = scored(Fake(labels, answers_of([answer])), data_of([truth], labels))
    assert result.rows["class"].tolist() == ["object"], "cores only serve to tell objects apart"
    row = result.rows.iloc[0]
    assert (row.objects_truth, row.objects_predicted) == (2, 1)
    assert row.instance_f1 == result.metrics["instance_f1"] == pytest.approx(2 / 3)
    assert result.metrics["instance_ap"] == pytest.approx(1 / 2)
    assert "objects at IoU 0.5: F1 0.667; AP 0.500 over IoU 0.5 to 0.95" in result.notes
    assert result.metrics["dice"] == pytest.approx(2 / 3)


def test_regions_may_overlap():
    regions = Labels(
        ("background", "edema", "core"), (0, 1, 2), None, (("whole", (1, 2)), ("core", (2,))), (1, 2)
    )
    truth = box(SHAPE, (1, (0, 4), (0, 6), (0, 6)), (2, (0, 4), (0, 3), (0, 6)))
    found = box(SHAPE, (1, (0, 4), (0, 6), (0, 6)))
    metrics = scored(Fake(regions, answers_of([found])), data_of([truth], regions)).metrics
    assert metrics["whole/dice"] == 1 and metrics["core/dice"] == 0 and metrics["dice"] == 0.5


def test_each_case_is_segmented_by_the_networks_that_did_not_learn_from_it():
    folds = [Fold("fold_0", (1,), (0,), (0,)), Fold("fold_1", (0,), (1,), (1,))]
    data = data_of([FIRST, FIRST], TWO, folds=folds)
    known = {"fold_0": ["case_1"], "fold_1": ["case_0"]}
    fake = Fake(TWO, answers_of([HALF, FIRST]), ("fold_0", "fold_1"), learned_from=known)
    result = scored(fake, data)
    assert [(name, asked) for name, asked, _ in fake.asked] == [
        ("case_0", ["fold_0"]),
        ("case_1", ["fold_1"]),
    ]
    assert result.rows["fold"].tolist() == ["fold_0"] * 2 + ["fold_1"] * 2
    first = (2 / 3 + 1) / 2
    assert result.metrics["fold_0/dice"] == pytest.approx(first) and result.metrics["fold_1/dice"] == 1
    assert result.metrics["dice_std"] == pytest.approx((1 - first) / np.sqrt(2))
    assert not any("names of training cases" in note for note in result.notes)
    # Other data are segmented by all of them together, whatever their folds.
    other = Fake(TWO, answers_of([HALF, FIRST]), ("fold_0", "fold_1"), learned_from={"fold_0": ["case_9"]})
    scored(other, data)
    assert [asked for _, asked, _ in other.asked] == [["fold_0", "fold_1"]] * 2


def test_test_cases_that_every_network_learned_from_are_said():
    fake = Fake(TWO, answers_of([FIRST, FIRST]), learned_from={"model": ["case_1"]})
    result = scored(fake, data_of([FIRST, FIRST], TWO))
    assert "1 test cases have names of training cases, such as case_1" in result.notes
    assert fake.asked[1][1] is None, "all of them are asked"


def test_worst_cases_are_kept_and_the_best_one():
    shares = [6, 1, 4, 2, 5, 3]
    found = [box(SHAPE, (1, (0, 4), (0, 6), (0, n)), (2, (0, 4), (6, 12), (0, 6))) for n in shares]
    empty = np.zeros(SHAPE, np.int16)
    result = scored(Fake(TWO, answers_of([*found, empty])), data_of([FIRST] * 6 + [empty], TWO))
    assert [shown.case.name for shown in result.outputs.worst] == ["case_1", "case_3", "case_5"]
    assert result.outputs.best.case.name == "case_0"
    np.testing.assert_array_equal(result.outputs.worst[0].labels, found[1])
    assert result.outputs.worst[0].labels.dtype == np.uint8
    few = scored(Fake(TWO, answers_of([HALF])), data_of([FIRST], TWO)).outputs
    assert len(few.worst) == 1 and few.best is None


def test_options_reach_the_segmenter_and_mirroring_is_said():
    fake = Fake(TWO, answers_of([FIRST]))
    result = scored(fake, data_of([FIRST], TWO), step=0.25, mirror="no", batch=7)
    assert (fake.step, fake.mirror, fake.batch) == (0.25, "no", 7)
    assert any("without mirrored images (--scoring.mirror no)" in note for note in result.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step": 0.0}, "--scoring.step 0.0 "),
        ({"step": 1.5}, "--scoring.step 1.5 "),
        ({"batch": 0}, "--scoring.batch 0 "),
    ],
)
def test_steps_and_batches_that_no_inference_can_use(options, words):
    with pytest.raises(ConfigError, match=words):
        check_scoring(SegScoringConfig(**options))
    with pytest.raises(ConfigError, match=words.replace("scoring.", "")):
        check_inference(SegScoringConfig(**options), "")
    fake = Fake(TWO, answers_of([FIRST]))
    with pytest.raises(ConfigError, match=words):
        scored(fake, data_of([FIRST], TWO), **options)
    assert not fake.asked


def test_data_that_mean_something_else_are_refused():
    with pytest.raises(DataError, match="2 channel"):
        scored(Fake(TWO, {}), data_of([FIRST], TWO, channels=2))
    with pytest.raises(DataError, match=r"3 classes .*knows 2 classes"):
        scored(Fake(VESSEL, {}), data_of([FIRST], TWO))
    with pytest.raises(DataError, match="numbers of objects"):
        scored(Fake(TWO, {}), data_of([FIRST], object_labels()))


@pytest.mark.parametrize(
    "options", [{"tolerance": -0.1}, {"tolerance": float("nan")}, {"iou": 0.0}, {"iou": 1.1}]
)
def test_scores_that_mean_nothing(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"--scoring.{name} {value} must"):
        check_scoring(SegScoringConfig(**options))
    check_scoring(SegScoringConfig(tolerance=0.0, iou=1.0))


def test_wrong_options_are_told_before_the_data_are_read(monkeypatch):
    from tasks.segmentation.data import load
    from tasks.segmentation.task import TASK

    monkeypatch.setattr(load, "load_data", lambda config: pytest.fail("read"))
    with pytest.raises(ConfigError, match=r"--scoring\.iou 2"):
        TASK.load(SimpleNamespace(data=None, scoring=SegScoringConfig(iou=2)))


def named(*names):
    return Labels(("background", *names), tuple(range(len(names) + 1)))


def test_other_names_are_matched_in_order_and_said():
    fake, data = Fake(TWO, answers_of([FIRST])), data_of([FIRST], named("label 1", "label 2"))
    fake.channels = ["T1"]
    notes = scored(fake, data).notes
    assert "classes are matched in order: head = label 1, tail = label 2" in notes
    assert "channels are matched in order: T1 = MRI" in notes
    same = scored(Fake(TWO, answers_of([FIRST])), data_of([FIRST], TWO)).notes
    assert not any("in order" in note for note in same)


@pytest.mark.parametrize("names", [("tail", "head"), ("tail", "body")])
def test_names_at_another_place_are_refused(names):
    fake = Fake(TWO, answers_of([FIRST]))
    with pytest.raises(
        DataError, match=rf"the classes are {', '.join(names)}, but the model's are head, tail"
    ):
        scored(fake, data_of([FIRST], named(*names)))
    fake, data = Fake(TWO, answers_of([FIRST]), channels=2), data_of([FIRST], TWO, channels=2)
    fake.channels, data.channels = ["T1", "T2"], ["T2", "T1"]
    with pytest.raises(DataError, match=r"the channels are T2, T1, .* order them with --data.channels"):
        scored(fake, data)
    assert not fake.asked


def test_channels_of_equal_names_are_at_no_other_place():
    fake, data = Fake(TWO, answers_of([FIRST]), channels=2), data_of([FIRST], TWO, channels=2)
    fake.channels = ["MRI", "CT"]
    assert "channels are matched in order: MRI = MRI, CT = MRI" in scored(fake, data).notes
