"""Trainings of nnU-Net as models of ours."""

import dataclasses

import numpy as np
import pytest
import torch

from core.cli import main as run
from core.track.package import load_package
from tasks.segmentation.build import load_segmenter
from tasks.segmentation.config import PlainConfig
from tasks.segmentation.from_nnunet import main
from tasks.segmentation.models.build import build_network
from tasks.segmentation.models.reference import to_nnunet
from tasks.segmentation.planning.fingerprint import Fingerprint
from tasks.segmentation.planning.nnunet_json import to_json
from tasks.segmentation.planning.planner import make_plans
from tasks.segmentation.task import TASK

STATISTICS = {"max": 9.0, "mean": 5.0, "median": 5.0, "min": 0.0, "std": 2.0}
STATISTICS |= {"percentile_00_5": 1.0, "percentile_99_5": 9.0}
DATASET = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "head": 1, "tail": 2}}


@pytest.fixture
def trained(tmp_path):
    """Two folds of a tiny network in nnU-Net's own files, and the networks."""
    fingerprint = Fingerprint([(1.0, 1.0, 1.0)] * 9, [(12, 16, 12)] * 9, 1.0, [STATISTICS])
    plans = make_plans(fingerprint, 3, ["MRI"], "default", name="Dataset001_Tiny")
    planned = plans.configurations["3d_fullres"]
    small = dataclasses.replace(planned, widths=(4, 6, 8)[: len(planned.widths)])
    plans.configurations["3d_fullres"] = small
    folder, networks = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", []
    for fold in (0, 1):
        torch.manual_seed(fold)
        networks.append(build_network(PlainConfig(), small, 1, 3).eval())
        given = {"configuration": "3d_fullres", "plans": to_json(plans), "dataset_json": DATASET}
        content = {
            "network_weights": to_nnunet(networks[-1].state_dict()),
            "init_args": given,
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 2),
            "_best_ema": np.float64(0.5),
        }
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder, networks


def test_folds_become_a_model_with_the_same_outputs(trained, tmp_path, capsys):
    folder, networks = trained
    assert main([str(folder), str(tmp_path / "model")]) == 0
    assert "2 fold(s) of Dataset001_Tiny" in capsys.readouterr().out
    segmenter = load_segmenter(load_package(tmp_path / "model"))
    assert segmenter.mirror_axes == [0, 2] and segmenter.labels.names == ("background", "head", "tail")
    x = torch.randn(1, 1, *segmenter.plan.patch_size, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        for name, network in zip(("fold_0", "fold_1"), networks, strict=True):
            torch.testing.assert_close(segmenter.networks[name](x), network(x), rtol=1e-4, atol=1e-5)


def test_the_model_segments_files(trained, tmp_path):
    import nibabel

    assert main([str(trained[0]), str(tmp_path / "model")]) == 0
    volume = np.random.default_rng(0).random((12, 16, 13)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii.gz")
    argv = [f"--model={tmp_path / 'model'}", f"--input={tmp_path / 'a.nii.gz'}", "--tracking=none"]
    assert run(TASK, "predict", argv) == 0
    assert nibabel.load(tmp_path / "a_seg.nii.gz").shape == volume.shape


def test_what_is_no_training_is_one_line(trained, tmp_path, capsys):
    folder = trained[0]
    assert main([str(tmp_path / "none"), str(tmp_path / "x")]) == 1
    assert "no fold_*/checkpoint_final.pth" in capsys.readouterr().err
    (folder / "fold_1" / "checkpoint_final.pth").write_bytes(b"PK\x03\x04")
    assert main([str(folder), str(tmp_path / "x")]) == 1
    said = capsys.readouterr().err
    assert "fold_1" in said and len(said.strip().splitlines()) == 1
    assert main([str(folder), str(folder)]) == 2
    assert not (tmp_path / "x").exists()
