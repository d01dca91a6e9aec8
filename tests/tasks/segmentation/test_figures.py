"""Pictures show the numbers they are drawn from, and no text lies on another."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from core.task import Evaluation
from tasks.segmentation.config import SegScoringConfig
from tasks.segmentation.data.cases import Case, Fold, Geometry, Scan, SegmentationData, Voxels
from tasks.segmentation.figures import draw_all, draw_dice, draw_roc, draw_worst, short
from tasks.segmentation.labels import Labels, object_labels
from tasks.segmentation.scoring import score
from tasks.segmentation.segmenter import Segmentation

SCAN = Scan("", (1, 1, 1), (1.0, 1.0, 1.0), 1.0, np.zeros((1, 0)), {})
CONFIG = SimpleNamespace(scoring=SegScoringConfig())
VESSEL = Labels(("background", "vessel"), (0, 255))
MANY = Labels(("background", *(f"an_organ_with_a_long_name_{i}" for i in range(9))), tuple(range(10)))
TWO = Labels(("background", "head", "tail"), (0, 1, 2))


def data_of(labels, shape, cases=6):
    content = {}
    rng = np.random.default_rng(0)
    for i in range(cases):
        classes = np.zeros(shape, np.int16)
        for number in range(1, len(labels.names)):
            at = (shape[1] - 6) * number // len(labels.names)
            classes[:, at : at + 5, 4 : 8 + i] = 1 if labels.instances else number
        numbers = np.zeros(shape, np.int32)
        numbers[classes > 0] = 1
        numbers[:, -6:, -6:] = 2 * (classes[:, -6:, -6:] > 0)
        image = (classes + rng.normal(0, 0.3, shape))[None].astype(np.float32)
        spacing = (999.0 if shape[0] == 1 else 3.0, 1.0, 1.0)
        geometry = Geometry(shape, spacing, ".nii.gz")
        name = f"a_case_from_the_hospital_of_some_town_{i}.nii.gz"
        content[name] = Voxels(image, classes, None, numbers if labels.instances else None, geometry)
    stored = [Case(name, (), None, None, voxels.geometry, SCAN) for name, voxels in content.items()]
    fold = Fold("model", (), (), tuple(range(cases)))
    return SegmentationData("x", stored, [fold], labels, ["MRI"], lambda case: content[case.name])


def results_of(data):
    """A model that cuts off less than a baseline does, the more the earlier the case."""

    def method(cut):
        def segment(voxels, name):
            labels = voxels.labels.copy()
            labels[..., : 4 + cut] = 0
            scores = (labels > 0) + 0.1 * voxels.image[0]
            objects = None if voxels.objects is None else voxels.objects * (labels > 0)
            return Segmentation(labels, objects, scores[None].astype(np.float32))

        return segment

    return {
        name: score(lambda fold, cut=cut: method(cut), data, CONFIG.scoring, name)
        for name, cut in (("model", 1), ("otsu", 2))
    }


def overlapping(figure):
    """Pairs of texts that lie on each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    hidden = set()
    for axis in figure.findobj(lambda artist: hasattr(artist, "xaxis")):
        for scale in (axis.xaxis, axis.yaxis):
            low, high = sorted(scale.get_view_interval())
            for tick in [*scale.get_major_ticks(), *scale.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts if t not in hidden]
    return [
        (a, b)
        for (a, first), (b, second) in itertools.combinations(boxes, 2)
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 1
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
    ]


@pytest.mark.parametrize(
    ("labels", "shape", "names"),
    [
        (VESSEL, (1, 40, 40), ["worst_cases", "dice", "roc"]),
        (MANY, (4, 70, 30), ["worst_cases", "dice"]),
        (object_labels(), (1, 40, 40), ["worst_cases", "dice", "roc"]),
    ],
)
def test_all_are_drawn_and_no_texts_overlap(labels, shape, names):
    data = data_of(labels, shape)
    figures = dict(draw_all(None, CONFIG, data, results_of(data)))
    assert list(figures) == names
    for name, figure in figures.items():
        assert not overlapping(figure), name


