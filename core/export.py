"""One writer of programs for other runtimes: ONNX and pt2 (``torch.export``)."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError, PackageError

TOLERANCE = 1e-4  # largest difference to the model, relative to the largest value


def check_packages(format: str) -> None:
    """Raises ``ConfigError`` if the packages that the format needs are not installed."""
    if format == "onnx" and any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise ConfigError("--format onnx needs more packages: pip install 'skipway[export]'")


def write_program(
    program: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
    metadata: dict[str, str],
) -> tuple[np.ndarray, ...]:
    """Writes a network as a program and runs what was written.

    Args:
        program: Network on the CPU in its form for inference, with nothing but tensors in and out.
        inputs: Example inputs. An axis that shall vary needs a size of 2 or more: torch takes 1 for a constant.
        path: File to write; its ending, ``.onnx`` or ``.pt2``, chooses the format.
        input_names: Names of the inputs, for ONNX.
        output_names: Names of the outputs, for ONNX.
        dynamic_shapes: For each input the axes that vary, as ``torch.export`` takes them:
            ``({0: batch, 2: height, 3: width},)`` of ``torch.export.Dim`` for images ``(B, C, H, W)``.
        metadata: What a user of the file has to know: the custom metadata of ONNX, ``metadata.json`` in pt2.

    Returns:
        What the written program gives for ``inputs``, one array for each output.

    Raises:
        ConfigError: The packages that the format needs are not installed.
    """
    format = path.suffix[1:]
    check_packages(format)
    if format == "onnx":
        return _write_onnx(program, inputs, path, input_names, output_names, dynamic_shapes, metadata)
    return _write_pt2(program, inputs, path, dynamic_shapes, metadata)


def check_outputs(path: Path, output: np.ndarray, expected: np.ndarray) -> None:
    """Removes a program that does not reproduce its model.

    Args:
        path: The program.
        output: What it gives.
        expected: What the model gives, in the same shape.

    Raises:
        PackageError: They differ by more than 1e-4 of the largest value.
    """
    error = difference(output, expected)
    if not error < TOLERANCE:
        path.unlink()
        raise PackageError(
            f"{path} differs from the model by {error:.1e} and was removed; please report this"
        )


def difference(output: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference of two outputs, relative to the largest value expected."""
    return float(np.abs(output - expected).max() / np.abs(expected).max())


def _write_onnx(
    program: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
    metadata: dict[str, str],
) -> tuple[np.ndarray, ...]:
    import onnx
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns about its own internals
        torch.onnx.export(
            program,
            inputs,
            path,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic_shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return tuple(session.run(None, {n: t.numpy() for n, t in zip(input_names, inputs, strict=True)}))


def _write_pt2(
    program: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    dynamic_shapes: tuple[Any, ...],
    metadata: dict[str, str],
) -> tuple[np.ndarray, ...]:
    with warnings.catch_warnings():
        # Recurrent layers keep their parameters in a list too, which torch.export takes for forgotten buffers.
        warnings.filterwarnings("ignore", "The tensor attribute")
        exported = torch.export.export(program, inputs, dynamic_shapes=dynamic_shapes)
    torch.export.save(exported, path, extra_files={"metadata.json": json.dumps(metadata)})
    outputs = torch.export.load(path).module()(*inputs)
    return tuple(t.detach().numpy() for t in (outputs if isinstance(outputs, tuple) else (outputs,)))
