"""Folders as their owners ship them: what is found in them, and what it means."""

import numpy as np
import pytest
from case_folders import (
    blobs,
    describe,
    labels,
    load,
    names,
    nnunet,
    picture,
    pictures,
    save,
    told,
    volume,
)

from core.errors import DataError
from tasks.segmentation.data.layouts import find_cases, find_inputs, other_files
from tasks.segmentation.labels import Labels


def test_nnunet_raw(tmp_path):
    data = load(nnunet(tmp_path / "Dataset004_Test", channels=2))
    assert (data.name, data.size, data.flat) == ("Dataset004_Test", 6, False)
    assert data.labels == Labels(("background", "head", "tail"), (0, 1, 2))
    assert data.channels == ["MRI", "CT"]
    case = data.cases[3]
    assert [path.name for path in case.images] == ["case_03_0000.nii.gz", "case_03_0001.nii.gz"]
    voxels = data.read(case)
    np.testing.assert_array_equal(voxels.image, [volume(3), volume(103)])
    np.testing.assert_array_equal(voxels.labels, labels(3))
    assert voxels.image.dtype == np.float32 and voxels.labels.dtype == np.int16
    assert case.geometry.spacing == (3.0, 1.0, 2.0) and voxels.mask is None and voxels.objects is None
    one = load(tmp_path / "Dataset004_Test", channels=[1])
    assert one.channels == ["CT"] and one.cases[3].scan.intensities.shape[0] == 1
    np.testing.assert_array_equal(one.read(one.cases[3]).image, [volume(103)])


def test_regions_and_ignore(tmp_path):
    meaning = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    root = nnunet(tmp_path / "a", labels=meaning, regions_class_order=[1, 2, 3])
    for i in range(6):
        save(root / "labelsTr" / f"case_{i:02}.nii.gz", labels(i, most=4))
    data = load(root)
    assert data.labels.regions == (("whole", (1, 2, 3)), ("core", (2, 3)), ("enhancing", (3,)))
    assert data.labels.order == (1, 2, 3) and data.labels.ignore == 4
    assert data.labels.names == ("background", "label 1", "label 2", "enhancing")
    truth = labels(0, most=4).astype(int)
    np.testing.assert_array_equal(data.read(data.cases[0]).labels, np.where(truth == 4, -1, truth))
    assert data.cases[0].scan.classes == {
        c: int((truth == (4 if c < 0 else c)).sum()) for c in (0, 1, 2, 3, -1)
    }
    describe(root, labels=meaning, regions_class_order=[1])
    with pytest.raises(DataError, match="one label for each of the 3 regions"):
        load(root)
    describe(root, labels={"background": 0, "a": "x"})
    with pytest.raises(DataError, match='"labels" must give a number'):
        load(root)


def test_files_named_one_by_one(tmp_path):
    entries = {}
    for i in range(5):
        image = save(tmp_path / "elsewhere" / f"im{i}.nii.gz", volume(i))
        label = save(tmp_path / "raw" / "seg" / f"s{i}.nii.gz", labels(i))
        entries[f"p{i}"] = {"images": [str(image)], "label": str(label.relative_to(tmp_path / "raw"))}
    entries["gone"] = {"images": ["../elsewhere/none.nii.gz"], "label": "seg/s0.nii.gz"}
    describe(
        tmp_path / "raw", labels={"background": 0, "x": 1, "y": 2}, file_ending=".nii.gz", dataset=entries
    )
    data = load(tmp_path / "raw")
    assert names(data) == [f"p{i}" for i in range(5)]
    assert told(data, "left out: gone: there is no file")
    np.testing.assert_array_equal(data.read(data.cases[2]).labels, labels(2))


def test_a_test_set_of_nnunet_needs_labels(tmp_path):
    root = nnunet(tmp_path / "a")
    save(root / "imagesTs" / "t_0000.nii.gz", volume(50))
    data = load(root)
    assert len(data.folds[0].test) == 1 and data.size == 6
    assert told(data, "imagesTs is not used")
    save(root / "labelsTs" / "t.nii.gz", labels(50))
    save(root / "imagesTs" / "case_00_0000.nii.gz", volume(51))
    save(root / "labelsTs" / "case_00.nii.gz", labels(51))
    data = load(root)
    assert names(data, data.folds[0].test) == ["t", "test_case_00"]
    assert len(data.folds[0].train) + len(data.folds[0].validation) == 6


