"""nnU-Net 2.8.1 and its networks, as ``pip`` has them, for the comparison in :mod:`benchmarks.segmentation`."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tasks.segmentation.planning.plan import Plan

NNUNET = (
    *("nnunetv2==2.8.1", "dynamic-network-architectures==0.4.4", "batchgenerators==0.25.5"),
    *("batchgeneratorsv2==0.3.6", "acvl-utils==0.2.6", "blosc2==4.14.1", "ndindex", "numexpr", "msgpack"),
    *("connected-components-3d", "fft-conv-pytorch", "imagecodecs", "einops", "graphviz", "seaborn", "yacs"),
    *("tqdm", "unittest2", "future"),
)
"""Without their own dependencies: torch, NumPy, timm, scikit-image, SimpleITK and nibabel stay those of this
environment. nnU-Net alone would bring a second torch of several GB."""
PLANNING = "nnunetv2.experiment_planning.experiment_planners"
PLANNERS = {
    "default": ("default_experiment_planner", "ExperimentPlanner"),
    "resenc_l": ("residual_unets.residual_encoder_unet_planners", "nnUNetPlannerResEncL"),
}
"""Preset to the module in :data:`PLANNING` and the class."""


def write_dataset(folder: Path, fingerprint: dict[str, Any], description: dict[str, Any]) -> Path:
    """Writes what nnU-Net plans from: a fingerprint, a description, and one tiny case, which it only tries to open.

    Args:
        folder: New folder; nnU-Net is told by variables of the environment that its data is there.
        fingerprint: Content of ``dataset_fingerprint.json``.
        description: Content of ``dataset.json``.

    Returns:
        The file of the fingerprint.
    """
    import nibabel

    raw, preprocessed = folder / "raw" / "Dataset001_made", folder / "preprocessed" / "Dataset001_made"
    for each in (raw / "imagesTr", raw / "labelsTr", preprocessed, folder / "results"):
        each.mkdir(parents=True)
    for each in (raw, preprocessed):
        (each / "dataset.json").write_text(json.dumps(description))
    file = preprocessed / "dataset_fingerprint.json"
    file.write_text(json.dumps(fingerprint))
    for name in ("imagesTr/case_0000.nii.gz", "labelsTr/case.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), raw / name)
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    return file


def nnunet_planner(preset: str) -> Callable[[], Path]:
    """Returns what plans the data set of :func:`write_dataset` from file to file, and returns the file."""
    module, name = PLANNERS[preset]
    planner = getattr(importlib.import_module(f"{PLANNING}.{module}"), name)

    def plan() -> Path:
        with contextlib.redirect_stdout(io.StringIO()):
            made = planner(1)
            made.plan_experiment()
        return Path(os.environ["nnUNet_preprocessed"]) / made.dataset_name / f"{made.plans_identifier}.json"  # noqa: SIM112  # its name

    return plan


def nnunet_export(
    logits: np.ndarray, shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> np.ndarray:
    """Returns classes ``(Z, Y, X)`` of logits ``(C, z, y, x)``: resampled as nnU-Net's plans have it, then argmax."""
    import torch

    resampling: Any = importlib.import_module("nnunetv2.preprocessing.resampling.default_resampling")
    full = resampling.resample_data_or_seg_to_shape(
        logits, shape, spacing, new_spacing, is_seg=False, order=1, order_z=0, force_separate_z=None
    )
    return torch.from_numpy(full).argmax(0).numpy()


def residual_encoder_unet(plan: Plan, channels: int, outputs: int) -> nn.Module:
    """Returns the network of dynamic_network_architectures for a plan, with deep supervision."""
    unet: Any = importlib.import_module("dynamic_network_architectures.architectures.unet")
    dims = plan.dims
    network = unet.ResidualEncoderUNet(
        channels,
        len(plan.strides),
        plan.widths,
        {2: nn.Conv2d, 3: nn.Conv3d}[dims],
        plan.kernels,
        plan.strides,
        plan.blocks,
        outputs,
        plan.decoder_convs,
        conv_bias=True,
        norm_op={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    network.apply(network.initialize)
    return network
