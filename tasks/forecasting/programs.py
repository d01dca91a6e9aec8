"""A trained ensemble as one program: ``(history, mask) -> (forecast, members)``, for ONNX, pt2 and GluonTS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.compress.folding import deploy
from core.export import check_outputs, check_packages, write_program
from tasks.forecasting.ensemble import Ensemble
from tasks.forecasting.forecaster import Forecaster, GroupModel
from tasks.forecasting.sampler import FlatSeries


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
    check_packages(format)
    batch = torch.export.Dim("batch")
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
        outputs = write_program(
            program,
            inputs,
            path,
            input_names=("history", "mask"),
            output_names=("forecast", "members"),
            dynamic_shapes=({0: batch}, {0: batch}),
            metadata=_metadata(name, model, program),
        )
        expected = model.ensemble(values).detach().transpose(0, 1)
        check_outputs(path, outputs[1], expected.numpy())
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
