"""What a record has that those of the training had not."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.ecg.classifier import Classifier
from tasks.ecg.config import AugmentConfig, WindowConfig
from tasks.ecg.data.dataset import EcgData

USUAL = 10.0
"""Length of a printed record, s, where that of the training's is not known."""
LONGER = 2.0
"""Multiple of the usual length from which a record is called long."""


def training_records(data: EcgData, config: AugmentConfig) -> dict[str, Any]:
    """Returns what a package keeps of the records that were learned from.

    Returns:
        ``always``, the leads that no network ever missed, and ``seconds``, the median length.
    """
    chosen = np.unique(np.concatenate([fold.train for fold in data.folds]))
    there = data.present[chosen].all(0) & (not config.lead_dropout)
    return {
        "always": [lead for lead, always in zip(data.leads, there, strict=True) if always],
        "seconds": float(np.median([data.signals[i].shape[1] for i in chosen])) / data.rate,
    }


def remarks(
    classifier: Classifier, signal: np.ndarray, present: np.ndarray, window: WindowConfig | None = None
) -> list[str]:
    """Returns a line for each way in which a record is unlike those of the training.

    Args:
        classifier: The model.
        signal: ``(leads, samples)``, as :meth:`Classifier.prepare` returns it.
        present: ``(leads,)`` bool: the lead is there.
        window: How the record becomes windows; by default as in training.
    """
    records = classifier.metadata.get("records", {})
    usual, seconds = records.get("seconds", USUAL), signal.shape[1] / classifier.rate
    always = records.get("always", [])
    lines = []
    if missing := [
        lead for lead, there in zip(classifier.leads, present, strict=True) if lead in always and not there
    ]:
        lines.append(f"the model never learned from a record without {', '.join(missing)}")
    if signal.shape[1] < classifier.length and seconds < usual:
        lines.append(
            f"shorter than the model's window of {classifier.length / classifier.rate:g} s: zeros follow"
        )
    if seconds > LONGER * usual and classifier.window(window).pool == "max":
        lines.append(
            f"lasts {seconds:.3g} s, and records of the training {usual:.3g} s: the maximum over so many windows finds "
            "more, see --pool mean"
        )
    return lines
