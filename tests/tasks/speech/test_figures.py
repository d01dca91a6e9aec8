"""Pictures show the numbers they are drawn from, and no text lies on another."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, roc_auc_score

from core.data.split import Fold
from core.task import Evaluation
from tasks.speech.config import SpeechScoringConfig
from tasks.speech.curves import draw_det, draw_roc, draw_thresholds
from tasks.speech.data.clips import Clips, SpeechData
from tasks.speech.figures import draw_all, draw_confusion, draw_folds, draw_worst
from tasks.speech.scoring import evaluation
from tasks.speech.streaming import OperatingPoints

CLASSES = ["silence", "unknown", "bed", "cat", "happy"]
MANY = ["silence", "unknown", *(f"word{i:02d}" for i in range(35))]
RATE = 8000


def data_of(classes=CLASSES, count=200, folds=("model",)):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(classes), count)
    names = [f"{classes[label]}/{i:08x}_nohash_0.wav" for i, label in enumerate(labels)]
    waves = rng.integers(-3000, 3000, (count, RATE), dtype=np.int16)
    clips = Clips(names, waves, labels, [""] * count, np.zeros(count, bool))
    empty = np.zeros(0, np.int64)
    parts = [
        Fold(name, empty, empty, np.arange(i, count, len(folds), dtype=np.int64))
        for i, name in enumerate(folds)
    ]
    return SpeechData("x", list(classes), RATE, clips, parts, [], [])


def results_of(data, margin=2.0):
    """Scores of a model, of a weaker baseline and of one that says nothing."""

    def scored(margin, seed):
        rng = np.random.default_rng(seed)
        parts = []
        for fold in data.folds:
            logits = rng.normal(size=(len(fold.test), len(data.classes)))
            logits += margin * np.eye(len(data.classes))[data.clips.labels[fold.test]]
            parts.append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
        return evaluation(data, parts)

    model = scored(margin, 0)
    thresholds = [0.1, 0.3, 0.5, 0.7, 0.9]
    model.outputs.stream = OperatingPoints(
        thresholds, [0.9, 0.8, 0.7, 0.6, 0.5], [9, 5, 3, 0, 0], 0.1, "test clips"
    )
    model.outputs.calibration = OperatingPoints(
        thresholds,
        [0.95, 0.85, 0.75, 0.7, 0.6],
        [1234, 6, 2, 1, 0],
        0.2,
        "training clips, for want of others",
    )
    model.outputs.threshold = 0.7
    guess = Evaluation(dict(scored(0, 2).metrics))
    return {"model": model, "mfcc_logreg": scored(margin / 2, 1), "guess": guess}


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def overlapping(figure):
    """Pairs of texts that lie on each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Of ticks, those within the limits are drawn.
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    hidden = set()
    for axis in figure.axes:
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
    ("classes", "folds"),
    [
        (
            ["silence", "unknown", "a_word_with_a_name_of_great_length", *map(str, range(9))],
            tuple(f"speaker_{i}" for i in range(12)),
        ),
        (MANY, ("model",)),
    ],
)
def test_all_are_drawn_and_no_texts_overlap(classes, folds):
    data = data_of(classes, 12 * len(classes), folds)
    config = SimpleNamespace(scoring=SpeechScoringConfig())
    figures = dict(draw_all(None, config, data, results_of(data)))
    expected = ["confusion", "roc", "det", "thresholds", "worst_errors"] + ["folds"] * (len(folds) > 1)
    assert list(figures) == expected
    for name, figure in figures.items():
        assert not overlapping(figure), name


def test_overlaps_are_found():
    figure = draw_confusion(data_of(), results_of(data_of())["model"].outputs)
    figure.axes[0].set_xticklabels(["a long name of a class"] * 5, rotation=0)
    assert overlapping(figure)


def test_without_words_or_a_stream_the_rest_is_drawn():
    data = data_of()
    for fold in data.folds:
        fold.test = fold.test[data.clips.labels[fold.test] < 2]
    results = {"model": results_of(data)["model"], "guess": Evaluation({})}
    results["model"].outputs.stream = results["model"].outputs.calibration = None
    config = SimpleNamespace(scoring=SpeechScoringConfig())
    assert [name for name, _ in draw_all(None, config, data, results)] == ["confusion", "worst_errors"]


