"""Pictures of a spotter's results. Figures are made without pyplot, so nothing global is touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from core.task import Evaluation
from tasks.speech.config import FeatureConfig
from tasks.speech.curves import MODEL, OTHER, draw_det, draw_roc, draw_thresholds, word_is_tested
from tasks.speech.data.clips import SpeechData, as_float
from tasks.speech.frontend import FrontEnd
from tasks.speech.measures import accuracy, confusion_matrix
from tasks.speech.scoring import Outputs
from tasks.speech.spotter import Spotter

WORST = 6  # clips in the picture of the worst errors
HERTZ = (250, 500, 1000, 2000, 4000, 8000)  # ticks of a spectrogram
RANGE = 14.0  # natural logarithm of the energies that a spectrogram shows, from its maximum down: 60 dB


def draw_all(
    spotter: Spotter, config: Any, data: SpeechData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields confusion matrix, ROC, DET, thresholds, the worst errors and, with folds, their accuracy."""
    model: Outputs = results["model"].outputs
    methods = {"ours": model}
    for name, result in results.items():
        if name != "model" and result.outputs is not None and len(methods) == 1:
            methods[name] = result.outputs
    yield "confusion", draw_confusion(data, model)
    if word_is_tested(model, data, data.words):
        yield "roc", draw_roc(data, methods)
        yield "det", draw_det(data, methods)
    if model.stream is not None or model.calibration is not None:
        yield "thresholds", draw_thresholds(model, config.scoring.false_alarms)
    yield "worst_errors", draw_worst(data, model)
    if len(data.folds) > 1:
        yield "folds", draw_folds(data, results)


def draw_confusion(data: SpeechData, outputs: Outputs) -> Figure:
    """Draws which class was taken for which: shares of each true class as colours, numbers of clips in the cells."""
    count = len(data.classes)
    matrix = confusion_matrix(outputs.labels, outputs.predicted, count)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [_short(name, 16) for name in data.classes]
    widest = max(map(len, names))
    upright = widest > 8 or count > 5
    side, margin = max(2.4, 0.34 * count), 0.08 * widest
    figure = Figure(
        figsize=(side + margin + 1.7, side + (margin if upright else 0.2) + 0.9), layout="constrained"
    )
    axis = figure.subplots()
    image = axis.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    size = "medium" if count <= 8 else "x-small"
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = str(matrix[row, column])
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    axis.set_xticks(range(count), names, rotation=90 if upright else 0, fontsize="small")
    axis.set_yticks(range(count), names, fontsize="small")
    axis.set(
        xlabel="taken for", ylabel="spoken", title=f"{accuracy(matrix):.1f} % of {matrix.sum()} test clips"
    )
    figure.colorbar(image, label="% of the class", shrink=0.7)
    return figure


def draw_worst(data: SpeechData, outputs: Outputs) -> Figure:
    """Draws log-mel spectrograms of the errors with the highest scores; without errors, of the least certain clips."""
    predicted = outputs.predicted
    scores = outputs.scores[np.arange(len(predicted)), predicted]
    errors = np.flatnonzero(predicted != outputs.labels)
    if len(errors):
        chosen = errors[np.argsort(-scores[errors], kind="stable")][:WORST]
        title = f"the {len(chosen)} most confident of {len(errors)} errors"
    else:
        chosen = np.argsort(scores, kind="stable")[:WORST]
        title = f"no errors: the {len(chosen)} least certain clips"
    front = FrontEnd(FeatureConfig(kind="logmel", floor=1e-10, high=min(8000.0, data.rate / 2)), data.rate)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.4, 2.7 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    seconds = data.clips.waves.shape[1] / data.rate
    ticks, labels = _mel_ticks(front)
    for axis, i in zip(axes, chosen, strict=False):
        clip = outputs.clips[i]
        with torch.inference_mode():
            picture = front(torch.from_numpy(as_float(data.clips.waves[clip][None])))[0].numpy().T
        axis.imshow(
            picture,
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, seconds, -0.5, front.size - 0.5),
            vmin=picture.max() - RANGE,
        )
        said, heard = data.classes[outputs.labels[i]], data.classes[predicted[i]]
        what = _short(said) if said == heard else f"{_short(said)} heard as {_short(heard)}"
        title = f"{what}, {scores[i]:.2f}\n{_short(data.clips.names[clip], 38)}"
        axis.set_title(title, fontsize="small")
        axis.set_yticks(ticks, labels, fontsize="x-small")
        axis.tick_params(axis="x", labelsize="x-small")
    for axis in axes[len(chosen) :]:
        axis.set_visible(False)
    figure.supxlabel("s", fontsize="small")
    figure.supylabel("kHz, mel scale", fontsize="small")
    return figure


def _mel_ticks(front: FrontEnd) -> tuple[np.ndarray, list[str]]:
    """Returns places among the mel filters, and their frequencies in kHz."""
    filters = front.filters[::2].numpy()
    hertz = np.arange(len(filters)) * front.rate / front.n_fft
    centres = (hertz[:, None] * filters).sum(0) / np.maximum(filters.sum(0), 1e-12)
    chosen = [f for f in HERTZ if centres[0] <= f <= centres[-1]]
    return np.interp(chosen, centres, np.arange(len(centres))), [f"{f / 1000:g}" for f in chosen]


def _short(text: str, most: int = 12) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"


def draw_folds(data: SpeechData, results: dict[str, Evaluation]) -> Figure:
    """Draws the accuracy of each fold, for the model and the first baseline, with their means."""
    names = [fold.name for fold in data.folds]
    shown = list(results)[:2]
    figure = Figure(figsize=(1.8 + max(3.0, 0.8 * len(names)), 3.6), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(names))
    for i, method in enumerate(shown):
        metrics = results[method].metrics
        values = [metrics[f"{name}/accuracy"] for name in names]
        colour, label = (OTHER, method) if method != "model" else (MODEL, "ours")
        spread = f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} %"
        bars = axis.bar(places + 0.4 * (i - 0.5), values, 0.38, color=colour, label=f"{label}: {spread}")
        axis.bar_label(bars, fmt="%.0f", fontsize="x-small", padding=1)
    axis.set_xticks(places, names, rotation=45 if max(map(len, names)) > 8 else 0)
    axis.set(ylabel="accuracy, %", ylim=(0, 119), yticks=range(0, 101, 20))
    axis.legend(frameon=False, fontsize="small", loc="upper center", ncols=2)
    return figure
