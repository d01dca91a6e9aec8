"""Scores of a detector that is known: metrics, rows, and classes by their names."""

import json

import numpy as np
import pytest
from scored_sets import SIZE, data_of, draw_set, found_rows, image_set, no_images, scoring_of
from torch import nn

from core.errors import DataError
from tasks.detection import scoring
from tasks.detection.matching import match
from tasks.detection.rle import encode
from tasks.detection.scoring import f1_curve, image_rows, score_detector, validation_score


class Oracle:
    """A detector that knows the answers, image by image, in the order in which they are asked for."""

    masks = False

    def __init__(self, answers, classes):
        self.answers, self.classes, self.options = iter(answers), classes, None

    def detect(self, images, **options):
        self.options = options
        return [next(self.answers) for _ in images]


def truth_of(images, score=0.9, rename=(0, 1)):
    return [
        found_rows([[*box, rename[label], score] for box, label in zip(t.boxes, t.labels, strict=True)])
        for t in (images.targets(i) for i in range(len(images)))
    ]


@pytest.fixture
def data(tmp_path):
    return data_of(no_images(), draw_set(tmp_path / "test", 5, seed=0))


def test_a_perfect_detector_has_the_highest_scores(data):
    config = scoring_of(batch=2)
    detector = Oracle(truth_of(data.test), data.classes)
    result = score_detector(detector, config, data)
    for name in ("map", "map50", "disc/map", "box/map50", "precision", "recall", "f1", "map_low"):
        assert result.metrics[name] == pytest.approx(1)
    assert detector.options["multi_label"] and detector.options["score"] == 0.001
    assert result.rows["image"].tolist() == [f"{i}.png" for i in range(5)]
    assert (result.rows["f1"] == 1).all() and (result.rows["mean_iou"] == 1).all()
    assert "map_large" not in result.metrics  # no object is that large
    assert any("no baselines" in note for note in result.notes)
    json.dumps(result.metrics, allow_nan=False)


def test_classes_are_matched_by_their_names(data):
    other = Oracle(truth_of(data.test, rename=(2, 0)), ["box", "cat", "disc"])
    assert score_detector(other, scoring_of(), data).metrics["map"] == pytest.approx(1)


def test_unknown_classes_are_missed_and_said_and_further_ones_left_out(data):
    detector = Oracle(truth_of(data.test, rename=(0, 1)), ["disc", "cat"])  # takes boxes for cats
    result = score_detector(detector, scoring_of(), data)
    assert result.metrics["disc/map"] == pytest.approx(1) and result.metrics["box/map"] == 0
    assert result.metrics["precision"] == 1 and result.metrics["recall"] < 1
    assert "classes that the model does not know, counted as missed: box" in result.notes
    assert "classes of the model that the data has not, left out: cat" in result.notes


def test_no_class_in_common_is_an_error_that_names_both(data):
    with pytest.raises(DataError, match=r"disc, box.*cat, dog"):
        score_detector(Oracle([], ["cat", "dog"]), scoring_of(), data)


def test_masks_are_scored_beside_boxes_where_the_data_has_outlines(data):
    rows = [[[10, 10, 60, 50, 0, 0]]] * 5
    mask = np.zeros(SIZE[::-1], bool)
    mask[10:50, 10:35] = True  # half of it, in a box that is right
    answers = [found_rows([[10, 10, 60, 50, 0, 0.9]], [encode(mask)])] * 5
    metrics = {}
    for outlines in (True, False):
        detector = Oracle(answers, data.classes)
        detector.masks = True
        test = image_set(rows, root=data.test.root, outlines=outlines)
        metrics[outlines] = score_detector(detector, scoring_of(), data_of(no_images(), test)).metrics
    assert metrics[True]["map"] == pytest.approx(1)
    assert metrics[True]["segm_map50"] == pytest.approx(1) and metrics[True]["segm_map"] == pytest.approx(0.1)
    assert "segm_map" not in metrics[False]


def test_a_test_set_without_objects_has_no_map_and_says_so(data):
    test = data.test
    empty = image_set([[]] * 5, root=test.root)
    config = scoring_of()
    result = score_detector(Oracle([found_rows([])] * 5, data.classes), config, data_of(no_images(), empty))
    assert np.isnan(result.metrics["map"]) and "no mAP" in result.notes[0]


def test_rows_count_right_missed_and_false_from_the_confidence_on():
    truth = image_set(
        [[[0, 0, 20, 20, 0, 0], [50, 0, 70, 20, 1, 0], [100, 50, 190, 150, 1, 1]], [], [[0, 0, 9, 9, 0, 0]]]
    )
    first = found_rows(
        [
            [0, 0, 20, 16, 0, 0.9],
            [50, 0, 70, 20, 0, 0.8],  # wrong class
            [110, 60, 130, 80, 1, 0.7],  # in the crowd
            [50, 0, 70, 20, 1, 0.1],  # below the confidence
        ]
    )
    rows = image_rows(truth, match(truth, [first, found_rows([]), found_rows([])], 2), 0.3)
    assert rows.iloc[0].tolist() == ["0.png", 2, 2, 1, 1, 1, pytest.approx(0.8), pytest.approx(0.5)]
    assert rows.iloc[1].tolist()[1:6] == [0, 0, 0, 0, 0] and np.isnan(rows["f1"][1])
    assert rows["f1"][2] == 0 and rows["missed"][2] == 1


def test_f1_over_the_score_rises_with_right_boxes_and_falls_with_wrong_ones():
    truth = image_set([[[0, 0, 20, 20, 0, 0], [50, 0, 70, 20, 0, 0]]])
    rows = [[0, 0, 20, 20, 0, 0.9], [100, 100, 120, 120, 0, 0.6], [50, 0, 70, 20, 0, 0.3]]
    scores, f1 = f1_curve(match(truth, [found_rows(rows)], 1))
    assert scores == pytest.approx([0.9, 0.6, 0.3]) and f1 == pytest.approx([2 / 3, 1 / 2, 4 / 5])


def test_validation_scores_the_network_and_leaves_its_mode(data, monkeypatch):
    class Stub(Oracle):
        def __init__(self, network, classes, category_ids, image_size, metadata):
            network.eval()
            assert image_size == 64
            super().__init__(truth_of(data.test), classes)

        def detect(self, images, **options):
            assert options["score"] == 0.001
            return super().detect(images, **options)

    monkeypatch.setattr(scoring, "Detector", Stub)
    network = nn.Conv2d(1, 1, 1).train()
    metrics = validation_score(network, images=data.test, classes=data.classes, size=64)
    assert metrics == {"map": pytest.approx(1), "map50": pytest.approx(1)} and network.training
