"""Made cells and organs: real layouts, the same files for a seed, and neither trivial nor hopeless."""

import json
import sys

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from core.errors import DataError
from tasks.segmentation.data import synthetic


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "cells"
    synthetic.write_cells(folder)
    return folder


@pytest.fixture(scope="module")
def organs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "organs"
    synthetic.write_organs(folder)
    return folder


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


def pairs_of_cells(folder):
    names = sorted(path.name for path in (folder / "images").iterdir())
    return [(picture(folder / "images" / name), picture(folder / "labels" / name)) for name in names]


def volumes_of(folder):
    names = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())
    images = [nibabel.load(folder / "imagesTr" / f"{name}_0000.nii.gz") for name in names]
    return images, [nibabel.load(folder / "labelsTr" / f"{name}.nii.gz") for name in names]


def test_cells_have_the_layout_of_image_and_label_folders(cells):
    names = [f"cell_{i:03d}.png" for i in range(24)]
    assert sorted(p.name for p in (cells / "images").iterdir()) == names
    assert sorted(p.name for p in (cells / "labels").iterdir()) == names
    for image, labels in pairs_of_cells(cells):
        assert image.shape == labels.shape == (96, 96)
        assert image.dtype == np.uint8 and labels.max() < 65536
    with Image.open(cells / "labels" / names[0]) as file:
        assert file.mode.startswith("I;16")


def test_cells_are_numbered_in_one_piece_each(cells):
    for _, labels in pairs_of_cells(cells):
        numbers = np.unique(labels)
        assert numbers.tolist() == list(range(len(numbers))) and len(numbers) > 4
        assert all(ndimage.label(labels == number)[1] == 1 for number in numbers[1:])


def test_cells_touch(cells):
    touching = 0
    for _, labels in pairs_of_cells(cells):
        left, right = labels[:, :-1], labels[:, 1:]
        touching += np.any((left > 0) & (right > 0) & (left != right))
    assert touching > 20


def test_one_threshold_for_an_image_is_not_enough_for_cells(cells):
    scores = [dice(image > threshold_otsu(image), labels > 0) for image, labels in pairs_of_cells(cells)]
    assert 0.7 < np.mean(scores) < 0.85


def test_cells_can_be_told_from_the_background_in_theory(cells):
    # Each cell is brighter than what lies around it, also those that Otsu misses.
    brighter = []
    for image, labels in pairs_of_cells(cells):
        near = ndimage.binary_dilation(labels > 0, iterations=5) & ~ndimage.binary_dilation(labels > 0)
        for number in range(1, labels.max() + 1):
            around = ndimage.binary_dilation(labels == number, iterations=5) & near
            if around.sum() > 20:
                brighter.append(np.median(image[labels == number]) > np.median(image[around]))
    assert np.mean(brighter) > 0.97


def test_organs_have_the_layout_of_an_nnunet_folder(organs):
    description = json.loads((organs / "dataset.json").read_text())
    assert description == {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "head": 1, "tail": 2},
        "numTraining": 16,
        "file_ending": ".nii.gz",
    }
    images, labels = volumes_of(organs)
    assert len(images) == len(labels) == 16
    for image, label in zip(images, labels, strict=True):
        assert image.shape == label.shape == (32, 40, 24)
        np.testing.assert_array_equal(image.affine, label.affine)
        assert set(np.unique(label.dataobj)) == {0, 1, 2}
        assert np.isfinite(image.dataobj).all()


def test_spacings_and_scales_of_the_organs_vary(organs):
    images, _ = volumes_of(organs)
    spacings = np.array([image.header.get_zooms() for image in images])
    assert (spacings[:, 2] > 1.2 * spacings[:, 0]).all(), "slices are thick"
    assert len(np.unique(spacings.round(3), axis=0)) == 16
    medians = [np.median(image.dataobj) for image in images]
    assert max(medians) > 100 * min(medians)


def test_simpleitk_reads_the_same_organs(organs):
    image = SimpleITK.ReadImage(str(organs / "imagesTr" / "organ_003_0000.nii.gz"))
    reference = nibabel.load(organs / "imagesTr" / "organ_003_0000.nii.gz")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), np.asarray(reference.dataobj).T)
    np.testing.assert_allclose(image.GetSpacing(), reference.header.get_zooms(), rtol=1e-6)


def test_organs_are_neighbours_that_a_mean_shape_does_not_find(organs):
    maps = np.stack([np.asarray(label.dataobj) for label in volumes_of(organs)[1]])
    scores = []
    for i in range(len(maps)):
        others = np.delete(maps, i, axis=0)
        likely = np.stack([(others == c).mean(0) for c in range(3)]).argmax(0)
        scores.append([dice(likely == c, maps[i] == c) for c in (1, 2)])
        assert np.any(ndimage.binary_dilation(maps[i] == 1) & (maps[i] == 2))
    assert 0.45 < np.mean(scores) < 0.65


def test_other_things_are_as_bright_as_the_organs(organs):
    found = 0
    for image, label in zip(*volumes_of(organs), strict=True):
        values, classes = ndimage.gaussian_filter(np.asarray(image.dataobj), 1), np.asarray(label.dataobj)
        away = ~ndimage.binary_dilation(classes > 0, iterations=3)
        found += np.count_nonzero(values[away] > np.median(values[classes == 2])) > 30
    assert found > 8


@pytest.mark.parametrize("write", [synthetic.write_cells, synthetic.write_organs])
def test_same_seed_same_files(write, tmp_path):
    for name, seed, cases in (("a", 5, 2), ("b", 5, 2), ("more", 5, 3), ("other", 6, 2)):
        write(tmp_path / name, seed=seed, cases=cases)
    first = contents(tmp_path / "a")
    assert contents(tmp_path / "b") == first
    drawn = {name for name in first if not name.endswith(".json")}
    more, other = contents(tmp_path / "more"), contents(tmp_path / "other")
    assert all(more[name] == first[name] for name in drawn), "a case depends on its number alone"
    assert all(other[name] != first[name] for name in drawn)


def test_sizes(tmp_path):
    synthetic.write_cells(tmp_path / "cells", cases=1, size=64)
    assert picture(tmp_path / "cells/images/cell_000.png").shape == (64, 64)
    synthetic.write_organs(tmp_path / "organs", cases=1, shape=(12, 24, 20))
    assert nibabel.load(tmp_path / "organs/labelsTr/organ_000.nii.gz").shape == (20, 24, 12)


@pytest.mark.parametrize("kind", ["cells", "organs"])
def test_the_command_refuses_a_folder_with_files(kind, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.txt").write_text("")
    monkeypatch.setattr(sys, "argv", ["synthetic", str(tmp_path), "--kind", kind])
    assert synthetic.main() == DataError.exit_code
    assert capsys.readouterr().err == f"error: {tmp_path} is not an empty folder; name a new folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
