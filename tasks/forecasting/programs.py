"""A trained ensemble as one program: ``(history, mask) -> (forecast, members)``, for ONNX, pt2 and GluonTS."""

from __future__ import annotations

import json
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.compress.folding import deploy
from core.errors import ConfigError, PackageError
from tasks.forecasting.ensemble import Ensemble
from tasks.forecasting.forecaster import Forecaster, GroupModel
from tasks.forecasting.sampler import FlatSeries

TOLERANCE = 1e-4  # largest difference to the original, relative to the largest value


class EnsembleProgram(nn.Module):
    """All members of one frequency, unrolled, with nothing but tensors in and out.

    Args:
        ensemble: Trained ensemble; its weights are copied, in their form for inference.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.lookback = max(ensemble.lookbacks)
        self.lookbacks = [member.lookback for member in ensemble.members]
        self.members = nn.ModuleList(
            deploy(group.member(e))  # type: ignore[operator]
            for group in ensemble.groups
            for e in range(group.num_members)  # type: ignore[arg-type]
        )
        self.eval()

    def forward(self, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Forecasts.

        Args:
            history: ``(B, L)`` last values of each series, oldest first, zero where there is none; L is the
                longest lookback.
            mask: ``(B, L)``, 1 where there is a value.

        Returns:
            The median ``(B, H)`` and the members ``(B, M, H)``.
        """
        members = torch.stack(
            [
                member(history[:, -lookback:], mask[:, -lookback:])
                for member, lookback in zip(self.members, self.lookbacks, strict=True)
            ],
            dim=1,
        )
        # torch.median takes the lower of two middle values; the median of the paper averages them.
        ordered = torch.sort(members, dim=1).values
        count = len(self.lookbacks)
        return (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2, members


def export_programs(forecaster: Forecaster, folder: Path, format: str) -> list[Path]:
    """Writes ``<frequency>.onnx`` or ``.pt2`` for every model and checks that it gives the same output.

    Raises:
        ConfigError: The packages that ONNX needs are not installed.
        PackageError: A program does not reproduce the model.
    """
    if format == "onnx" and any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise ConfigError("--format onnx needs more packages: pip install 'skipway[export]'")
    write = {"onnx": _write_onnx, "pt2": _write_pt2}[format]
    paths = []
    for name, model in forecaster.models.items():
        program = EnsembleProgram(model.ensemble.cpu())
        path = folder / f"{name}.{format}"
        # Three series, one of them shorter than the lookback; values of the size of real ones.
        values = [
            100 * np.random.default_rng(i).random(length)
            for i, length in enumerate(
                (2 * program.lookback, program.lookback, max(2, program.lookback // 3))
            )
        ]
        inputs = FlatSeries(values, torch.device("cpu"), program.lookback).last_windows(program.lookback)
        outputs = write(program, inputs, path, _metadata(name, model, program))
        expected = model.ensemble(values).detach().transpose(0, 1)
        error = float(np.abs(outputs[1] - expected.numpy()).max() / expected.abs().max())
        if not error < TOLERANCE:
            path.unlink()
            raise PackageError(
                f"{path} differs from the model by {error:.1e} and was removed; please report this"
            )
        paths.append(path)
    return paths


def _metadata(name: str, model: GroupModel, program: EnsembleProgram) -> dict[str, str]:
    return {
        "task": "forecasting",
        "model": name,
        "freq": model.freq,
        "seasonality": str(model.seasonality),
        "horizon": str(model.horizon),
        "lookback": str(program.lookback),
        "members": str(len(program.lookbacks)),
        "input": "history (batch, lookback) oldest value first and zero on the padding; mask 1 where there is a value",
        "output": "forecast (batch, horizon), the median; members (batch, members, horizon)",
    }


def _write_onnx(
    program: EnsembleProgram, inputs: tuple[Tensor, Tensor], path: Path, metadata: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    import onnx
    import onnxruntime

    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns about its own internals
        torch.onnx.export(
            program,
            inputs,
            path,
            input_names=["history", "mask"],
            output_names=["forecast", "members"],
            dynamic_shapes=({0: batch}, {0: batch}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ("history", "mask")
    return tuple(session.run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)}))


def _write_pt2(
    program: EnsembleProgram, inputs: tuple[Tensor, Tensor], path: Path, metadata: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    batch = torch.export.Dim("batch")
    exported = torch.export.export(program, inputs, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(exported, path, extra_files={"metadata.json": json.dumps(metadata)})
    forecast, members = torch.export.load(path).module()(*inputs)
    return forecast.detach().numpy(), members.detach().numpy()
