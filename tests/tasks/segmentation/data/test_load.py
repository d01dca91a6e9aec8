"""Bad cases are named in one line and left out, the others go on; scans; what the data set says of itself."""

import copy
import gzip
import pickle

import numpy as np
import pytest
from case_folders import labels, load, names, nnunet, picture, pictures, save, told, volume
from scipy import ndimage

from core.errors import ConfigError, DataError
from tasks.segmentation.data.scan import nonzero_box


def bad(root, name, kind):
    image = root / "imagesTr" / f"{name}_0000.nii.gz"
    label = root / "labelsTr" / f"{name}.nii.gz"
    values = volume(77)
    if kind == "no label":
        label.unlink()
    elif kind == "no image":
        image.unlink()
    elif kind == "shape":
        save(label, labels(1, (4, 6, 6)))
    elif kind == "spacing":
        save(label, labels(1), spacing=(3.0, 1.0, 2.1))
    elif kind == "affine":
        save(label, labels(1), shift=5.0)
    elif kind == "range":
        save(label, labels(1, most=5))
    elif kind == "fraction":
        save(label, labels(1).astype(np.float32) / 2)
    elif kind == "four":
        save(image, np.stack([values] * 3))
    elif kind == "cut":
        content = image.read_bytes()
        image.write_bytes(content[: len(content) // 2])
    elif kind == "no gzip":
        image.write_bytes(gzip.decompress(image.read_bytes()))
    elif kind == "nan":
        values = values.astype(np.float32)
        values[0, 0, :2] = np.nan, np.inf
        save(image, values)
    elif kind == "twin":
        save(image, volume(0))


REASONS = {
    "no label": "the image {root}/imagesTr/case_02_0000.nii.gz has no label map",
    "no image": "the label map {root}/labelsTr/case_02.nii.gz has no image",
    "shape": "the label map case_02.nii.gz has 4x6x6 voxels, the image 4x6x5",
    "spacing": "the label map case_02.nii.gz has spacing 3x1x2.1, the image 3x1x2 mm",
    "affine": "the label map case_02.nii.gz lies 5 mm away",
    "range": "the label 3 is out of range, known are 0, 1, 2",
    "fraction": "the label 0.5 is no whole number",
    "four": "has 3 channels (4-D file), but 1 is expected",
    "cut": "case_02_0000.nii.gz: cannot be read",
    "no gzip": "case_02_0000.nii.gz: cannot be read (Not a gzipped file",
    "nan": "2 of 120 voxels are NaN or infinite",
    "twin": "the same voxels as case_00",
}


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("kind", REASONS)
def test_a_bad_case_is_left_out(tmp_path, kind, described):
    root = nnunet(tmp_path / "a", 10, described=described)
    bad(root, "case_02", kind)
    data = load(root)
    assert names(data) == [f"case_{i:02}" for i in range(10) if i != 2]
    (line,) = [note for note in data.notes if "case_02" in note]
    reason = REASONS[kind].format(root=root)
    if kind == "range" and not described:
        reason = "3 stands in this case alone, the others have 0, 1, 2"
    assert line.startswith("left out: case_02: ") and reason in line and "\n" not in line
    assert data.labels.values == (0, 1, 2)
    assert len(data.folds[0].train) + len(data.folds[0].validation) + len(data.folds[0].test) == 9


def test_what_is_odd_is_kept_and_said(tmp_path):
    root = nnunet(tmp_path / "a", 8)
    save(root / "labelsTr" / "case_01.nii.gz", np.zeros((4, 6, 5), np.uint8))
    save(root / "imagesTr" / "case_02_0000.nii.gz", volume(2)[:1])
    save(root / "labelsTr" / "case_02.nii.gz", labels(2)[:1])
    save(root / "imagesTr" / "case_03_0000.nii.gz", np.zeros((4, 6, 5), np.int16))
    save(root / "imagesTr" / "case_04_0000.nii.gz", volume(4).astype(np.float32) * 1700)
    data = load(root)
    assert data.size == 8 and not data.flat
    assert told(data, "case_01: no label but the background; kept")
    assert told(data, "case_02: one slice alone, among volumes; kept")
    assert told(data, "case_03: all voxels are equal; kept")
    assert data.cases[1].scan.intensities.shape == (1, 0)
    assert data.cases[2].geometry.spacing == (3.0, 1.0, 2.0)
    assert data.cases[4].scan.intensities.max() > 1e6


def test_many_bad_cases_are_counted(tmp_path):
    root = nnunet(tmp_path / "a", 12)
    for i in range(2, 10):
        bad(root, f"case_{i:02}", "shape" if i == 8 else "nan")
    data = load(root)
    lines = [note for note in data.notes if note.startswith("left out")]
    # The first five, and then one for each reason: what differs by numbers and names alone is one.
    assert [line.split(": ")[1] for line in lines] == [f"case_{i:02}" for i in range(2, 9)]
    nan = "2 of 120 voxels are NaN or infinite"
    assert nan in lines[5] and lines[5].endswith("; for the same reason case_09")
    assert "the label map case_08.nii.gz has 4x6x6 voxels" in lines[6] and data.size == 4


def test_too_few_cases(tmp_path):
    with pytest.raises(
        DataError, match="one case alone, case_00, cannot be learned from and tested; give more"
    ):
        load(nnunet(tmp_path / "a", 1))
    root = nnunet(tmp_path / "b", 2)
    bad(root, "case_01", "nan")
    with pytest.raises(DataError, match=r"one case alone, case_00, .* \(case_01: 2 of 120 voxels"):
        load(root)
    bad(root, "case_00", "cut")
    with pytest.raises(DataError, match=r"no usable case; case_00: .*cannot be read"):
        load(root)


def test_a_training_case_that_is_in_the_test_is_left_out(tmp_path):
    nnunet(tmp_path / "a", 6)
    nnunet(tmp_path / "b", 2, start=50)
    save(tmp_path / "b" / "imagesTr" / "case_50_0000.nii.gz", volume(3))
    data = load(tmp_path / "a", test_path=str(tmp_path / "b"))
    assert names(data, data.folds[0].test) == ["case_50", "case_51"]
    assert "case_03" not in names(data) and data.size == 7
    assert told(data, "case_03: the same voxels as case_50, which is held out for the test")


def test_a_folder_that_is_tested_alone(tmp_path):
    data = load(test_path=str(nnunet(tmp_path / "b", 3)), folds=5, test_share=0.5)
    assert [(f.name, f.train, f.validation, f.test) for f in data.folds] == [("model", (), (), (0, 1, 2))]
    assert data.labels.names == ("background", "head", "tail") and data.training == []
    nnunet(tmp_path / "c", labels={"background": 0, "liver": 1, "tumour": 2})
    with pytest.raises(DataError, match="labels of the test folder"):
        load(tmp_path / "c", test_path=str(tmp_path / "b"))


def test_gray_and_colour(tmp_path):
    root = pictures(tmp_path / "a", 6)
    colour = picture(77, channels=3)
    save(root / "images" / "1.png", colour)
    data = load(root)
    assert data.channels == ["gray"] and told(data, "1 RGB pictures are read as gray, as the others are")
    luma = colour.astype(float) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(data.read(data.cases[1]).image[0, 0], luma, rtol=1e-5)
    drawn = data.cases[1].scan.intensities
    assert drawn.shape == (1, 10_000)
    assert np.isclose(drawn[0, :50, None], luma.ravel(), rtol=1e-5).any(axis=1).all()
    for i in range(2, 6):
        save(root / "images" / f"{i}.png", picture(i, channels=3))
    data = load(root)
    assert data.channels == ["rgb_to_0_1"] * 3 and told(data, "1 gray pictures are read as RGB")
    assert (np.ptp(data.read(data.cases[0]).image, axis=0) == 0).all()
    for i in range(6):
        save(root / "images" / f"{i}.png", np.repeat(picture(i)[..., None], 3, 2))
    data = load(root)
    assert data.channels == ["gray"] and told(data, "6 RGB pictures are read as gray, as they are all gray")
    np.testing.assert_array_equal(data.read(data.cases[0]).image[0, 0], picture(0))


def test_values_of_masks(tmp_path):
    root = pictures(tmp_path / "a", 6)

    def put(values, name=0):
        save(root / "masks" / f"{name}.png", np.asarray(values, np.uint8))

    base = np.zeros((12, 14), np.uint8)
    void = base.copy()
    void[0], void[1], void[2] = 1, 2, 255
    for i in range(6):
        put(void, i)
    data = load(root)
    assert data.labels.values == (0, 1, 2) and data.labels.ignore == 255
    assert set(np.unique(data.read(data.cases[0]).labels)) == {-1, 0, 1, 2}
    for i in range(6):
        put(np.where(void == 2, 100, np.where(void == 255, 0, void)), i)
    assert load(root).labels.values == (0, 1, 100)
    ramp = np.where(picture(3) > 120, 255, 0)
    ramp[0] = np.linspace(3, 250, 14)
    for i in range(6):
        put(np.roll(ramp, i, 0), i)
    with pytest.raises(DataError, match="values between, such as 3, as smoothing"):
        load(root)
    for i in range(6):
        put(np.where(picture(i) > 120, 255 if i % 2 else 1, 0), i)
    with pytest.raises(DataError, match="some masks have 1 and others 255"):
        load(root)
    for i in range(6):
        put(base, i)
    with pytest.raises(DataError, match="all label maps are empty"):
        load(root)


def test_nonzero_box():
    image = np.zeros((2, 7, 8, 9), np.float32)
    image[0, 2:5, 1:6, 3:8] = 1
    image[0, 3, 3, 5] = 0
    image[1, 5, 4, 4] = -2
    box, mask = nonzero_box(image)
    assert box == (slice(2, 6), slice(1, 6), slice(3, 8))
    whole = ndimage.binary_fill_holes((image[0] != 0) | (image[1] != 0))
    np.testing.assert_array_equal(mask, whole[box])
    assert mask[1, 2, 2], "the hole inside is filled"
    box, mask = nonzero_box(np.zeros((1, 2, 3, 4)))
    assert box == (slice(0, 2), slice(0, 3), slice(0, 4)) and not mask.any()


def test_scan(tmp_path):
    root = nnunet(tmp_path / "a", 4, channels=2)
    image = np.stack([volume(0), volume(100)])
    image[:, 0] = 0
    image[:, :, :2] = 0
    for channel in range(2):
        save(root / "imagesTr" / f"case_00_{channel:04}.nii.gz", image[channel])
    truth = np.where(image[0] > 500, 2, np.where(image[0] > 300, 1, 0)).astype(np.uint8)
    truth[0] = 1  # outside the crop: these zeros are no intensities of a class
    save(root / "labelsTr" / "case_00.nii.gz", truth)
    scan = load(root).cases[0].scan
    assert scan.shape == (3, 4, 5) and scan.relative_size == pytest.approx(60 / 120)
    assert scan.classes == {i: int((truth == i).sum()) for i in range(3)}
    assert scan.intensities.shape == (2, 10_000) and scan.intensities.dtype == np.float32
    inside = truth[1:] > 0
    pairs = {tuple(pair) for pair in np.stack([image[0, 1:][inside], image[1, 1:][inside]], 1).tolist()}
    assert {tuple(pair) for pair in scan.intensities.T.tolist()} == pairs, "all voxels, channels together"
    counts = np.unique(scan.intensities[0], return_counts=True)[1]
    assert counts.min() > 0.5 * 10_000 / len(pairs), "drawn evenly"


def test_digests(tmp_path):
    root = nnunet(tmp_path / "a", 5)
    first = load(root)
    assert first.digest == load(root).digest
    assert load(root, test_share=0.5).digest != first.digest, "another split"
    save(root / "labelsTr" / "case_00.nii.gz", labels(99))
    second = load(root)
    assert second.digest != first.digest
    assert [a.scan.digest == b.scan.digest for a, b in zip(first.cases, second.cases, strict=True)] == [
        False, True, True, True, True,
    ]  # fmt: skip


def test_other_channels_and_another_spacing_are_other_data(tmp_path):
    root = nnunet(tmp_path / "a", 5, channels=2)
    loaded = [load(root), load(root, channels=[0]), load(root, channels=[1]), load(root, channels=[1, 0])]
    for i in range(5):
        for path in (root / "imagesTr").glob(f"case_{i:02}_*"):
            save(path, volume(i + 100 * int(path.name[8:12])), spacing=(3.0, 1.0, 2.1))
        save(root / "labelsTr" / f"case_{i:02}.nii.gz", labels(i), spacing=(3.0, 1.0, 2.1))
    loaded.append(load(root))
    assert len({data.digest for data in loaded}) == 5
    for i in range(5):
        assert len({data.cases[i].scan.digest for data in loaded}) == 5


def test_the_reader_is_small_and_travels(tmp_path):
    data = load(nnunet(tmp_path / "a", 4, channels=2), channels=[1])
    stored = pickle.dumps(data.read)
    assert len(stored) < 1000
    np.testing.assert_array_equal(pickle.loads(stored)(data.cases[2]).image, [volume(102)])
    save(data.cases[0].label, labels(0, (4, 6, 6)))
    with pytest.raises(DataError, match="case_00: its files have changed"):
        data.read(data.cases[0])


@pytest.mark.parametrize(("name", "outputs"), [("auto", 2), ("cells", 2), ("organs", 3)])
def test_made_data(name, outputs):
    data = load(name=name)
    assert data.name == ("cells" if name == "auto" else name)
    assert data.flat == (name != "organs") and data.labels.outputs == outputs
    assert data.labels.instances == data.flat and data.size >= 16
    assert data.read(data.cases[0]).labels is not None
    folder = copy.copy(data.folder.path)
    assert folder.is_dir()
    del data
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cells", "path": "x"}, "takes no path"),
        ({"name": "folder"}, "needs --data.path"),
        ({"label_share": 0.0}, "label_share 0.0 must be above 0"),
        ({"validation_share": 1.0}, "validation_share 1.0"),
        ({"folds": 1}, "needs 2 folds or more"),
        ({"fold": 1}, "give --data.folds 5"),
        ({"folds": 3, "fold": 3}, "there are folds 0 to 2"),
        ({"name": "cells", "channels": [1]}, "there are channels 0 to 0"),
        ({"name": "cells", "channels": []}, "there are channels 0 to 0"),
        ({"name": "cells", "test_share": 1.0}, "is not a share"),
    ],
)
def test_options_that_cannot_be(options, message):
    path = options.pop("path", None)
    with pytest.raises(ConfigError, match=message):
        load(path, **options)
