"""A trained keyword spotter as a program for other runtimes: waveform in, scores out."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from core.export import check_outputs, check_packages, write_program
from tasks.speech.spotter import Spotter


class Scores(nn.Module):
    """Front end, networks and softmax as one module.

    Args:
        front: Front end.
        networks: Networks whose probabilities are averaged.
    """

    def __init__(self, front: nn.Module, networks: list[nn.Module]) -> None:
        super().__init__()
        self.front, self.networks = front, nn.ModuleList(networks)

    def forward(self, wave: Tensor) -> Tensor:
        """Maps clips ``(B, N)`` in [-1, 1] to probabilities ``(B, C)``."""
        features = self.front(wave)
        return torch.stack([network(features).softmax(1) for network in self.networks]).mean(0)


def export_spotter(spotter: Spotter, folder: Path, format: str, task: str) -> list[Path]:
    """Writes ``<task>.onnx`` or ``.pt2`` and checks its output; the number of clips is dynamic.

    Raises:
        ConfigError: The packages that ONNX needs are not installed.
        PackageError: The program does not reproduce the model.
    """
    check_packages(format)
    # A copy in torch's own order of axes: programs warn about weights in another.
    program = copy.deepcopy(Scores(spotter.front, list(spotter.networks.values())))
    program = program.cpu().to(memory_format=torch.contiguous_format).eval()
    wave = 0.1 * torch.randn(2, spotter.length, generator=torch.Generator().manual_seed(0))
    path = folder / f"{task}.{format}"
    points = spotter.operating_points
    metadata = {
        "task": task,
        "classes": json.dumps(spotter.classes),
        "sampling_rate": str(spotter.rate),
        "samples": str(spotter.length),
        "input": f"wave (batch, {spotter.length}), one channel in [-1, 1] at {spotter.rate} Hz",
        "output": "scores (batch, classes), probabilities",
        "threshold": f"{points.choose(_budget(spotter)):.4g}" if points else "",
        "trained_on": json.dumps(spotter.metadata.get("data", {}).get("name", "")),
    }
    (output,) = write_program(
        program,
        (wave,),
        path,
        input_names=["wave"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        metadata=metadata,
    )
    with torch.inference_mode():
        check_outputs(path, output, program(wave).numpy())
    return [path]


def _budget(spotter: Spotter) -> float:
    return float(spotter.metadata.get("options", {}).get("scoring", {}).get("false_alarms", 1.0))