def test_confusion_shows_counts():
    data = data_of()
    outputs = results_of(data)["model"].outputs
    axis = draw_confusion(data, outputs).axes[0]
    expected = confusion_matrix(outputs.labels, outputs.predicted)
    shown = {tuple(map(int, text.get_position()[::-1])): int(text.get_text()) for text in axis.texts}
    assert shown == {cell: count for cell, count in np.ndenumerate(expected) if count}
    np.testing.assert_allclose(
        axis.images[0].get_array(), 100 * expected / expected.sum(1, keepdims=True), rtol=1e-6
    )


def test_roc_and_det_show_the_micro_average():
    data = data_of()
    methods = {name: result.outputs for name, result in results_of(data).items() if result.outputs}
    methods = {"ours": methods["model"], "mfcc_logreg": methods["mfcc_logreg"]}
    truth = np.eye(5)[methods["ours"].labels][:, 2:]
    aucs = [roc_auc_score(truth, m.scores[:, 2:], average="micro") for m in methods.values()]
    labels = [line.get_label() for line in draw_roc(data, methods).axes[0].lines]
    assert labels[-2:] == [f"all words, AUC {aucs[0]:.4f}", f"mfcc_logreg, AUC {aucs[1]:.4f}"]
    assert [label.split(",")[0] for label in labels[:-2]] == data.words
    axis = draw_det(data, methods).axes[0]
    curve, crossing = axis.lines[0], axis.lines[1]
    # The crossing lies where both axes have the same share, on the curve.
    assert crossing.get_xdata()[0] == pytest.approx(crossing.get_ydata()[0])
    share = norm.cdf(crossing.get_xdata()[0])
    assert curve.get_label() == f"ours, equal error rate {100 * share:.2g} %"
    ticks = {
        label.get_text(): place
        for label, place in zip(axis.get_xticklabels(), axis.get_xticks(), strict=True)
    }
    assert ticks["20"] == pytest.approx(norm.ppf(0.2))


def test_thresholds_are_in_the_table_and_the_chosen_one_stands_out():
    data = data_of()
    figure = draw_thresholds(results_of(data)["model"].outputs, budget=1.0)
    table = next(axis.tables[0] for axis in figure.axes if axis.tables)
    cells = table.get_celld()
    rows = [[cells[row, column].get_text().get_text() for column in range(5)] for row in range(1, 9)]
    assert rows[0] == ["0.1", "95.0 %", "1,234", "90.0 %", "9"]
    chosen = [row for row in range(1, 9) if to_hex(cells[row, 0].get_text().get_color()) == to_hex("tab:red")]
    assert [rows[row - 1] for row in chosen] == [["0.7", "70.0 %", "1", "60.0 %", "0"]]
    left = figure.axes[0]
    np.testing.assert_allclose(left.lines[1].get_ydata(), [90, 80, 70, 60, 50])


def test_worst_errors_come_first():
    data = data_of()
    outputs = results_of(data)["model"].outputs
    figure = draw_worst(data, outputs)
    top = outputs.scores.max(1)
    errors = sorted(np.flatnonzero(outputs.predicted != outputs.labels), key=lambda i: -top[i])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        f"{data.classes[outputs.labels[i]]} heard as {data.classes[outputs.predicted[i]]}, {top[i]:.2f}\n"
        f"{data.clips.names[i]}"
        for i in errors[:6]
    ]
    assert f"the 6 most confident of {len(errors)} errors" in texts_of(figure)


def test_without_errors_the_least_certain_are_shown():
    data = data_of(count=60)
    outputs = results_of(data, margin=50.0)["model"].outputs
    figure = draw_worst(data, outputs)
    assert "no errors: the 6 least certain clips" in texts_of(figure)
    least = outputs.scores.max(1).argmin()
    assert figure.axes[0].get_title().endswith(data.clips.names[least])


def test_a_tone_lies_at_its_frequency():
    data = data_of(count=5)
    data.clips.waves[:] = 10000 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    axis = draw_worst(data, results_of(data)["model"].outputs).axes[0]
    loudest = axis.images[0].get_array().mean(1).argmax()
    ticks = dict(zip([t.get_text() for t in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    assert loudest == pytest.approx(ticks["1"], abs=1)


def test_bars_of_folds():
    data = data_of(folds=("a", "b"))
    results = results_of(data)
    axis = draw_folds(data, results).axes[0]
    heights = [bar.get_height() for bars in axis.containers for bar in bars]
    expected = [results[method].metrics[f"{f}/accuracy"] for method in ("model", "mfcc_logreg") for f in "ab"]
    assert heights == pytest.approx(expected)
    assert f"± {np.std(expected[:2], ddof=1):.1f} %" in axis.get_legend().get_texts()[0].get_text()
