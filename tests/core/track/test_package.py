from __future__ import annotations

import hashlib
import json
import math
import pickle

import pytest
import torch

from core.errors import PackageError
from core.task import Packaged
from core.track.package import load_package, save_package


@pytest.fixture
def folder(tmp_path):
    weight = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "a": weight,
        "tied": weight,
        "view": weight[:, 1:3],
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    packaged = Packaged({"blocks": 4, "limit": 1.5}, tensors, {"classes": ["x", "y"]})
    return save_package(tmp_path / "package", packaged, "fake")


def test_round_trip_keeps_values_types_and_shapes(folder):
    package = load_package(folder)
    tensors = package.tensors()
    expected = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    assert torch.equal(tensors["a"], expected)
    assert torch.equal(tensors["tied"], expected)
    assert torch.equal(tensors["view"], expected[:, 1:3])
    assert tensors["half"].dtype == torch.bfloat16
    assert package.config == {"blocks": 4, "limit": 1.5}
    assert (package.task, package.metadata["classes"]) == ("fake", ["x", "y"])


def test_numbers_that_json_lacks_become_strings(tmp_path):
    packaged = Packaged(
        {"limit": math.inf, "sizes": (1, 2)},
        {"a": torch.zeros(1)},
        {"data": {"missing": math.nan, "list": [-math.inf]}},
    )
    folder = save_package(tmp_path / "package", packaged, "fake")
    for name in ("config.json", "metadata.json"):
        json.loads((folder / name).read_text(), parse_constant=pytest.fail)
    package = load_package(folder)
    assert package.config == {"limit": "inf", "sizes": [1, 2]}
    assert package.metadata["data"] == {"missing": "nan", "list": ["-inf"]}


def test_files_are_three_and_their_digests_are_recorded(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "weights.safetensors", "metadata.json"}
    recorded = json.loads((folder / "metadata.json").read_text())["sha256"]
    for name, digest in recorded.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_saving_again_replaces_the_whole_package_and_leaves_no_rest(folder):
    (folder / "stray.txt").write_text("old")
    save_package(folder, Packaged({"blocks": 5}, {"b": torch.zeros(1)}), "fake")
    assert not (folder / "stray.txt").exists()
    assert set(load_package(folder).tensors()) == {"b"}
    assert [path.name for path in folder.parent.iterdir()] == ["package"]


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "metadata.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(PackageError, match=f"{name} is missing"):
        load_package(folder)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_one_changed_byte_is_found(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} is damaged or was changed"):
        load_package(folder)


def test_truncated_weights_are_found_also_when_the_digest_was_made_to_fit(folder):
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(PackageError, match="damaged"):
        load_package(folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["sha256"]["weights.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(PackageError, match="damaged"):
        load_package(folder).tensors()


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\xff"])
def test_damaged_metadata_is_one_line(folder, text):
    (folder / "metadata.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert "\n" not in str(caught.value)
    assert "metadata.json" in str(caught.value)


def test_a_newer_format_says_what_to_install(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(
        json.dumps({**metadata, "format_version": 2, "skipway_version": "9.1"})
    )
    with pytest.raises(PackageError, match=r"format 2.*install skipway 9\.1"):
        load_package(folder)


@pytest.mark.parametrize("name", ["model.pkl", "sub/model.PTH", "x.bin", "x.ckpt", "x.joblib", "x.pt"])
def test_pickles_are_refused(folder, name):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(PackageError, match="pickle"):
        load_package(folder)


def test_no_folder(tmp_path):
    with pytest.raises(PackageError, match="no model package at"):
        load_package(tmp_path / "nothing")


def test_weights_that_are_nan_are_refused(tmp_path):
    model = torch.nn.Linear(2, 1)
    good = save_package(tmp_path / "good", Packaged({}, model.state_dict()), "fake")
    assert not load_package(good).load_into(torch.nn.Linear(2, 1)).training
    model.weight.data[0, 1] = math.nan
    bad = save_package(tmp_path / "bad", Packaged({}, model.state_dict()), "fake")
    with pytest.raises(PackageError, match="weights that are NaN; train again"):
        load_package(bad).load_into(torch.nn.Linear(2, 1))


def test_a_format_below_the_first_is_refused(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "format_version": -1}))
    with pytest.raises(PackageError, match="lacks format_version"):
        load_package(folder)
