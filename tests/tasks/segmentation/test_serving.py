"""Files in, label maps out, by a network that knows what is bright."""

from __future__ import annotations

import base64
import dataclasses
import io

import nibabel
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from core.errors import ConfigError, DataError
from tasks.segmentation.config import SegPredictConfig
from tasks.segmentation.data.cases import Geometry
from tasks.segmentation.inputs import ending_of_content, read_rows, read_voxels
from tasks.segmentation.labels import Labels, object_labels
from tasks.segmentation.planning.plan import Intensities, Plan
from tasks.segmentation.results import describe
from tasks.segmentation.segmenter import Segmentation, Segmenter
from tasks.segmentation.serving import default_output, example_request, predict_files, serve_frame

LABELS = Labels(("background", "spot"), (0, 255))
AFFINE = np.array([[-0.8, 0, 0, 10], [0, 0.8, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])


class Bright(nn.Module):
    """Logits of the background, and of what is above 100 in the first channel."""

    def __init__(self, dims, channels, labels):
        super().__init__()
        self.conv = (nn.Conv3d if dims == 3 else nn.Conv2d)(channels, labels.outputs, 1)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[:, 0] = 1.0
            self.conv.bias.fill_(-100.0)
            if not labels.regions:
                self.conv.weight[0, 0] *= -1
                self.conv.bias[0] *= -1

    def forward(self, x):
        return self.conv(x)


def model(dims=3, channels=1, labels=LABELS, metadata=None):
    patch = (16,) * dims
    plan = Plan(
        configuration="3d_fullres" if dims == 3 else "2d",
        preset="cpu",
        transpose=(0, 1, 2),
        spacing=(2.5, 0.8, 0.8) if dims == 3 else (1.0, 1.0),
        patch_size=patch,
        batch_size=2,
        median_shape=tuple(map(float, patch)),
        normalisation=("none",) * channels,
        masked_normalisation=(False,) * channels,
        intensities=(Intensities(0.0, 1.0, 0.0, 1.0),) * channels,
        strides=((1,) * dims,),
        kernels=((3,) * dims,),
        widths=(8,),
        blocks=(1,),
        decoder_convs=(),
        residual=True,
        batch_dice=False,
        resample=dims == 3,
        crop=False,
    )
    settings = {
        "labels": labels.to_dict(),
        "channels": [f"c{i}" for i in range(channels)],
        "plan": plan.to_dict(),
        "postprocessing": None,
        "members": [],
    }
    network = Bright(dims, channels, labels)
    return Segmenter(settings, {"model": network}, metadata or {})


def volume(seed=0, shape=(20, 18, 12)):
    """A bright box in ``(x, y, z)``."""
    values = np.random.default_rng(seed).integers(0, 60, shape).astype(np.int16)
    values[4:10, 5:9, 3:6] = 200
    return values


def save_volume(path, seed=0):
    nibabel.save(nibabel.Nifti1Image(volume(seed), AFFINE), path)


def picture(shape=(30, 40), channels=1):
    values = np.full((*shape, channels), 30, np.uint8)
    values[5:15, 8:20] = 180
    return values[..., 0] if channels == 1 else values


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def predict(segmenter, source, **options):
    config = SegPredictConfig(input=str(source), **options)
    return predict_files(
        segmenter, dataclasses.replace(config, output=config.output or default_output(config))
    )


def test_a_volume_keeps_its_place_beside_the_input(tmp_path, capsys):
    save_volume(tmp_path / "scan.nii.gz")
    assert predict(model(), tmp_path / "scan.nii.gz") == []
    found = nibabel.load(tmp_path / "scan_seg.nii.gz")
    np.testing.assert_array_equal(found.affine, nibabel.load(tmp_path / "scan.nii.gz").affine)
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(found.dataobj), 255 * (volume() == 200))
    # 72 voxels of 0.8 x 0.8 x 2.5 mm.
    assert "scan_seg.nii.gz: spot 72 voxels (0.115 ml)" in capsys.readouterr().out


