"""What stands on the page of a record: the ten seconds that tell most, the findings, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.errors import ConfigError
from core.files import make_folder
from tasks.ecg.classifier import Classifier
from tasks.ecg.config import EcgPredictConfig, WindowConfig
from tasks.ecg.data.leads import arrange
from tasks.ecg.data.records import Record
from tasks.ecg.page import SECONDS, draw_page, save_page
from tasks.ecg.saliency import occlusion
from tasks.ecg.windows import cut, window_starts


def found_classes(classifier: Classifier, values: np.ndarray, threshold: float | None) -> list[int]:
    """Returns the classes whose probabilities ``(C,)`` reach their thresholds, the most probable first."""
    limits = np.array(classifier.thresholds if threshold is None else [threshold] * len(values))
    return [int(i) for i in np.argsort(-values, kind="stable") if values[i] >= limits[i]]


def print_page(
    classifier: Classifier,
    record: Record,
    signal: np.ndarray,
    values: np.ndarray,
    config: EcgPredictConfig,
    path: Path,
) -> None:
    """Draws the ten seconds around the window that the explained class is most probable in.

    Args:
        classifier: The model.
        record: As in its file: what is drawn has its sampling rate; its notes stand below the findings.
        signal: ``(leads, samples)`` in mV, as :meth:`Classifier.prepare` returns it.
        values: Probabilities ``(C,)``.
        config: Options of ``predict``.
        path: File to write, .png or .pdf.

    Raises:
        ConfigError: The page cannot be written.
    """
    found = found_classes(classifier, values, config.threshold)
    index = found[0] if found else int(values.argmax())
    if config.finding is not None:
        index = classifier.classes.index(config.finding)
    start, strip = explain(classifier, signal, index, config)
    plain = Record(record.name, record.signal, record.rate, record.leads)
    printed, present = arrange(plain, classifier.leads, classifier.config.missing_leads)
    listed = ", ".join(f"{classifier.classes[i]} {values[i]:.2f}" for i in found)
    text = (
        listed
        or f"no finding over its threshold; most probable: {classifier.classes[index]} {values[index]:.2f}"
    )
    said = ["the model was trained on synthetic records"] if classifier.synthetic else []
    derived = [
        lead
        for lead, there in zip(classifier.leads, present, strict=True)
        if there and lead not in record.leads
    ]
    figure = draw_page(
        printed,
        record.rate,
        classifier.leads,
        record.name,
        f"{text}\n{'; '.join([*said, *record.notes])}",
        strip,
        present,
        derived=derived,
        explained=classifier.classes[index],
        synthetic=any("synthetic" in line.lower() for line in record.comments),
        start=start,
    )
    make_folder(path.parent, "--output")
    try:
        save_page(figure, path)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None


def explain(
    classifier: Classifier, signal: np.ndarray, index: int, window: WindowConfig | None
) -> tuple[float, np.ndarray]:
    """Returns the ten seconds of a record that speak most for a class, and why.

    Args:
        classifier: The model.
        signal: ``(leads, samples)`` in mV, as :meth:`Classifier.prepare` returns it.
        index: Class.
        window: How the record becomes windows.

    Returns:
        Their first moment, s, and the saliency ``(samples,)``, 0 in the rest of the record.
    """
    samples, most = signal.shape[1], round(SECONDS * classifier.rate)
    first = 0
    if samples > most:
        starts = window_starts(samples, classifier.length, classifier.stride(window))
        size = classifier.window(window).batch
        parts = [
            classifier.window_probabilities(cut(signal, starts[i : i + size], classifier.length))[:, index]
            for i in range(0, len(starts), size)
        ]
        middle = int(starts[np.concatenate(parts).argmax()]) + classifier.length // 2
        whole = classifier.rate  # the page begins with a whole second
        first = int(np.clip(middle - most // 2, 0, samples - most)) // whole * whole
    strip = np.zeros(samples, np.float32)
    part = signal[:, first : first + most]
    strip[first : first + most] = occlusion(classifier, part, index, window)
    return first / classifier.rate, strip
