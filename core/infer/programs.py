"""A trained restorer as a program for other runtimes, for images of any height and width."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from core.export import check_outputs, check_packages, write_program
from core.infer.restorer import Restorer


class FixedScale(nn.Module):
    """A network of several enlargements as a network of one.

    Args:
        model: Called as ``model(x, scale)``.
        scale: The enlargement.
    """

    def __init__(self, model: nn.Module, scale: int) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)`` to ``(B, C, scale H, scale W)``."""
        return self.model(x, self.scale)


def export_restorer(restorer: Restorer, folder: Path, format: str, task: str) -> list[Path]:
    """Writes ``<task>.onnx`` or ``.pt2``, for several enlargements ``<task>_x<scale>``, and checks their output.

    Batch, height and width are dynamic.

    Raises:
        ConfigError: The packages that ONNX needs are not installed.
        PackageError: A program does not reproduce the model.
    """
    check_packages(format)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    x = torch.rand(2, restorer.channels, 40, 56, generator=torch.Generator().manual_seed(0))
    paths = []
    for scale in restorer.scales:
        network = restorer.network.cpu()
        program = FixedScale(network, scale) if restorer.asks_scale else network
        name = f"{task}_x{scale}" if len(restorer.scales) > 1 else task
        path = folder / f"{name}.{format}"
        metadata = {
            "task": task,
            "channels": str(restorer.channels),
            "scale": str(scale),
            "input": "image (batch, channels, height, width) in [0, 1]",
            "output": "restored (batch, channels, scale height, scale width), not clipped",
            "trained_on": json.dumps(restorer.metadata.get("data", {}).get("name", "")),
        }
        (output,) = write_program(
            program,
            (x,),
            path,
            input_names=["image"],
            output_names=["restored"],
            dynamic_shapes=({0: batch, 2: height, 3: width},),
            metadata=metadata,
        )
        with torch.inference_mode():
            check_outputs(path, output, program(x).numpy())
        paths.append(path)
    return paths