@pytest.mark.parametrize(("ending", "result"), [(".png", ".png"), (".jpg", ".png"), (".tif", ".tif")])
def test_pictures_become_label_pictures(tmp_path, capsys, ending, result):
    Image.fromarray(picture()).save(tmp_path / f"cell{ending}")
    assert predict(model(2), tmp_path / f"cell{ending}") == []
    found = pixels_of(tmp_path / f"cell_seg{result}")
    wrong = found != 255 * (picture() == 180)
    assert found.dtype == np.uint8 and wrong.mean() < (0.02 if ending == ".jpg" else 1e-9)
    assert " px" in capsys.readouterr().out


def test_a_folder_gives_a_folder_and_what_is_broken_a_line(tmp_path, capsys):
    source = tmp_path / "scans"
    source.mkdir()
    for name in ("a", "b"):
        save_volume(source / f"{name}_0000.nii.gz")
    (source / "bad_0000.nii.gz").write_bytes((source / "a_0000.nii.gz").read_bytes()[:99])
    (source / "notes.txt").write_text("x")
    failures = predict(model(), source)
    assert len(failures) == 1 and "bad" in failures[0]
    assert sorted(path.name for path in (tmp_path / "scans_seg").iterdir()) == ["a.nii.gz", "b.nii.gz"]
    assert "1 file with another ending left out: notes.txt" in capsys.readouterr().out
    with pytest.raises(DataError, match="bad"):
        predict(model(), source, strict=True, output=str(tmp_path / "other"))


def test_channels_are_files_of_their_own(tmp_path):
    save_volume(tmp_path / "p_0000.nii.gz")
    save_volume(tmp_path / "p_0001.nii.gz", seed=1)
    assert predict(model(channels=2), tmp_path, output=str(tmp_path / "out")) == []
    found = np.asarray(nibabel.load(tmp_path / "out" / "p.nii.gz").dataobj)
    np.testing.assert_array_equal(found > 0, volume() == 200)
    with pytest.raises(DataError, match="p_0000"):
        predict(model(channels=3), tmp_path / "p_0000.nii.gz", output=str(tmp_path / "x.nii.gz"))


def test_probabilities_and_picture(tmp_path, capsys):
    save_volume(tmp_path / "scan.nii.gz")
    predict(model(), tmp_path / "scan.nii.gz", output=str(tmp_path / "out"), probabilities=True, overlay=True)
    with np.load(tmp_path / "out" / "scan.npz") as stored:
        assert stored["classes"].tolist() == ["background", "spot"]
        probabilities = stored["probabilities"]
    assert probabilities.dtype == np.float16 and probabilities.shape == (2, 12, 18, 20)
    np.testing.assert_array_equal(probabilities.argmax(0).T, volume() == 200)
    assert pixels_of(tmp_path / "out" / "scan_overlay.png").shape[1] > 300
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("written")]
    assert [line.split("/")[-1].split(":")[0] for line in said] == [
        "scan.nii.gz",
        "scan.npz",
        "scan_overlay.png",
    ]


def test_objects_get_numbers(tmp_path, capsys):
    image = picture()
    image[20:28, 25:38] = 150
    Image.fromarray(image).save(tmp_path / "cells.png")
    predict(model(2, labels=object_labels()), tmp_path / "cells.png")
    found = pixels_of(tmp_path / "cells_seg.png")
    assert found.dtype == np.uint16 and sorted(np.unique(found)) == [0, 1, 2]
    np.testing.assert_array_equal(found > 0, image > 100)
    assert "cells_seg.png: 2 objects, 224 px" in capsys.readouterr().out


def test_spacing_of_a_stack_without_one(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "stack.tif", volume().T.astype(np.uint8))
    predict(model(), tmp_path / "stack.tif", spacing=[2.5, 0.8, 0.8])
    found = tifffile.imread(tmp_path / "stack_seg.tif")
    np.testing.assert_array_equal(found > 0, volume().T == 200)
    assert "72 voxels (0.115 ml)" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--spacing"):
        predict(model(), tmp_path / "stack.tif", spacing=[1.0, 2.0])


