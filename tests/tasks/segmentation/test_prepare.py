"""Preprocessed cases in a folder: found again, damaged, of other plans, and with a coarser result."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from base_plan import PLAN

from core.errors import ConfigError, DataError
from tasks.segmentation import prepare
from tasks.segmentation.data.cases import Case, Fold, Geometry, Scan, SegmentationData, Voxels
from tasks.segmentation.labels import Labels
from tasks.segmentation.prepare import Previous, prepare_cases

SHAPE = (4, 6, 5)
LABELS = Labels(("background", "head"), (0, 1))


@pytest.fixture
def data():
    """Two cases with fields of view; ``reads`` counts how often one was read."""
    rng = np.random.default_rng(0)
    geometry = Geometry(SHAPE, (1.0, 1.0, 1.0), ".nii.gz")
    cases = [
        Case(name, (), None, None, geometry, Scan(name * 8, SHAPE, (1.0,) * 3, 1.0, np.zeros((1, 0)), {0: 1}))
        for name in "ab"
    ]
    content = {
        name: Voxels(
            rng.uniform(1, 2, (1, *SHAPE)).astype(np.float32),
            rng.integers(0, 2, SHAPE).astype(np.int16),
            rng.random(SHAPE) < 0.8,
            None,
            geometry,
        )
        for name in "ab"
    }
    reads = []

    def read(case):
        reads.append(case.name)
        return content[case.name]

    data = SegmentationData("x", cases, [Fold("model", (0,), (), (1,))], LABELS, ["MRI"], read)
    data.reads = reads
    return data


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_finds_the_same_arrays(data, tmp_path):
    memory = prepare_cases(data, PLAN, [0, 1])
    folder = tmp_path / "cache"
    first = prepare_cases(data, PLAN, [0, 1], str(folder))
    assert data.reads == ["a", "b"] * 2 and [name[:2] for name in entries(folder)] == ["a-", "b-"]
    second = prepare_cases(data, PLAN, [0, 1], str(folder))
    assert len(data.reads) == 4, "nothing is read again"
    for position, expected in memory.items():
        for found in (first[position], second[position]):
            for name in ("image", "labels", "mask"):
                array = getattr(found, name)
                assert isinstance(array, np.memmap) and array.dtype == getattr(expected, name).dtype
                np.testing.assert_array_equal(array, getattr(expected, name))
            assert found.frame == expected.frame and found.foreground.keys() == expected.foreground.keys()
            for label, places in expected.foreground.items():
                np.testing.assert_array_equal(found.foreground[label], places)


@pytest.mark.parametrize("kept", [0, 40, -4])
@pytest.mark.parametrize("file", ["image.npy", "foreground.npz", "frame.json"])
def test_a_damaged_entry_is_one_line(data, tmp_path, file, kept):
    prepare_cases(data, PLAN, [0], str(tmp_path))
    path = tmp_path / entries(tmp_path)[0] / file
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError) as caught:
        prepare_cases(data, PLAN, [0], str(tmp_path))
    said = str(caught.value)
    assert said.startswith(f"{path.parent} is damaged (") and "delete this folder" in said
    assert "\n" not in said


def test_an_entry_without_its_image_is_damaged(data, tmp_path):
    prepare_cases(data, PLAN, [0], str(tmp_path))
    path = tmp_path / entries(tmp_path)[0] / "image.npy"
    path.unlink()
    with pytest.raises(DataError, match=r"is damaged \(image.npy is missing\)"):
        prepare_cases(data, PLAN, [0], str(tmp_path))


def test_what_changes_the_arrays_makes_another_entry(data, tmp_path):
    def count(plan=PLAN, previous=None):
        prepare_cases(data, plan, [0], str(tmp_path), previous)
        return len(entries(tmp_path))

    assert count() == 1
    assert count(dataclasses.replace(PLAN, batch_size=7, patch_size=(4, 4, 4))) == 1, (
        "no change of the arrays"
    )
    assert count(dataclasses.replace(PLAN, normalisation=("none",))) == 2
    assert count(dataclasses.replace(PLAN, spacing=(1.0, 2.0, 1.0))) == 3
    scan = dataclasses.replace(data.cases[0].scan, digest="other")
    data.cases[0] = dataclasses.replace(data.cases[0], scan=scan)
    assert count() == 4
    assert count(dataclasses.replace(PLAN, previous_classes=1), Previous(Coarse(), "1")) == 5
    assert count(dataclasses.replace(PLAN, previous_classes=1), Previous(Coarse(), "2")) == 6


class Coarse:
    """A coarser model of two networks that each learned from one case; it says ones."""

    def __init__(self):
        self.asked = []

    def unseen(self, name):
        return ["fold_0" if name == "a" else "fold_1"]

    def segment(self, voxels, name, folds=None):
        self.asked.append((name, folds))
        return SimpleNamespace(labels=np.ones(SHAPE, np.int16))


def test_the_coarser_result_is_by_networks_that_did_not_learn_from_the_case(data):
    coarse = Coarse()
    found = prepare_cases(
        data, dataclasses.replace(PLAN, previous_classes=1), [0, 1], None, Previous(coarse, "")
    )
    assert coarse.asked == [("a", ["fold_0"]), ("b", ["fold_1"])]
    assert found[0].image.shape == (2, *SHAPE) and (found[0].image[1] == 1).all()


def test_a_full_disk_leaves_nothing_behind(data, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare.np, "savez", full)
    with pytest.raises(ConfigError, match=r"--data.cache .* cannot be written \(No space left on device\)"):
        prepare_cases(data, PLAN, [0], str(tmp_path))
    assert entries(tmp_path) == []
