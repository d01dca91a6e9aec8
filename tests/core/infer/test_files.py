"""Files in, files of the same kind out."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from restoring_nets import Affine, Repeated, Tinted, Twice

from core.data.images.files import Picture, read_picture, write_picture
from core.errors import ConfigError, DataError
from core.infer.config import PicturePredictConfig
from core.infer.files import beside, restore_files, save_comparison
from core.infer.restorer import Restorer


def drawn(height, width, channels, dtype="uint8", seed=0):
    values = np.random.default_rng(seed).integers(0, 200, (height, width, channels))
    scale = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[dtype]
    return (values * scale).astype(dtype)


def config(source, target, **options):
    return PicturePredictConfig(input=str(source), output=str(target), **{"tune": False, **options})


def nothing(picture):
    return ""


def restore(model, source, target, describe=nothing, scale=None, **options):
    return restore_files(Restorer(model), config(source, target, **options), describe, scale)


class Counting(Affine):
    """Tells whether anything was computed."""

    def __init__(self, channels=3):
        super().__init__(channels)
        self.calls = []

    def forward(self, x):
        self.calls.append(x.shape)
        return super().forward(x)


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize(
    ("ending", "dtype", "channels", "alpha"),
    [
        (".png", "uint8", 1, False),
        (".png", "uint8", 3, False),
        (".png", "uint8", 1, True),
        (".png", "uint8", 3, True),
        (".png", "uint16", 1, False),
        (".png", "uint16", 3, True),
        (".tif", "float32", 3, False),
        (".tif", "uint16", 3, True),
        (".npy", "float32", 1, False),
    ],
)
def test_type_channels_and_alpha_are_kept(tmp_path, capsys, ending, dtype, channels, alpha):
    pixels, plane = drawn(12, 10, channels, dtype), drawn(12, 10, 1, dtype, 1)[..., 0] if alpha else None
    source, target = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    write_picture(source, Picture(pixels, plane))
    assert restore(Affine(3, 1.0, 0.2), source, target) == []
    result = read_picture(target)
    assert result.pixels.dtype == dtype and result.pixels.shape == pixels.shape
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    expected = pixels + 0.2 * white
    assert np.abs(result.pixels - expected).max() <= (1e-6 if dtype == "float32" else 1)
    assert (result.alpha is None) == (plane is None)
    if plane is not None:
        np.testing.assert_array_equal(result.alpha, plane)
    assert f"written    {target}: 10x12, {channels} channel(s), {dtype}" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source.name, target.name])


def test_a_palette_becomes_colour(tmp_path):
    image = Image.fromarray(drawn(9, 8, 3)).quantize(16)
    image.save(tmp_path / "in.png")
    restore(Affine(3), tmp_path / "in.png", tmp_path / "out.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "out.png").pixels, np.asarray(image.convert("RGB")))


def test_a_turned_photograph_is_upright(tmp_path):
    image = Image.fromarray(drawn(9, 14, 3))
    exif = image.getexif()
    exif[274] = 6  # turn by 90 degrees clockwise to view
    image.save(tmp_path / "in.png", exif=exif)
    restore(Affine(3), tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (9, 14)
        assert result.getexif().get(274, 1) == 1
        np.testing.assert_array_equal(np.asarray(result), np.rot90(np.asarray(image), -1))


def test_the_colour_profile_is_kept(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write_picture(tmp_path / "in.png", Picture(drawn(9, 8, 3), icc=icc))
    restore(Affine(3), tmp_path / "in.png", tmp_path / "out.tif")
    assert read_picture(tmp_path / "out.tif").icc == icc


def test_a_gray_image_stays_gray_through_a_colour_model(tmp_path):
    pixels = drawn(9, 8, 1)
    write_picture(tmp_path / "in.png", Picture(pixels))
    restore(Tinted(), tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert result.mode == "L"
        assert np.asarray(result).mean() > pixels.mean() + 50


def test_an_enlarged_image_has_enlarged_alpha(tmp_path):
    pixels, plane = drawn(10, 8, 3), np.full((10, 8), 77, np.uint8)
    write_picture(tmp_path / "in.png", Picture(pixels, plane))
    restore(Twice(), tmp_path / "in.png", tmp_path / "out.png")
    result = read_picture(tmp_path / "out.png")
    assert result.pixels.shape == (20, 16, 3)
    np.testing.assert_array_equal(result.alpha, np.full((20, 16), 77))


def test_another_format_is_chosen_by_the_ending(tmp_path):
    pixels = drawn(9, 8, 3, "uint16")
    write_picture(tmp_path / "in.png", Picture(pixels))
    restore(Affine(3), tmp_path / "in.png", tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)


# ---------------------------------------------------------------- folders


def test_a_folder_is_restored_into_a_new_folder(tmp_path, capsys):
    images = {}
    for name, channels in (("a.png", 3), ("b.tif", 1), ("c.bmp", 3)):
        images[name] = drawn(9, 8, channels, seed=len(images))
        write_picture(tmp_path / "in" / name, Picture(images[name]))
    (tmp_path / "in" / "notes.txt").write_text("x")

    def describe(picture):
        return f", {picture.pixels.shape[2]} seen"

    assert restore(Affine(3), tmp_path / "in", tmp_path / "deep" / "out", describe) == []
    out = capsys.readouterr().out
    for name, pixels in images.items():
        np.testing.assert_array_equal(read_picture(tmp_path / "deep" / "out" / name).pixels, pixels)
        assert f"{name}: 8x9, {pixels.shape[2]} channel(s), uint8, {pixels.shape[2]} seen" in out
    assert len(list((tmp_path / "deep" / "out").iterdir())) == 3


def test_other_endings_of_a_folder_are_told(tmp_path, capsys):
    _only(tmp_path / "in", drawn(9, 8, 3))
    restore(Affine(3), tmp_path / "in", tmp_path / "out")
    assert "left out" not in capsys.readouterr().out
    (tmp_path / "in" / "deeper").mkdir()
    for name in ("b.gif", ".hidden.gif"):
        (tmp_path / "in" / name).write_text("x")
    restore(Affine(3), tmp_path / "in", tmp_path / "out")
    assert "1 file with another ending left out: b.gif\n" in capsys.readouterr().out
    for name in ("c.heic", "d.jfif", "e.avif"):
        (tmp_path / "in" / name).write_text("x")
    restore(Affine(3), tmp_path / "in", tmp_path / "out")
    assert "4 files with other endings left out: b.gif, c.heic, d.jfif, ...\n" in capsys.readouterr().out
    restore(Affine(3), tmp_path / "in" / "a.png", tmp_path / "out")
    assert "left out" not in capsys.readouterr().out


def spoiled(folder):
    for name in ("a.png", "c.png"):
        write_picture(folder / name, Picture(drawn(9, 8, 1)))
    (folder / "b.png").write_bytes(b"")
    write_picture(folder / "d.png", Picture(drawn(9, 8, 3)))
    return folder


def test_broken_files_of_a_folder_are_told_and_the_others_written(tmp_path):
    failures = restore(Affine(1), spoiled(tmp_path / "in"), tmp_path / "out")
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == ["a.png", "c.png"]
    empty, colour = failures
    assert empty.endswith("b.png: the file is empty (0 bytes); copy it again")
    assert "d.png: the image is colour (3 channels) and the model is for gray (1 channel)" in colour
    assert not any("\n" in failure for failure in failures)


def test_strict_stops_at_the_first_broken_file(tmp_path):
    with pytest.raises(DataError, match=r"b.png: the file is empty"):
        restore(Affine(1), spoiled(tmp_path / "in"), tmp_path / "out", strict=True)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_single_broken_file_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        restore(Affine(1), tmp_path / "a.png", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


# ---------------------------------------------------------------- places


def test_a_file_goes_into_a_folder_under_its_name(tmp_path):
    write_picture(tmp_path / "in.png", Picture(drawn(9, 8, 3)))
    (tmp_path / "old.dir").mkdir()
    for target in ("old.dir", "new"):
        restore(Affine(3), tmp_path / "in.png", tmp_path / target)
        assert [p.name for p in (tmp_path / target).iterdir()] == ["in.png"]


def test_the_input_is_never_replaced(tmp_path):
    before = drawn(9, 8, 3)
    write_picture(tmp_path / "a.png", Picture(before))
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    for target in ("a.png", "link.png", "../" + tmp_path.name):
        with pytest.raises(ConfigError, match=r"--output .* would replace the input; name another"):
            restore(Counting(), tmp_path / "a.png", tmp_path / target)
    (failure,) = restore(Affine(3, 0.5), _only(tmp_path / "in", before), tmp_path / "in")
    assert "would replace the input" in failure
    for path in (tmp_path / "a.png", tmp_path / "in" / "a.png"):
        np.testing.assert_array_equal(read_picture(path).pixels, before)


def _only(folder, pixels):
    write_picture(folder / "a.png", Picture(pixels))
    return folder


def test_a_folder_does_not_go_into_a_file(tmp_path):
    _only(tmp_path / "in", drawn(9, 8, 3))
    (tmp_path / "out.png").write_text("")
    with pytest.raises(
        ConfigError, match=r"--input .*in is a folder and --output .*out.png is a file; name a folder"
    ):
        restore(Affine(3), tmp_path / "in", tmp_path / "out.png")


@pytest.mark.parametrize(
    ("target", "dtype", "said"),
    [
        ("out.jpg", "uint16", r".jpg cannot hold 3 channels of uint16; use .png or .tif"),
        ("out.png", "float32", r".png cannot hold 3 channels of float32; use .tif or .npy"),
        ("out.gif", "uint8", r"unknown ending '.gif'; use one of .png"),
    ],
)
def test_what_a_format_cannot_hold_is_told_before_the_work(tmp_path, target, dtype, said):
    write_picture(tmp_path / "in.tif", Picture(drawn(9, 8, 3, dtype)))
    restorer = Restorer(Counting())
    with pytest.raises(ConfigError, match=said) as error:
        restore_files(restorer, config(tmp_path / "in.tif", tmp_path / target), nothing)
    assert "\n" not in str(error.value)
    assert restorer.network.calls == []
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


@pytest.mark.parametrize(("ending", "most"), [(".webp", 16383), (".jpg", 65500)])
def test_too_large_an_output_is_told_before_the_work(tmp_path, ending, most):
    write_picture(tmp_path / "in.png", Picture(np.zeros((1, most // 2 + 1, 3), np.uint8)))
    model = Counting()
    model.scale = 2
    restorer = Restorer(model)
    said = f"{ending} holds at most {most} pixels on a side, not {2 * (most // 2 + 1)}; use .png or .tif"
    with pytest.raises(ConfigError, match=said):
        restore_files(restorer, config(tmp_path / "in.png", tmp_path / f"out{ending}"), nothing)
    assert restorer.network.calls == []
    with pytest.raises(ConfigError, match=f"not {3 * (most // 2 + 1)};"):
        restore(Repeated(), tmp_path / "in.png", tmp_path / f"out{ending}", scale=3)


def test_float_with_another_white_is_told(tmp_path):
    write_picture(tmp_path / "in.tif", Picture(255 * drawn(9, 8, 3, "float32")))
    with pytest.raises(DataError, match=r"in.tif: float values from .* to 199, but white is 1; divide"):
        restore(Affine(3), tmp_path / "in.tif", tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize("options", [{"tile": -1}, {"halo": -2}])
def test_negative_sizes_are_told(tmp_path, options):
    write_picture(tmp_path / "in.png", Picture(drawn(9, 8, 3)))
    with pytest.raises(ConfigError, match="--tile and --halo are numbers of pixels, 0 or more"):
        restore(Affine(3), tmp_path / "in.png", tmp_path / "out.png", **options)


def test_a_missing_or_empty_folder_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        restore(Affine(3), tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- options


def test_options_reach_the_restorer(tmp_path, capsys):
    write_picture(tmp_path / "in.png", Picture(drawn(20, 30, 3)))
    restorer = Restorer(Counting())
    restore_files(
        restorer, config(tmp_path / "in.png", tmp_path / "out.png", tile=10, halo=2, means="tile"), nothing
    )
    shapes = [tuple(shape[2:]) for shape in restorer.network.calls]
    assert len(shapes) == 6 and max(shapes) == (12, 14)
    whole = Restorer(Counting())
    restore_files(whole, config(tmp_path / "in.png", tmp_path / "out.png", ensemble=True, tile=0), nothing)
    assert len(whole.network.calls) == 8
    restore(Affine(3), tmp_path / "in.png", tmp_path / "out.png", tune=True)
    assert "form       " in capsys.readouterr().out


def test_a_comparison_is_drawn_beside_the_result(tmp_path, capsys):
    write_picture(tmp_path / "in" / "a.tif", Picture(drawn(30, 40, 3)))
    restore(Affine(3), tmp_path / "in", tmp_path / "out", side_by_side=True)
    path = tmp_path / "out" / "a_compare.png"
    assert f"written    {path}" in capsys.readouterr().out
    assert min(read_picture(path).pixels.shape[:2]) > 200


def test_comparisons_of_one_stem_keep_apart(tmp_path):
    for name in ("a.tif", "a.png", "b.png"):
        write_picture(tmp_path / "in" / name, Picture(drawn(30, 40, 3)))
    restore(Affine(3), tmp_path / "in", tmp_path / "out", side_by_side=True)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("a.tif", "a.png", "b.png"),
        *("a.tif_compare.png", "a.png_compare.png", "b_compare.png"),
    }


def test_a_comparison_never_replaces_an_input_or_an_output(tmp_path):
    def refused(source, target, said):
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        restorer = Restorer(Counting())
        with pytest.raises(ConfigError, match=said) as error:
            restore_files(restorer, config(source, target, side_by_side=True), nothing)
        assert "\n" not in str(error.value)
        assert restorer.network.calls == []
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

    folder = tmp_path / "in"
    for name in ("a.png", "a_compare.png"):
        write_picture(folder / name, Picture(drawn(30, 40, 3)))
    refused(
        folder, tmp_path / "out", r"out/a_compare.png would replace the output a_compare.png; name another"
    )
    refused(
        folder / "a_compare.png", folder / "a.png", r"a_compare.png would replace the input .*a_compare.png"
    )
    (tmp_path / "link_compare.png").hardlink_to(folder / "a.png")
    refused(folder / "a.png", tmp_path / "link.png", r"link_compare.png would replace the input .*in/a.png")
    three = tmp_path / "three"
    for name in ("b.tif", "b.png", "b.tif.bmp"):
        write_picture(three / name, Picture(drawn(30, 40, 3)))
    refused(three, tmp_path / "out", r"b.tif_compare.png would replace the output b.tif_compare.png")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("photo.png", "photo_x2.png"),
        ("a.b.TIF", "a.b_x2.TIF"),
        ("photo.JPG", "photo_x2.png"),
        ("photo.jpeg", "photo_x2.png"),
        ("photo.jfif", "photo_x2.png"),
        ("photo", "photo_x2.png"),
        ("deep/photo.npy", "deep/photo_x2.npy"),
        ("photos.dir", "photos.dir_x2"),
        ("photos.dir/", "photos.dir_x2"),
        (".", "{here}_x2"),
        ("photos.dir/..", "{here}_x2"),
        ("/", None),
    ],
)
def test_results_go_beside_the_input(tmp_path, monkeypatch, source, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.dir").mkdir()
    assert beside(source, "x2") == (expected and expected.format(here=tmp_path))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_comparison_of_any_channels(tmp_path, channels):
    path = Path(tmp_path / "c.png")
    save_comparison(drawn(20, 20, channels, "uint16"), drawn(40, 40, channels, "uint16"), path)
    assert path.stat().st_size > 1000