def test_inputs_are_never_replaced(tmp_path):
    save_volume(tmp_path / "scan.nii.gz")
    before = (tmp_path / "scan.nii.gz").read_bytes()
    with pytest.raises(ConfigError, match=r"would replace the input scan\.nii\.gz"):
        predict(model(), tmp_path / "scan.nii.gz", output=str(tmp_path))
    (failure,) = predict(model(), tmp_path, output=str(tmp_path))
    assert "would replace" in failure and (tmp_path / "scan.nii.gz").read_bytes() == before
    # Nor does a picture replace one.
    Image.fromarray(picture()).save(tmp_path / "a_overlay.png")
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    failures = predict(model(2), tmp_path, output=str(tmp_path), overlay=True)
    assert any("a_overlay.png would replace the input" in line for line in failures)


def test_a_folder_cannot_go_into_a_file(tmp_path):
    save_volume(tmp_path / "scan.nii.gz")
    (tmp_path / "out.nii.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match="name a folder"):
        predict(model(), tmp_path, output=str(tmp_path / "out.nii.gz"))


@pytest.mark.parametrize(
    ("source", "output", "words"),
    [
        ("scan.nii.gz", "scan.png", "a volume of 12 slices is no picture; use .nii.gz or .tif"),
        ("cell.png", "found.jpg", "labels do not survive .jpg; use .png"),
    ],
)
def test_a_format_that_cannot_hold_the_result_is_told_before_the_work(tmp_path, source, output, words):
    save_volume(tmp_path / "scan.nii.gz")
    Image.fromarray(picture()).save(tmp_path / "cell.png")
    segmenter = model(3 if source == "scan.nii.gz" else 2)
    segmenter.segment = lambda *given, **options: pytest.fail("segmented")
    with pytest.raises(ConfigError) as error:
        predict(segmenter, tmp_path / source, output=str(tmp_path / output))
    assert str(error.value) == f"--output {tmp_path / output}: {words}"


def test_errors_in_a_folder_name_the_file(tmp_path):
    """Also those of what comes after reading, which knows the case alone."""
    source = tmp_path / "scans"
    source.mkdir()
    save_volume(source / "a_0000.nii.gz")
    save_volume(source / "a_0001.nii.gz")
    save_volume(source / "b.nii.gz")
    (failure,) = predict(model(channels=2), source)
    assert failure.startswith(f"{source / 'b.nii.gz'}: ") and failure.count("b.nii.gz") == 1
    assert ": b: " not in failure and "channel" in failure
    with pytest.raises(DataError) as error:
        predict(model(channels=2), source, strict=True)
    assert str(error.value) == failure
    with pytest.raises(ConfigError, match=r"^--step 2.0 must"):
        predict(model(channels=2), source, step=2.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("scan.nii.gz", "scan_seg.nii.gz"), ("x.y.JPG", "x.y_seg.png"), ("a.mha", "a_seg.mha")],
)
def test_default_output(tmp_path, name, expected):
    assert default_output(SegPredictConfig(input=str(tmp_path / name))) == str(tmp_path / expected)
    assert default_output(SegPredictConfig(input=str(tmp_path))) == f"{tmp_path}_seg"
    assert default_output(SegPredictConfig(input="/")) is None


