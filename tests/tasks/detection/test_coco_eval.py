"""COCO's numbers, against pycocotools and by hand."""

import contextlib
import io

import numpy as np
import pytest
from scored_sets import SIZE, found_rows, image_set, random_case

from tasks.detection.coco_eval import evaluate_coco, with_size
from tasks.detection.rle import encode

CLASSES = ["a", "b", "c"]


def by_pycocotools(truth, found, kind):
    """The twelve numbers, and average precision of each class."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    rows, numbers = [], [3, 1, 9]  # anything that rises or falls
    for i in range(len(truth)):
        targets = truth.targets(i)
        for k, box in enumerate(with_size(targets.boxes).tolist()):
            row = {"id": len(rows) + 1, "image_id": int(truth.ids[i]), "bbox": box}
            row |= {"category_id": numbers[targets.labels[k]], "iscrowd": int(targets.crowd[k])}
            row |= {"area": float(targets.area[k])}
            if kind == "segm":
                row["segmentation"] = [ring.ravel().astype(float).tolist() for ring in targets.rings[k]]
            rows.append(row)
    answers = []
    for i, each in enumerate(found):
        for k, box in enumerate(with_size(each.boxes).tolist()):
            place = {"bbox": box} if kind == "bbox" else {"segmentation": each.masks[k]}
            row = {"image_id": int(truth.ids[i]), "category_id": numbers[each.labels[k]]}
            answers.append(row | {"score": float(each.scores[k])} | place)
    true = coco.COCO()
    sizes = [{"id": int(n), "width": SIZE[0], "height": SIZE[1]} for n in truth.ids]
    true.dataset = {
        "images": sizes,
        "annotations": rows,
        "categories": [{"id": n, "name": str(n)} for n in numbers],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        true.createIndex()
        evaluator = cocoeval.COCOeval(true, true.loadRes(answers), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    order = np.argsort(np.argsort(numbers))
    return evaluator.stats, evaluator.eval["precision"][:, :, order, 0, -1].mean((0, 1))


@pytest.mark.parametrize("seed", range(3))
def test_boxes_have_the_numbers_of_pycocotools(seed):
    truth, found = random_case(seed)
    result = evaluate_coco(truth, found, CLASSES)
    stats, ap = by_pycocotools(truth, found, "bbox")
    ours = np.nan_to_num(list(result.stats.values()), nan=-1)
    np.testing.assert_allclose(ours, stats, atol=1e-9)
    np.testing.assert_allclose(result.ap, ap, atol=1e-9)
    assert 0.05 < result.stats["map"] < 0.95


def test_masks_have_the_numbers_of_pycocotools():
    truth, found = random_case(4, crowds=False)
    boxes = [[[*box, label, 0] for box, label in zip(t.boxes, t.labels, strict=True)] for t in each_of(truth)]
    truth = image_set(boxes, outlines=True)
    masked = []
    for each in found:
        masks = []
        for left, top, right, bottom in each.boxes.round().astype(int):
            mask = np.zeros(SIZE[::-1], np.uint8)
            mask[max(top, 0) : bottom, max(left, 0) : right] = 1
            masks.append(encode(mask))
        rows = np.column_stack([each.boxes, each.labels, each.scores])
        masked.append(found_rows(rows, masks))
    result = evaluate_coco(truth, masked, CLASSES, "segm")
    stats, ap = by_pycocotools(truth, masked, "segm")
    ours = np.nan_to_num(list(result.stats.values()), nan=-1)
    np.testing.assert_allclose(ours, stats, atol=1e-9)
    np.testing.assert_allclose(result.ap, ap, atol=1e-9)
    assert 0.05 < result.stats["map"] < 0.95


def each_of(truth):
    return [truth.targets(i) for i in range(len(truth))]


def test_one_right_and_one_missed_object_have_half_the_recall():
    truth = image_set([[[10, 10, 60, 60, 0, 0], [100, 10, 150, 60, 0, 0]]])
    result = evaluate_coco(truth, [found_rows([[10, 10, 60, 60, 0, 0.9]])], ["a"])
    # Precision 1 at the 51 recalls from 0 to 0.5 of 101.
    assert result.stats["map"] == pytest.approx(51 / 101)
    assert result.stats["map50"] == result.ap50[0] == pytest.approx(51 / 101)
    assert result.stats["mar_100"] == pytest.approx(0.5)
    assert result.stats["map_medium"] == pytest.approx(51 / 101)
    assert np.isnan(result.stats["map_small"])
    assert result.scores[0, 50, 0] == pytest.approx(0.9) and result.scores[0, 51, 0] == 0


def test_classes_that_the_truth_has_not_are_in_no_mean():
    truth = image_set([[[10, 10, 60, 60, 1, 0]]])
    found = [found_rows([[10, 10, 60, 60, 1, 0.9], [0, 0, 30, 30, 0, 0.8]])]
    result = evaluate_coco(truth, found, ["a", "b"])
    assert np.isnan(result.ap[0]) and result.ap[1] == pytest.approx(1) and result.stats["map"] == 1


def test_boxes_in_a_crowd_are_neither_right_nor_wrong():
    truth = image_set([[[0, 0, 20, 20, 0, 0], [50, 50, 150, 150, 0, 1]]])
    crowded = found_rows([[60, 60, 80, 80, 0, 0.9], [70, 70, 90, 90, 0, 0.8], [0, 0, 20, 20, 0, 0.7]])
    assert evaluate_coco(truth, [crowded], ["a"]).stats["map"] == pytest.approx(1)


def test_objects_without_an_outline_are_ignored_among_masks():
    truth = image_set([[[0, 0, 20, 20, 0, 0], [50, 50, 150, 150, 0, 0]]], outlines=True)
    counts = truth.polygons.objects.copy()
    counts[-1] = counts[-2]
    without = type(truth.polygons)(truth.polygons.points, truth.polygons.rings, counts)
    truth = type(truth)(**{**vars(truth), "polygons": without})
    mask = np.zeros(SIZE[::-1], bool)
    mask[:20, :20] = True
    found = [found_rows([[0, 0, 20, 20, 0, 0.7]], [encode(mask)])]
    assert evaluate_coco(truth, found, ["a"], "segm").stats["map"] == pytest.approx(1)


def test_nothing_found_is_zero_and_nothing_to_find_is_nan():
    some, none = image_set([[[10, 10, 60, 60, 0, 0]], []]), image_set([[], []])
    assert evaluate_coco(some, [found_rows([])] * 2, ["a"]).stats["map"] == 0
    assert np.isnan(evaluate_coco(none, [found_rows([])] * 2, ["a"]).stats["map"])
