"""Files of volumes and pictures: the order of axes, exact geometry on the way back, damaged files told in one line."""

import gzip
import json

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from core.errors import ConfigError, DataError
from tasks.segmentation.data.cases import Geometry
from tasks.segmentation.data.place import difference
from tasks.segmentation.data.volumes import (
    ENDINGS,
    header,
    label_ending,
    read_image,
    read_labels,
    stem,
    write_labels,
)

RNG = np.random.default_rng(0)
VALUES = RNG.normal(0, 300, (4, 5, 6)).astype(np.float32)
LABELS = RNG.integers(0, 4, (4, 5, 6)).astype(np.uint8)
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * [0.7, 0.9, 3.5]
AFFINE[:3, 3] = [-12.25, 40.5, 7.75]


def nifti(path, values, affine=AFFINE, qform=True, sform=True):
    image = nibabel.Nifti1Image(values.T, affine)
    image.set_qform(affine, 1 if qform else 0)
    image.set_sform(affine, 2 if sform else 0)
    image.to_filename(path)
    return path


def itk(path, values, spacing=(0.7, 0.9, 3.5), vector=False):
    image = SimpleITK.GetImageFromArray(values, isVector=vector)
    image.SetSpacing(spacing[: image.GetDimension()])
    if image.GetDimension() == 3:
        image.SetDirection(TURN.ravel().tolist())
        image.SetOrigin((1.5, -2.25, 30.125))
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_comes_in_the_order_of_simpleitk(tmp_path, ending):
    path = nifti(tmp_path / f"a{ending}", VALUES)
    image, geometry = read_image([path])
    peer = SimpleITK.ReadImage(str(path))
    assert image.shape == (1, 4, 5, 6) and image.dtype == np.float32
    np.testing.assert_array_equal(image[0], SimpleITK.GetArrayFromImage(peer))
    assert geometry.shape == (4, 5, 6) and geometry.ending == ending
    np.testing.assert_allclose(geometry.spacing, peer.GetSpacing()[::-1], rtol=1e-6)
    assert header([path]) == geometry


@pytest.mark.parametrize(("qform", "sform"), [(True, True), (True, False), (False, True), (False, False)])
def test_labels_lie_exactly_where_the_nifti_image_does(tmp_path, qform, sform):
    source = nibabel.load(nifti(tmp_path / "a.nii.gz", VALUES, qform=qform, sform=sform))
    _, geometry = read_image([tmp_path / "a.nii.gz"])
    target = tmp_path / "new" / "a_seg.nii.gz"
    write_labels(target, LABELS, geometry)
    written = nibabel.load(target)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, source.affine)
    for form in ("qform", "sform"):
        ours, theirs = (getattr(image, f"get_{form}")(coded=True) for image in (written, source))
        assert ours[1] == theirs[1]
        assert theirs[0] is None or np.array_equal(ours[0], theirs[0])
    for key in ("xyzt_units", "pixdim"):
        np.testing.assert_array_equal(written.header[key], source.header[key])
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), LABELS.T)
    labels, where = read_labels(target)
    np.testing.assert_array_equal(labels, LABELS)
    assert labels.dtype == np.int32 and difference(geometry, where) is None
    assert not list(tmp_path.glob("**/.*")), "no temporary file is left"


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_itk_files_round_trip(tmp_path, ending):
    path = itk(tmp_path / f"a{ending}", VALUES)
    image, geometry = read_image([path])
    np.testing.assert_array_equal(image[0], VALUES)
    assert geometry.spacing == (3.5, 0.9, 0.7) and header([path]) == geometry
    write_labels(tmp_path / f"b{ending}", LABELS.astype(np.uint16), geometry)
    written, source = (SimpleITK.ReadImage(str(tmp_path / f"{name}{ending}")) for name in "ba")
    for part in ("GetOrigin", "GetSpacing", "GetDirection"):
        # NRRD stores direction times spacing, so that ITK itself is not exact to the last bit.
        np.testing.assert_allclose(getattr(written, part)(), getattr(source, part)(), rtol=1e-14)
    assert written.GetPixelIDTypeAsString() == "16-bit unsigned integer"
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), LABELS)


def test_formats_agree_about_the_place(tmp_path):
    """ITK itself converts between the formats, and is what we are compared with."""
    path = nifti(tmp_path / "a.nii.gz", VALUES)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(tmp_path / "a.nrrd"))
    (_, first), (_, second) = read_image([path]), read_image([tmp_path / "a.nrrd"])
    np.testing.assert_allclose(first.header["affine"], second.header["affine"], atol=1e-5)
    assert difference(first, second) is None
    for geometry, ending in ((first, ".nrrd"), (second, ".nii.gz")):
        write_labels(tmp_path / f"b{ending}", LABELS, geometry)
        written, source = SimpleITK.ReadImage(str(tmp_path / f"b{ending}")), SimpleITK.ReadImage(str(path))
        for part in ("GetOrigin", "GetSpacing", "GetDirection"):
            np.testing.assert_allclose(getattr(written, part)(), getattr(source, part)(), atol=1e-5)


