"""Packages that are handed on."""

import json

import pytest
import torch

from core.errors import PackageError
from core.task import Packaged
from core.track.bundle import bundle
from core.track.folder import Record, write_record
from core.track.package import load_package, save_package

SCORES = {"test/psnr": 30.5, "baseline/nlm/psnr": 29.0, "loss": 0.1}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    data = {
        "name": "photos",
        "digest": "ab",
        "config": {"path": "/home/ann/photos", "test_path": ["/data/a/set 5"]},
    }
    packaged = Packaged({"layers": 3}, {"w": torch.arange(3.0)}, {"data": data, "input": "in [0, 1], a/b"})
    save_package(folder / "package", packaged, "denoising")
    tags = {
        "git.commit": "c0ffee",
        "git.dirty": "false",
        "seed": "7",
        "version.torch": "2.14.1",
        "command": "/home/ann/skipway/tasks/denoising/train.py --config tasks/denoising/configs/bsd400.yaml "
        "--data.path /home/ann/photos --data.test_path '[/data/set5, /data/b/set6]' --tracking=http://host:5000/x",
    }
    record = Record(id="r", task="denoising", status="FINISHED", tags=tags, metrics=SCORES)
    write_record(folder, record)
    return folder


def change(folder, **values):
    content = json.loads((folder / "run.json").read_text())
    content |= values
    (folder / "run.json").write_text(json.dumps(content))


def test_it_tells_its_origin_and_no_folder_of_the_machine(run, tmp_path):
    package = load_package(bundle(run, tmp_path / "out" / "model"))
    assert torch.equal(package.tensors()["w"], torch.arange(3.0)) and package.config == {"layers": 3}
    origin = package.metadata["provenance"]
    assert (
        origin["commit"] == "c0ffee" and origin["seed"] == "7" and origin["versions"] == {"torch": "2.14.1"}
    )
    assert origin["scores"] == {"test/psnr": 30.5, "baseline/nlm/psnr": 29.0}
    assert origin["command"] == (
        "python -m tasks.denoising.train --config tasks/denoising/configs/bsd400.yaml --data.path photos "
        "--data.test_path '[set5, set6]' --tracking=http://host:5000/x"
    )
    assert package.metadata["data"]["config"] == {"path": "photos", "test_path": ["set 5"]}
    assert package.metadata["input"] == "in [0, 1], a/b"
    text = "".join(path.read_text() for path in package.folder.glob("*.json"))
    assert "/home" not in text and "/data" not in text


def test_what_nobody_could_repeat_is_refused(run, tmp_path):
    change(run, status="RUNNING")
    with pytest.raises(PackageError, match="is RUNNING, not FINISHED; finish it with --resume"):
        bundle(run, tmp_path / "model")
    content = json.loads((run / "run.json").read_text())
    change(run, status="FINISHED", tags=content["tags"] | {"git.dirty": "true"})
    with pytest.raises(PackageError, match="changes that are in no commit"):
        bundle(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()