def test_channels_of_the_training_are_chosen(tmp_path):
    """As --data.channels did; a file of these alone is taken too, and gray pictures where RGB was learned."""
    rgb = np.stack([picture(), 255 - picture(), picture()], 2)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb[..., 1]).save(tmp_path / "green.png")
    for name in ("rgb", "green"):
        voxels = read_voxels([tmp_path / f"{name}.png"], name, ["green"], [1])
        np.testing.assert_array_equal(voxels.image[0, 0], rgb[..., 1])
    assert read_voxels([tmp_path / "green.png"], "green", ["r", "g", "b"]).image.shape[0] == 3
    segmenter = model(2, metadata={"data": {"config": {"channels": [1]}}})
    predict(segmenter, tmp_path / "rgb.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "rgb_seg.png") > 0, rgb[..., 1] > 100)


def test_what_was_found_in_words():
    labels = Labels(("background", "liver", "tumour"), (0, 1, 2))
    found = Segmentation(np.array([[[1, 1, 0]], [[1, 0, 0]]], np.int16))
    geometry = Geometry((2, 1, 3), (10.0, 10.0, 10.0), ".nii")
    assert describe(found, geometry, labels) == "liver 3 voxels (3 ml), tumour none"
    unknown = dataclasses.replace(geometry, ending=".npy")
    assert describe(found, unknown, labels) == "liver 3 voxels, tumour none"
    assert describe(found, unknown, labels, [10.0, 10.0, 10.0]).startswith("liver 3 voxels (3 ml)")


# ---------------------------------------------------------------- requests


def text_of(content):
    return base64.b64encode(content).decode()


def png(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("dims", "channels"), [(3, 1), (3, 2), (2, 1), (2, 3), (2, 4)])
def test_the_example_is_answered(dims, channels):
    segmenter = model(dims, channels)
    frame, params = example_request(segmenter)
    answer = serve_frame(segmenter, frame, params)
    assert list(answer) == ["labels", "ending"] and len(answer) == 2
    assert list(answer["ending"]) == [".nii.gz" if dims == 3 else ".png"] * 2
    assert list(frame["ending"]) == [answer["ending"][0], None]
    content = base64.b64decode(answer["labels"][0])
    if dims == 2:
        labels = np.array(Image.open(io.BytesIO(content)))
        assert labels.shape == (48, 48)
    else:
        import gzip

        labels = np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)
        assert labels.shape == (24, 24, 16)
    # The spot is in the middle, and found.
    assert labels[tuple(n // 2 for n in labels.shape)] == 255 and labels.flat[0] == 0


def test_a_request_of_several_rows():
    other = picture((20, 24))
    frame = pd.DataFrame({"image": [text_of(png(picture())), text_of(png(other))]})
    answer = serve_frame(model(2), frame, {})
    found = [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in answer["labels"]]
    for labels, image in zip(found, (picture(), other), strict=True):
        np.testing.assert_array_equal(labels, 255 * (image == 180))


def test_channels_of_a_request():
    frame = pd.DataFrame({"image_1": [text_of(png(picture()))], "image_2": [text_of(png(picture() // 2))]})
    ((name, voxels),) = read_rows(frame, ["a", "b"])
    assert name == "row 0" and voxels.image.shape == (2, 1, 30, 40)
    np.testing.assert_array_equal(voxels.image[1], voxels.image[0] // 2)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"picture": ["x"]}, "needs a column 'image'"),
        ({"image": ["no base64!"]}, "row 0: image is not base64"),
        ({"image": [text_of(b"hello")]}, "row 0: its content is of no known format"),
        ({"image": [text_of(b"hello")], "ending": [".doc"]}, "row 0: unknown ending '.doc'"),
        ({"image": [text_of(png(picture())), text_of(png(picture())[:60])]}, "row 1: "),
    ],
)
def test_a_bad_request_names_its_row(frame, words):
    with pytest.raises(DataError) as error:
        serve_frame(model(2), pd.DataFrame(frame), {})
    assert words in str(error.value) and "/tmp" not in str(error.value)


def test_contents_are_known_by_their_first_bytes(tmp_path):
    nibabel.save(nibabel.Nifti1Image(volume(), AFFINE), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti2Image(volume(), AFFINE), tmp_path / "b.nii")
    save_volume(tmp_path / "c.nii.gz")
    tifffile.imwrite(tmp_path / "d.tif", picture())
    Image.fromarray(picture()).save(tmp_path / "e.jpg")
    np.save(tmp_path / "f.npy", picture())
    for name in ("a.nii", "b.nii", "c.nii.gz", "d.tif", "e.jpg", "f.npy"):
        assert ending_of_content((tmp_path / name).read_bytes()) == name[1:]
