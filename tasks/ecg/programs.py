"""A trained classifier as a program for other runtimes: a window in mV in, probabilities out."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from core.export import check_outputs, check_packages, write_program
from tasks.ecg.classifier import Classifier

HOW_TO_FEED = (
    "Bring the record's leads in mV into the order of leads. Where missing_leads is derive, a missing limb lead "
    "follows from I and II (III = II - I, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2); any other is "
    "zeros. If centre is true, subtract each lead's median over the record. Then filter at the record's own rate, "
    "forward and backward: Butterworth filters of second order with the corners highpass and lowpass, a notch of "
    "quality 30 at notch, in Hz; 0 is off. Then resample to sampling_rate. Cut the record into windows of samples, "
    "stride apart, the last one at the end; zeros follow a shorter record. The probability of a class is the maximum "
    "or mean over the windows, as pool says; it is a finding from its threshold on."
)


class Probabilities(nn.Module):
    """Normalisation, networks and sigmoid as one module.

    Args:
        normalisers: What stands before each network.
        networks: Networks whose probabilities are averaged.
    """

    def __init__(self, normalisers: list[nn.Module], networks: list[nn.Module]) -> None:
        super().__init__()
        self.normalisers, self.networks = nn.ModuleList(normalisers), nn.ModuleList(networks)

    def forward(self, signal: Tensor) -> Tensor:
        """Maps windows ``(B, leads, L)`` in mV to probabilities ``(B, C)``."""
        outputs = [
            network(normaliser(signal)).sigmoid()
            for normaliser, network in zip(self.normalisers, self.networks, strict=True)
        ]
        return torch.stack(outputs).mean(0)


def export_classifier(classifier: Classifier, folder: Path, format: str, task: str) -> list[Path]:
    """Writes ``<task>.onnx`` or ``.pt2`` and checks its output; the number of windows is dynamic.

    Raises:
        ConfigError: The packages that ONNX needs are not installed.
        PackageError: The program does not reproduce the model.
    """
    check_packages(format)
    program = copy.deepcopy(
        Probabilities(list(classifier.normalisers.values()), list(classifier.networks.values()))
    )
    program = program.cpu().eval()
    shape = (2, len(classifier.leads), classifier.length)
    signal = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    path = folder / f"{task}.{format}"
    window = classifier.window()
    metadata = {
        "task": task,
        "classes": json.dumps(classifier.classes),
        "codes": json.dumps(classifier.codes),
        "thresholds": json.dumps([round(t, 6) for t in classifier.thresholds]),
        "leads": json.dumps(classifier.leads),
        "sampling_rate": str(classifier.rate),
        "samples": str(classifier.length),
        "stride": str(classifier.stride()),
        "pool": str(window.pool),
        "missing_leads": classifier.config.missing_leads,
        "centre": json.dumps(classifier.config.centre),
        "filters": json.dumps({k: getattr(classifier.config, k) for k in ("highpass", "lowpass", "notch")}),
        "input": f"signal (batch, {shape[1]}, {shape[2]}) in mV at {classifier.rate} Hz",
        "output": "probabilities (batch, classes)",
        "usage": HOW_TO_FEED,
        "trained_on": json.dumps(classifier.metadata.get("data", {}).get("name", "")),
        "warning": "research software, not a medical device",
    }
    (output,) = write_program(
        program,
        (signal,),
        path,
        input_names=["signal"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        metadata=metadata,
    )
    with torch.inference_mode():
        check_outputs(path, output, program(signal).numpy())
    return [path]