def test_the_worst_cases_come_first_and_the_best_last():
    data = data_of(TWO, (4, 40, 30))
    outputs = results_of(data)["model"].outputs
    figure = draw_worst(data, outputs)
    assert figure.get_suptitle() == "2 worst and the best of 6"
    titles = [part.get_suptitle() for part in figure.subfigs]
    dice = [2 * (3 + i) / (2 * (3 + i) + 1) for i in range(6)]  # a column of 4 to 9 is missing
    expected = [(0, ""), (1, ""), (5, "the best: ")]
    assert titles == [f"{best}{data.cases[i].name}: Dice {dice[i]:.3f}" for i, best in expected]
    # What was cut off is missed: in the slice through the middle, the fourth column.
    panels = figure.subfigs[0].axes
    assert [axis.get_title() for axis in panels[:4]] == ["image", "truth", "prediction", "error"]
    error = np.asarray(panels[3].images[0].get_array())
    assert (np.ptp(error, axis=2) > 0.1).any(0).nonzero()[0].tolist() == [4]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["head", "tail", "found, not there", "missed", "another class"]


def test_an_empty_case_is_said_to_be_one():
    data = data_of(VESSEL, (1, 20, 20), cases=1)
    data.read(data.cases[0]).labels[:] = 0
    outputs = results_of(data)["model"].outputs
    (part,) = draw_worst(data, outputs).subfigs
    assert part.get_suptitle().endswith("nothing there, nothing found")


def test_dice_shows_every_case_and_names_the_worst():
    data = data_of(TWO, (4, 40, 30))
    results = results_of(data)
    axis = draw_dice(data, results).axes[0]
    rows = results["model"].rows
    for i, name in enumerate(("head", "tail")):
        shown = np.asarray(axis.collections[i].get_offsets())
        np.testing.assert_allclose(shown[:, 1], rows[rows["class"] == name]["dice"])
        assert np.abs(shown[:, 0] - i).max() < 0.3
    worst = short(data.cases[0].name)
    assert [text.get_text() for text in axis.texts] == [f"{worst} {rows['dice'].min():.2f}"] * 2
    lines = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert lines[0].get_ydata()[0] == pytest.approx(results["otsu"].metrics["head/dice"])
    assert "6 test cases" in axis.get_title()


def test_roc_shows_the_areas():
    data = data_of(VESSEL, (1, 40, 40))
    results = results_of(data)
    results["guess"] = Evaluation({})
    axis = draw_roc(data, results).axes[0]
    labels = [line.get_label() for line in axis.lines[1:]]
    assert labels == [
        f"network, AUC {results['model'].metrics['auc']:.4f}",
        f"otsu, AUC {results['otsu'].metrics['auc']:.4f}",
    ]


@pytest.mark.parametrize(
    ("shape", "mask", "words"),
    [
        ((1, 20, 20), None, "pixels"),
        ((2, 20, 20), None, "voxels"),
        ((1, 20, 20), Path("fov.gif"), "pixels inside the field of view"),
    ],
)
def test_roc_says_what_is_counted(shape, mask, words):
    data = data_of(VESSEL, shape, cases=2)
    data.cases = [replace(case, mask=mask) for case in data.cases]
    axis = draw_roc(data, results_of(data)).axes[0]
    assert axis.get_title() == f"ROC over all {words}"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("1 - specificity", "sensitivity")


def test_objects_have_instance_f1_beside_dice():
    data = data_of(object_labels(), (1, 40, 40))
    results = results_of(data)
    axis = draw_dice(data, results).axes[0]
    rows = results["model"].rows
    assert [label.get_text() for label in axis.get_xticklabels()] == ["Dice", "instance F1"]
    for i, measure in enumerate(("dice", "instance_f1")):
        np.testing.assert_allclose(np.asarray(axis.collections[i].get_offsets())[:, 1], rows[measure])
    lines = [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == "--"]
    metrics = [results[name].metrics for name in ("otsu", "model")]
    assert lines == pytest.approx([metrics[0]["dice"], metrics[0]["instance_f1"]])
    means = f"{metrics[1]['dice']:.3f}, {metrics[1]['instance_f1']:.3f}"
    assert axis.get_title() == f"Dice and instance F1 of 6 test cases:\nmean {means}"


def test_one_class_has_the_line_of_its_baseline():
    data = data_of(VESSEL, (1, 40, 40))
    results = results_of(data)
    (line,) = [line for line in draw_dice(data, results).axes[0].lines if line.get_linestyle() == "--"]
    assert line.get_ydata()[0] == pytest.approx(results["otsu"].metrics["dice"])


def test_few_worst_cases_are_said_to_be_few():
    data = data_of(TWO, (4, 40, 30), cases=3)
    assert draw_worst(data, results_of(data)["model"].outputs).get_suptitle() == "2 worst of 3"


def test_long_names_lose_their_middle():
    assert short("case_1") == "case_1"
    assert len(short("x" * 99 + "7")) <= 24 and short("x" * 99 + "7").endswith("7")