def test_nifti_with_other_axes(tmp_path):
    four = RNG.integers(0, 99, (2, 4, 5, 6)).astype(np.int16)
    image, geometry = read_image([nifti(tmp_path / "four.nii.gz", four)])
    np.testing.assert_array_equal(image, four)
    assert geometry.shape == (4, 5, 6)
    image, _ = read_image([tmp_path / "four.nii.gz"], [1])
    np.testing.assert_array_equal(image, four[1:])
    with pytest.raises(DataError, match="has 2 channels, but number 2"):
        read_image([tmp_path / "four.nii.gz"], [2])
    one = read_image([nifti(tmp_path / "one.nii.gz", four[:1])])[0]
    assert one.shape == (1, 4, 5, 6), "a last axis of one is none"
    flat, geometry = read_image([nifti(tmp_path / "flat.nii.gz", VALUES[0])])
    assert flat.shape == (1, 1, 5, 6) and geometry.shape == (1, 5, 6)
    np.testing.assert_allclose(geometry.spacing, (999 * 0.9, 0.9, 0.7), rtol=1e-6)
    write_labels(tmp_path / "flat_seg.nii.gz", LABELS[:1], geometry)
    assert nibabel.load(tmp_path / "flat_seg.nii.gz").shape == (6, 5)
    with pytest.raises(DataError, match="shape 6x5x4x2x3"):
        read_image([nifti(tmp_path / "five.nii.gz", np.zeros((3, 2, 4, 5, 6), np.int16))])


def test_itk_vectors_and_pictures(tmp_path):
    vector = RNG.integers(0, 99, (4, 5, 6, 3)).astype(np.int16)
    image, geometry = read_image([itk(tmp_path / "v.nrrd", vector, vector=True)])
    np.testing.assert_array_equal(image, vector.transpose(3, 0, 1, 2))
    image, geometry = read_image([itk(tmp_path / "flat.mha", VALUES[0])])
    assert image.shape == (1, 1, 5, 6) and geometry.spacing == (999 * 0.9, 0.9, 0.7)
    write_labels(tmp_path / "flat_seg.mha", LABELS[:1], geometry)
    assert SimpleITK.ReadImage(str(tmp_path / "flat_seg.mha")).GetDimension() == 2


def test_channels_come_from_several_files(tmp_path):
    paths = [nifti(tmp_path / f"a_000{i}.nii.gz", VALUES + i) for i in range(2)]
    np.testing.assert_array_equal(read_image(paths)[0], [VALUES, VALUES + 1])
    nifti(tmp_path / "other.nii.gz", VALUES[:2])
    with pytest.raises(DataError, match=r"other.nii.gz: has 2x5x6 voxels, a_0000.nii.gz 4x5x6"):
        read_image([paths[0], tmp_path / "other.nii.gz"])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("ending", [".png", ".tif", ".npy"])
def test_pictures_round_trip(tmp_path, ending, kind):
    labels = (LABELS[:1].astype(kind) * (255 if kind == np.uint16 else 1)).astype(kind)
    path = tmp_path / f"a{ending}"
    write_labels(path, labels, Geometry((1, 5, 6), (999.0, 1.0, 1.0), ending))
    again, geometry = read_labels(path)
    np.testing.assert_array_equal(again, labels)
    assert geometry.spacing == (999.0, 1.0, 1.0) and header([path]).shape == (1, 5, 6)
    stored = np.load(path) if ending == ".npy" else np.array(Image.open(path))
    assert stored.dtype == kind
    image, _ = read_image([path])
    np.testing.assert_array_equal(image[0], labels)


def test_tiff_stacks_keep_their_spacing(tmp_path):
    tifffile.imwrite(tmp_path / "a_0000.tif", VALUES, photometric="minisblack")
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3.5, 0.9, 0.7]}))
    image, geometry = read_image([tmp_path / "a_0000.tif"])
    np.testing.assert_array_equal(image[0], VALUES)
    assert geometry.spacing == (3.5, 0.9, 0.7) and header([tmp_path / "a_0000.tif"]) == geometry
    write_labels(tmp_path / "out" / "a.tif", LABELS, geometry)
    labels, where = read_labels(tmp_path / "out" / "a.tif")
    np.testing.assert_array_equal(labels, LABELS)
    assert where.spacing == geometry.spacing
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="gives no spacing"):
        read_image([tmp_path / "a_0000.tif"])


