"""The pictures of a test can be drawn, whatever is in it."""

import numpy as np
import pytest
from scored_sets import SIZE, data_of, draw_set, found_rows, image_set, no_images, scoring_of

from core.task import Evaluation
from tasks.detection.figures import draw_all, palette, worst_images
from tasks.detection.rle import encode
from tasks.detection.scoring import score


def evaluated(data, answers, masks=False) -> Evaluation:
    iterator = iter(answers)
    return score(
        lambda images: [next(iterator) for _ in images], data, scoring_of().scoring, "testing", masks
    )


@pytest.fixture
def data(tmp_path):
    return data_of(no_images(), draw_set(tmp_path / "test", 6, seed=0))


def mediocre(data):
    """Finds the first object of each image, and something where there is nothing."""
    answers = []
    for i in range(len(data.test)):
        targets = data.test.targets(i)
        right = [*targets.boxes[0], targets.labels[0], 0.9]
        answers.append(found_rows([right, [150, 120, 199, 159, 1, 0.6]]))
    return answers


def drawn(data, results, tmp_path):
    names = []
    for name, figure in draw_all(None, scoring_of(), data, results):
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
        names.append(name)
    return names


def test_all_pictures_are_drawn(data, tmp_path):
    results = {"model": evaluated(data, mediocre(data)), "prior": evaluated(data, mediocre(data))}
    names = drawn(data, results, tmp_path)
    assert names == ["samples", "worst_images", "precision_recall", "confidence", "confusion"]


def test_masks_are_drawn_over_the_prediction(data, tmp_path):
    mask = np.zeros(SIZE[::-1], bool)
    mask[10:50, 10:60] = True
    answers = [found_rows([[10, 10, 60, 50, 0, 0.9]], [encode(mask)])] * len(data.test)
    figures = dict(draw_all(None, scoring_of(), data, {"model": evaluated(data, answers)}))
    truth, prediction = figures["samples"].axes[:2]
    assert len(truth.images) == 1 and len(prediction.images) == 2
    shown = prediction.images[0].get_array()
    plain = prediction.images[1].get_array()
    changed = (shown != plain).any(-1)
    assert changed[20:40, 20:50].all() and not changed[60:].any()


def test_the_worst_images_come_first_and_faultless_ones_never(data):
    answers = []
    for i in range(len(data.test)):
        targets = data.test.targets(i)
        kept = max(0, 3 - i)  # image 0 is faultless, from image 3 on nothing is found
        rows = zip(targets.boxes[:kept], targets.labels[:kept], strict=True)
        answers.append(found_rows([[*box, label, 0.9] for box, label in rows]))
    assert worst_images(evaluated(data, answers)).tolist() == [3, 4, 5, 2, 1]


def test_a_missed_object_and_a_wrong_box_are_marked_where_they_are(data):
    figures = dict(draw_all(None, scoring_of(), data, {"model": evaluated(data, mediocre(data))}))
    panel = figures["worst_images"].axes[0]
    colours = [patch.get_edgecolor() for patch in panel.patches]
    assert len(panel.patches) == 1 + 2 + 1 and len(set(colours)) == 3  # right, missed, wrong
    assert panel.patches[-1].get_bbox().bounds == pytest.approx((149.5, 119.5, 49, 39))


def test_a_test_without_objects_or_without_detections_can_be_drawn(data, tmp_path):
    none = data_of(no_images(), image_set([[]] * 6, data.test.root))
    nothing = [found_rows([])] * 6
    assert drawn(none, {"model": evaluated(none, nothing)}, tmp_path) == ["samples", "confusion"]
    assert "confidence" not in drawn(data, {"model": evaluated(data, nothing)}, tmp_path)


def test_colours_of_many_classes_differ():
    assert len(set(palette(80))) == 80 and len(set(palette(10))) == 10