def test_decathlon(tmp_path):
    training = []
    for i in range(6):
        save(tmp_path / "imagesTr" / f"brats_{i:03}.nii.gz", np.stack([volume(i), volume(100 + i)]))
        save(tmp_path / "labelsTr" / f"brats_{i:03}.nii.gz", labels(i))
        save(tmp_path / "imagesTr" / f"._brats_{i:03}.nii.gz", volume(i))
        training.append({
            "image": f"./imagesTr/brats_{i:03}.nii.gz",
            "label": f"./labelsTr/brats_{i:03}.nii.gz",
        })  # fmt: skip
    described = {"0": "background", "1": "edema", "2": "tumour"}
    describe(tmp_path, modality={"0": "FLAIR", "1": "T1w"}, labels=described, training=training, test=["x"])
    data = load(tmp_path)
    assert names(data) == [f"brats_{i:03}" for i in range(6)]
    assert data.channels == ["FLAIR", "T1w"] and data.labels.names == ("background", "edema", "tumour")
    np.testing.assert_array_equal(data.read(data.cases[1]).image, [volume(1), volume(101)])


def test_volumes_without_a_description(tmp_path):
    for i in range(6):
        save(tmp_path / "imagesTr" / f"hippocampus_{i:03}.nii.gz", volume(i))
        save(tmp_path / "labelsTr" / f"hippocampus_{i:03}.nii.gz", labels(i))
    data = load(tmp_path)
    assert data.labels == Labels(("background", "label 1", "label 2"), (0, 1, 2))
    assert data.channels == ["image"] and names(data)[0] == "hippocampus_000"


def test_numbers_at_the_end_of_names_need_not_be_channels(tmp_path):
    for i in range(4):
        save(tmp_path / "imagesTr" / f"a_000{i}.nii.gz", volume(i))
        save(tmp_path / "labelsTr" / f"a_000{i}.nii.gz", labels(i))
    assert names(load(tmp_path)) == [f"a_000{i}" for i in range(4)]


@pytest.mark.parametrize("original", [True, False])
def test_drive(tmp_path, original):
    folders = ("images", "1st_manual", "mask") if original else ("image", "label", "fov")
    for part, first in (("training", 21), ("test", 1)):
        root = tmp_path / (part if original or part == "test" else "train")
        for i in range(first, first + 5):
            files = (f"{i:02}_{part}.tif", f"{i:02}_manual1.gif", f"{i:02}_{part}_mask.gif")
            view = np.zeros((12, 14), np.uint8)
            view[1:-1, 1:-1] = 255
            vessels = np.where(picture(i + 90) > 200, 255, 0).astype(np.uint8)
            for folder, file, values in zip(
                folders, files, (picture(i, channels=3), vessels, view), strict=True
            ):
                save(root / folder / (file if original else f"{i:02}.png"), values)
            save(root / ("2nd_manual" if original else "label2") / f"{i:02}_manual2.gif", vessels)
    data = load(tmp_path)
    fold = data.folds[0]
    assert names(data, fold.test) == ["01", "02", "03", "04", "05"]
    assert names(data, {*fold.train, *fold.validation}) == ["21", "22", "23", "24", "25"]
    assert data.labels == Labels(("background", "vessel"), (0, 255)) and data.channels == ["rgb_to_0_1"] * 3
    voxels = data.read(data.cases[-1])
    np.testing.assert_array_equal(voxels.image[:, 0], picture(25, channels=3).transpose(2, 0, 1))
    np.testing.assert_array_equal(voxels.labels[0], picture(115) > 200)
    assert voxels.mask.dtype == bool and voxels.mask.sum() == 10 * 12
    assert sum(data.cases[-1].scan.classes.values()) == 10 * 12, "only the field of view counts"
    assert told(data, "second observer's labels, is not used")


@pytest.mark.parametrize("folders", [("images", "masks"), ("image", "label"), ("imgs", "gt")])
def test_images_and_masks(tmp_path, folders):
    data = load(pictures(tmp_path / "a", names=folders))
    assert data.size == 8 and data.flat and data.channels == ["gray"]
    assert data.labels == Labels(("background", "foreground"), (0, 255))
    assert all(case.geometry.spacing == (999.0, 1.0, 1.0) for case in data.cases)
    assert set(np.unique(data.read(data.cases[0]).labels)) == {0, 1}


def test_words_tell_the_files_of_a_case_apart(tmp_path):
    for i in range(4):
        save(tmp_path / "images" / f"ISIC_000000{i}.png", picture(i, channels=3))
        mask = np.where(picture(i + 90) > 99, 255, 0).astype(np.uint8)
        save(tmp_path / "masks" / f"ISIC_000000{i}_segmentation.png", mask)
    assert names(load(tmp_path)) == [f"ISIC_000000{i}" for i in range(4)]