def test_rgb_and_alpha(tmp_path):
    pixels = RNG.integers(0, 256, (5, 6, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image, _ = read_image([tmp_path / "a.png"])
    np.testing.assert_array_equal(image[:, 0], pixels[..., :3].transpose(2, 0, 1))
    with pytest.raises(DataError, match="is in colour"):
        read_labels(tmp_path / "a.png")
    Image.fromarray(np.repeat(LABELS[0, ..., None], 3, 2)).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "gray.png")[0], LABELS[:1])


def test_palettes_of_masks(tmp_path):
    classes = Image.fromarray(LABELS[0])
    classes.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    classes.save(tmp_path / "voc.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "voc.png")[0], LABELS[:1])
    mask = np.where(LABELS[0] > 1, 255, 0).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "mask.gif")
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.gif")[0][0], mask)
    np.testing.assert_array_equal(read_image([tmp_path / "mask.gif"])[0][0, 0], mask)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".png", ".tif", ".npy"])
def test_a_file_that_is_cut_short_is_told(tmp_path, ending):
    whole = tmp_path / f"whole{ending}"
    writers = {".nii": nifti, ".nii.gz": nifti, ".nrrd": itk}
    large = RNG.integers(0, 255, (1, 64, 64)).astype(np.uint8)
    writers.get(
        ending, lambda path, values: write_labels(path, values, Geometry((1, 64, 64), (999.0, 1.0, 1.0), ""))
    )(whole, large)
    path = tmp_path / f"cut{ending}"
    path.write_bytes(whole.read_bytes()[:-600])
    for read in (lambda: read_image([path]), lambda: read_labels(path)):
        with pytest.raises(DataError, match=f"cut{ending}: cannot be") as told:
            read()
        assert "\n" not in str(told.value)
    with pytest.raises(DataError, match="there is no such file"):
        read_image([tmp_path / f"none{ending}"])


def test_a_wrong_checksum_of_gzip_is_told(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", np.tile(VALUES, (10, 10, 10)))
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), 0))
    content[-60] ^= 255
    path.write_bytes(bytes(content))
    assert nibabel.load(path).get_fdata().shape == (60, 50, 40), "nibabel does not look at it"
    with pytest.raises(DataError, match="CRC check failed"):
        read_image([path])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((4, 5, 6), 0.5, np.float32), "label 0.5 is no whole number"),
        (np.full((4, 5, 6), -2, np.int16), "label -2 is out of range"),
        (np.full((4, 5, 6), np.nan, np.float32), "NaN"),
        (np.zeros((2, 4, 5, 6), np.uint8), "one value for each voxel, this one 2"),
    ],
)
def test_labels_that_are_none(tmp_path, values, told):
    with pytest.raises(DataError, match=told):
        read_labels(nifti(tmp_path / "a.nii.gz", values))
    whole = nifti(tmp_path / "b.nii.gz", LABELS.astype(np.float64) + 1e-7)
    np.testing.assert_array_equal(read_labels(whole)[0], LABELS)


def test_places_that_differ_are_told():
    def place(shift=0.0, spacing=(2.0, 1.0, 1.0), shape=(4, 5, 6)):
        affine = np.diag([*spacing[::-1], 1.0])
        affine[0, 3] = shift
        return Geometry(shape, spacing, ".nii", {"affine": tuple(map(tuple, affine.tolist()))})

    assert difference(place(), place(0.05)) is None
    assert difference(place(), place(spacing=(2.0, 1.0, 1.0005))) is None
    assert "lies 4 mm away" in difference(place(), place(4))
    assert "has spacing 2x1x1.1, the image 2x1x1" in difference(place(), place(spacing=(2.0, 1.0, 1.1)))
    assert "has 4x5x7 voxels, the image 4x5x6" in difference(place(), place(shape=(4, 5, 7)))
    assert difference(place(), Geometry((4, 5, 6), (1.0, 1.0, 1.0), ".tif")) is None


def test_what_cannot_be_written(tmp_path):
    geometry = Geometry((4, 5, 6), (1.0, 1.0, 1.0), ".nii.gz")
    for name, told in (
        ("a.xyz", "unknown ending"),
        ("a.png", "4 slices"),
        ("a.jpg", "slices are no picture"),
    ):
        with pytest.raises(ConfigError, match=told):
            write_labels(tmp_path / name, LABELS, geometry)
    with pytest.raises(ConfigError, match="do not survive"):
        write_labels(tmp_path / "a.jpg", LABELS[:1], geometry)
    (tmp_path / "file").write_text("")
    for name in ("a.nii.gz", "a.nrrd", "a.tif"):
        with pytest.raises(ConfigError, match="cannot be written"):
            write_labels(tmp_path / "file" / name, LABELS, geometry)
    assert label_ending(".jpg") == ".png" and label_ending(".nii.gz") == ".nii.gz"
    assert stem(tmp_path / "a.b.nii.gz") == "a.b" and ENDINGS[0] == ".nii.gz"
