"""Exported programs give the probabilities of the networks, for any number of patches."""

from __future__ import annotations

import dataclasses
import json

import base_plan
import numpy as np
import pytest
import torch
from torch import nn

from tasks.segmentation.labels import Labels
from tasks.segmentation.planning.plan import Intensities, Plan
from tasks.segmentation.programs import export_segmenter
from tasks.segmentation.segmenter import Segmenter

LABELS = Labels(("background", "head", "tail"), (0, 1, 2))
PLAN = dataclasses.replace(
    base_plan.PLAN,
    patch_size=(4, 8, 8),
    normalisation=("ct",),
    intensities=(Intensities(40.0, 12.0, -10.0, 90.0),),
)


def network(seed, dims, channels, outputs):
    torch.manual_seed(seed)
    conv, norm = (nn.Conv3d, nn.InstanceNorm3d) if dims == 3 else (nn.Conv2d, nn.InstanceNorm2d)
    return nn.Sequential(
        conv(channels, 4, 3, padding=1),
        norm(4, affine=True),
        nn.LeakyReLU(),
        conv(4, outputs, 1),
    ).eval()


def segmenter(plan=PLAN, labels=LABELS, folds=1, previous=None):
    settings = {
        "labels": labels.to_dict(),
        "channels": ["CT"],
        "plan": plan.to_dict(),
        "postprocessing": None,
        "members": [],
    }
    channels = 1 + plan.previous_classes
    networks = {f"fold_{i}": network(i, plan.dims, channels, labels.outputs) for i in range(folds)}
    return Segmenter(settings, networks, {"data": {"name": "cases"}}, previous)


FLAT = dataclasses.replace(
    PLAN, configuration="2d", spacing=(1.0, 1.0), patch_size=(16, 8), strides=((1, 1),), kernels=((3, 3),)
)


@pytest.mark.parametrize(
    ("plan", "labels"), [(PLAN, LABELS), (FLAT, Labels(("background", "x"), (0, 1)).binary())]
)
def test_a_program_is_the_mean_of_the_folds(tmp_path, plan, labels):
    model = segmenter(plan, labels, folds=2)
    (path,) = export_segmenter(model, tmp_path, "pt2", "segmentation")
    assert path.name == "segmentation.pt2"
    extra = {"metadata.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    patches = torch.randn(3, 1, *plan.patch_size)
    with torch.inference_mode():
        logits = sum(each(patches) for each in model.networks.values()) / 2
        expected = logits.sigmoid() if labels.regions else logits.softmax(1)
        torch.testing.assert_close(program(patches), expected, atol=1e-5, rtol=1e-4)
    metadata = json.loads(extra["metadata.json"])
    assert Plan.from_dict(json.loads(metadata["plan"])) == plan
    assert Labels.from_dict(json.loads(metadata["labels"])) == labels
    assert json.loads(metadata["normalisation"]) == {"CT": "ct"}
    assert "Gaussian" in metadata["how_to_apply"]
    assert ("later regions" in metadata["how_to_apply"]) == bool(labels.regions)


def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = segmenter()
    (path,) = export_segmenter(model, tmp_path, "onnx", "segmentation")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    patches = torch.randn(5, 1, *PLAN.patch_size)
    (found,) = session.run(None, {"image": patches.numpy()})
    with torch.inference_mode():
        expected = model.networks["fold_0"](patches).softmax(1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["channels"]) == ["CT"]


def test_a_cascade_is_two_programs(tmp_path):
    coarse = segmenter(dataclasses.replace(PLAN, configuration="3d_lowres"))
    fine = dataclasses.replace(PLAN, configuration="3d_cascade_fullres", previous_classes=2)
    paths = export_segmenter(segmenter(fine, previous=coarse), tmp_path, "pt2", "segmentation")
    assert [path.name for path in paths] == ["segmentation_previous.pt2", "segmentation.pt2"]
    program = torch.export.load(paths[1]).module()
    assert program(torch.zeros(2, 3, *PLAN.patch_size)).shape == (2, 3, *PLAN.patch_size)


@pytest.mark.parametrize(
    ("plans", "names"),
    [([PLAN, FLAT], ["3d_fullres", "2d"]), ([PLAN, PLAN], ["3d_fullres_0", "3d_fullres_1"])],
)
def test_members_of_an_ensemble_are_programs_of_their_own(tmp_path, plans, names):
    model = segmenter()
    model.networks, model.members = {}, [segmenter(plan) for plan in plans]
    paths = export_segmenter(model, tmp_path, "pt2", "segmentation")
    assert [path.name for path in paths] == [f"segmentation_{name}.pt2" for name in names]