def numbered(root, count=6, objects=lambda i: 9 + i):
    for i in range(count):
        save(root / "images" / f"{i}.png", picture(i, (48, 48)))
        save(root / "labels" / f"{i}.png", blobs(i, objects(i)))
    return root


def test_labels_that_number_objects(tmp_path):
    data = load(numbered(tmp_path / "a"))
    assert data.labels.instances and [name for name, _ in data.labels.targets] == ["object", "core"]
    voxels = data.read(data.cases[2])
    np.testing.assert_array_equal(voxels.objects[0], blobs(2, 11))
    assert voxels.objects.dtype == np.int32
    # Each square of 4x4 has a core of 2x2.
    assert data.cases[2].scan.classes == {0: 2304 - 11 * 16, 1: 11 * 12, 2: 11 * 4}
    assert np.bincount(voxels.labels.ravel()).tolist() == [2304 - 11 * 16, 11 * 12, 11 * 4]
    assert told(data, "up to 14 in a case")
    classes = load(tmp_path / "a", instances="no")
    assert len(classes.labels.names) == 15 and not classes.labels.instances


def test_few_objects_are_numbered_only_when_it_is_said(tmp_path):
    root = numbered(tmp_path / "a", objects=lambda i: 1 + i % 3)
    assert load(root).labels.names == ("background", "label 1", "label 2", "label 3")
    assert load(root, instances="yes").labels.instances


def test_classes_of_scattered_pixels_number_nothing(tmp_path):
    for i in range(6):
        save(tmp_path / "images" / f"{i}.png", picture(i))
        save(tmp_path / "labels" / f"{i}.png", labels(i, (12, 14), 9 + i))
    assert not load(tmp_path).labels.instances


def test_inputs_of_predict(tmp_path):
    for name in ("b_0000", "b_0001", "a_0000", "a_0001"):
        save(tmp_path / f"{name}.nii.gz", volume(0))
    (tmp_path / "readme.txt").write_text("")
    (tmp_path / ".hidden.png").write_text("")
    found = find_inputs(tmp_path)
    assert [(name, [path.name for path in paths]) for name, paths in found] == [
        ("a", ["a_0000.nii.gz", "a_0001.nii.gz"]),
        ("b", ["b_0000.nii.gz", "b_0001.nii.gz"]),
    ]
    assert find_inputs(tmp_path / "a_0000.nii.gz") == found[:1]
    assert [name for name, _ in find_inputs(tmp_path, 1)] == ["a_0000", "a_0001", "b_0000", "b_0001"]
    assert find_inputs(tmp_path / "a_0000.nii.gz", 1) == [("a_0000", (tmp_path / "a_0000.nii.gz",))]
    assert [path.name for path in other_files(tmp_path)] == ["readme.txt"]
    single = save(tmp_path / "one" / "x.png", picture(0))
    assert find_inputs(single) == [("x", (single,))]
    save(tmp_path / "one" / "x.bmp", picture(0))
    assert [name for name, _ in find_inputs(tmp_path / "one")] == ["x", "x.png"]
    with pytest.raises(DataError, match="no images in this folder"):
        find_inputs(_empty(tmp_path))
    with pytest.raises(DataError, match="no such file or folder"):
        find_inputs(tmp_path / "none")


def _empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        find_cases(tmp_path / "none")
    with pytest.raises(DataError, match="no images with labels; give imagesTr"):
        find_cases(tmp_path)
    root = pictures(tmp_path / "a")
    with pytest.raises(DataError, match="of the layout drive"):
        find_cases(root, "drive")
    assert find_cases(root, "folders").layout == "folders"
    nnunet(tmp_path / "b", file_ending=".dcm")
    with pytest.raises(DataError, match=r"file_ending '.dcm' is not known"):
        find_cases(tmp_path / "b")
    (tmp_path / "b" / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset.json: cannot be read"):
        find_cases(tmp_path / "b")


def test_images_without_labels_are_for_pre_training(tmp_path):
    for i in range(5):
        save(tmp_path / "a" / f"{i}.nii.gz", volume(i))
        save(tmp_path / "b" / "imagesTr" / f"{i}_0000.nii.gz", volume(i))
    for root in (tmp_path / "a", tmp_path / "b"):
        data = load(root, labelled=False)
        assert data.size == 5 and data.labels.names == ("background",)
        assert data.read(data.cases[0]).labels is None
        assert data.cases[0].scan.intensities.shape == (1, 10_000) and data.cases[0].scan.classes == {0: 0}
        with pytest.raises(DataError, match="label"):
            load(root)
