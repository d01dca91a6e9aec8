"""A trained network as a program for other runtimes: histories of antennas in, their next reports out."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch

from core.export import check_outputs, check_packages, write_program
from tasks.csi.predictor import Predictor


def export_predictor(predictor: Predictor, folder: Path, format: str, task: str) -> list[Path]:
    """Writes ``<task>.onnx`` or ``.pt2`` and checks its output; the number of rows is dynamic.

    Raises:
        ConfigError: The packages that ONNX needs are not installed.
        PackageError: The program does not reproduce the model.
    """
    check_packages(format)
    network = copy.deepcopy(predictor.network).cpu().to(memory_format=torch.contiguous_format).eval()
    width = 2 * predictor.subcarriers
    rows = torch.randn(3, predictor.history, width, generator=torch.Generator().manual_seed(0))
    path = folder / f"{task}.{format}"
    metadata = {
        "task": task,
        "subcarriers": str(predictor.subcarriers),
        "input": f"history (rows, {predictor.history}, {width}): a row is one antenna of one sample; real and "
        "imaginary part of each subcarrier beside each other",
        "output": f"prediction (rows, {predictor.horizon}, {width})",
        "rows": "independent of each other" if predictor.apart else "standardised together",
        "trained_on": json.dumps(predictor.metadata.get("data", {}).get("name", "")),
    }
    (output,) = write_program(
        network,
        (rows,),
        path,
        input_names=["history"],
        output_names=["prediction"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        metadata=metadata,
    )
    with torch.inference_mode():
        check_outputs(path, output, network(rows).numpy())
    return [path]
