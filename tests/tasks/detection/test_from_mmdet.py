"""Checkpoints of mmdetection as models of ours."""

from __future__ import annotations

import os
import sys
import types

import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from core.track.package import load_package
from tasks.detection.coco_classes import CATEGORY_IDS, NAMES
from tasks.detection.from_mmdet import main, package_mmdet, read_names
from tasks.detection.models.reference import read_checkpoint, read_mmdet
from tasks.detection.models.rtmdet import RTMDet
from tasks.detection.models.rtmdet_ins import RTMDetIns

CELLS = ("RBC", "WBC", "Platelets")


@pytest.fixture
def history(monkeypatch):
    """A curve of a training as mmengine keeps it: an object of a class that is not installed when it is read."""

    class HistoryBuffer:
        def __init__(self):
            self.values = np.arange(3.0)

        def __getstate__(self):
            return {**self.__dict__, "statistics_methods": {"min": HistoryBuffer.min}}

        def min(self):
            raise AssertionError("code of the file has run")

    module = types.ModuleType("mmengine_stand_in")
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.min.__module__, HistoryBuffer.min.__qualname__ = module.__name__, "HistoryBuffer.min"
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return HistoryBuffer()


def save(path, network, history=None, **meta):
    content = {
        "meta": {"epoch": 300, "cfg": "model = dict(type='RTMDet')", **meta},
        "state_dict": {**network.state_dict(), "data_preprocessor.mean": torch.zeros(3, 1, 1)},
        "ema_state_dict": {"steps": torch.tensor(5)},
        "message_hub": {"log_scalars": {"train/loss": history}, "lr": np.float64(0.004)},
    }
    torch.save(content, path)
    return path


@pytest.fixture
def trained(tmp_path, history, monkeypatch):
    torch.manual_seed(0)
    network = RTMDet("tiny", 3).eval()
    path = save(tmp_path / "epoch_300.pth", network, history, dataset_meta={"classes": CELLS})
    monkeypatch.delitem(sys.modules, "mmengine_stand_in")
    return path, network


def test_a_checkpoint_becomes_a_model_with_the_same_outputs(trained, tmp_path, capsys):
    from tasks.detection.build import load_network

    path, network = trained
    target = tmp_path / "cells"
    assert main([str(path), str(target), "--image-size", "320"]) == 0
    assert "rtmdet tiny, 3 classes" in capsys.readouterr().out
    package = load_package(target)
    assert package.config["classes"] == list(CELLS) and package.config["category_ids"] == [1, 2, 3]
    assert package.config["image_size"] == 320 and package.config["model"]["size"] == "tiny"
    loaded = load_network(package)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for a, b in zip(loaded.decode(loaded(x)), network.decode(network(x)), strict=True):
            assert torch.equal(a, b)


def test_objects_of_a_checkpoint_come_back_empty_and_run_nothing(trained):
    content = read_checkpoint(trained[0])
    assert "mmengine_stand_in" not in sys.modules
    assert content["meta"]["epoch"] == 300
    assert vars(content["message_hub"]["log_scalars"]["train/loss"]) == {}


def test_a_file_that_would_run_a_command_does_not(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    class Quiet:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"state_dict": {}, "more": Attack()}, tmp_path / "bad.pth")
    with pytest.raises(DataError, match="safely"):
        read_checkpoint(tmp_path / "bad.pth")
    torch.save({"state_dict": {}, "more": Quiet()}, tmp_path / "quiet.pth")
    read_checkpoint(tmp_path / "quiet.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", ["nano", "tiny", "s"])
@pytest.mark.parametrize("kind", [RTMDet, RTMDetIns])
def test_size_and_kind_are_read_off_the_weights(tmp_path, kind, size):
    found = read_mmdet(save(tmp_path / "x.pth", kind(size, 2)))
    assert (found.model, found.size, found.classes) == (
        {RTMDet: "rtmdet", RTMDetIns: "rtmdet_ins"}[kind],
        size,
        2,
    )
    assert found.names is None


def test_eighty_classes_without_names_are_those_of_coco(tmp_path):
    packaged = package_mmdet(save(tmp_path / "coco.pth", RTMDet("tiny", 80)))
    assert packaged.config["classes"] == NAMES and packaged.config["category_ids"] == CATEGORY_IDS
    assert packaged.config["image_size"] == 640


def test_numbers_of_coco_have_its_gaps():
    numbers = dict(zip(NAMES, CATEGORY_IDS, strict=True))
    known = {
        "person": 1,
        "stop sign": 13,
        "bird": 16,
        "backpack": 27,
        "handbag": 31,
        "bottle": 44,
        "wine glass": 46,
    }
    known |= {"dining table": 67, "toilet": 70, "tv": 72, "refrigerator": 82, "book": 84, "toothbrush": 90}
    assert {name: numbers[name] for name in known} == known and len(NAMES) == 80


def test_names_are_those_given(trained, tmp_path):
    (tmp_path / "names.txt").write_text("red cell\nwhite cell\n\nplatelet\n")
    assert read_names(str(tmp_path / "names.txt")) == ["red cell", "white cell", "platelet"]
    assert read_names("a, b,c") == ["a", "b", "c"]
    assert package_mmdet(trained[0], ["a", "b", "c"]).config["classes"] == ["a", "b", "c"]


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "b"]])
def test_names_must_be_as_many_as_the_classes(trained, names):
    with pytest.raises(ConfigError, match="3 classes"):
        package_mmdet(trained[0], names)


def test_classes_without_names_are_asked_for(tmp_path):
    with pytest.raises(DataError, match="give --classes"):
        package_mmdet(save(tmp_path / "x.pth", RTMDet("tiny", 2)))


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    path, _ = trained
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "other.pth")
    (tmp_path / "there").mkdir()
    new = str(tmp_path / "new")
    for argv, code, said in [
        ([str(tmp_path / "missing.pth"), new], 1, "cannot be read"),
        ([str(tmp_path / "text.pth"), new], 1, "no checkpoint"),
        ([str(tmp_path / "list.pth"), new], 1, "holds a list"),
        ([str(tmp_path / "other.pth"), new], 1, "no checkpoint of RTMDet"),
        ([str(path), str(tmp_path / "there")], 2, "exists"),
        ([str(path), new, "--image-size", "100"], 2, "multiple of 32"),
        ([str(path), new, "--classes", str(tmp_path / "none.txt")], 1, "cannot be read"),
    ]:
        assert main(argv) == code
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_weights_that_do_not_fit_name_a_layer(tmp_path):
    network = RTMDet("tiny", 3)
    state = network.state_dict()
    del state["neck.out_convs.0.conv.weight"]
    torch.save({"state_dict": state}, tmp_path / "cut.pth")
    with pytest.raises(DataError, match=r"neck\.out_convs\.0\.conv\.weight"):
        package_mmdet(tmp_path / "cut.pth", list(CELLS))
