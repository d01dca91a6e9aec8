import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from core.data.images.files import (
    ENDINGS,
    Picture,
    from_float,
    match_channels,
    peak,
    read_picture,
    to_float,
    write_picture,
)
from core.errors import ConfigError, DataError

RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)


def values(dtype, channels, seed=1):
    drawn = np.random.default_rng(seed).integers(0, 256 if dtype == "uint8" else 65536, (9, 7, channels))
    return (drawn / 65535).astype(np.float32) if dtype == "float32" else drawn.astype(dtype)


def encoded(image, format, **options):
    stored = io.BytesIO()
    image.save(stored, format, **options)
    return stored.getvalue()


def stored(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


LOSSLESS = [
    *[(".png", kind, c, a) for kind in ("uint8", "uint16") for c in (1, 3) for a in (False, True)],
    *[(".tif", kind, c, False) for kind in ("uint8", "uint16", "float32") for c in (1, 2, 3, 4, 7)],
    *[(".tiff", kind, c, True) for kind in ("uint8", "uint16", "float32") for c in (1, 3, 4)],
    *[(".npy", kind, c, False) for kind in ("uint8", "uint16", "float32") for c in (1, 3, 6)],
    *[(".pgm", kind, 1, False) for kind in ("uint8", "uint16")],
    *[(".ppm", kind, 3, False) for kind in ("uint8", "uint16")],
    (".bmp", "uint8", 1, False),
    (".bmp", "uint8", 3, False),
    (".webp", "uint8", 3, False),
    (".webp", "uint8", 3, True),
]


@pytest.mark.parametrize(("ending", "dtype", "channels", "alpha"), LOSSLESS)
def test_what_is_written_is_read_back(tmp_path, ending, dtype, channels, alpha):
    pixels = values(dtype, channels)
    plane = values(dtype, 1, seed=2)[..., 0] if alpha else None
    path = tmp_path / "new" / f"image{ending}"
    write_picture(path, Picture(pixels, plane))
    again = read_picture(path)
    assert again.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(again.pixels, pixels)
    assert again.pixels.flags.writeable and again.pixels.flags.c_contiguous
    assert (again.alpha is None) == (plane is None)
    if plane is not None:
        np.testing.assert_array_equal(again.alpha, plane)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_16_bit_png_is_what_another_decoder_reads(tmp_path):
    import cv2

    pixels = values("uint16", 3)
    write_picture(tmp_path / "a.png", Picture(pixels))
    other = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(other[..., ::-1], pixels)
    cv2.imwrite(str(tmp_path / "b.png"), pixels[..., ::-1])
    np.testing.assert_array_equal(read_picture(tmp_path / "b.png").pixels, pixels)
    # OpenCV writes TIFF with LZW, which tifffile alone cannot read.
    cv2.imwrite(str(tmp_path / "b.tif"), pixels[..., ::-1])
    np.testing.assert_array_equal(read_picture(tmp_path / "b.tif").pixels, pixels)


def test_jpeg_is_close_and_keeps_colour_resolution(tmp_path):
    flat = np.zeros((16, 16, 3), np.uint8)
    flat[:, ::2] = (200, 40, 40)
    write_picture(tmp_path / "a.jpg", Picture(flat))
    # With 4:2:0 the red columns would smear into each other by about 80 levels.
    assert np.abs(read_picture(tmp_path / "a.jpg").pixels.astype(int) - flat).max() < 20


@pytest.mark.parametrize(
    ("mode", "options", "channels", "alpha"),
    [
        ("1", {}, 1, False),
        ("P", {}, 3, False),
        ("P", {"transparency": 0}, 3, True),
        ("LA", {}, 1, True),
        ("RGBA", {}, 3, True),
        ("RGB", {"transparency": (0, 0, 0)}, 3, True),
        ("L", {"transparency": 3}, 1, True),
    ],
)
def test_png_modes(tmp_path, mode, options, channels, alpha):
    source = Image.fromarray(RGB).convert(mode)
    picture = read_picture(stored(tmp_path, "a.png", encoded(source, "PNG", **options)))
    assert picture.pixels.shape == (40, 50, channels)
    assert (picture.alpha is not None) == alpha
    want = np.asarray(source.convert("L" if channels == 1 else "RGB")).reshape(40, 50, channels)
    np.testing.assert_array_equal(picture.pixels, want)


def test_inks_become_rgb_without_their_profile(tmp_path):
    source = Image.fromarray(RGB).convert("CMYK")
    data = encoded(source, "JPEG", quality=100, icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 108)
    picture = read_picture(stored(tmp_path, "a.jpg", data))
    assert picture.pixels.shape == (40, 50, 3) and picture.icc is None
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", None])
def test_tiff_compressions(tmp_path, compression):
    data = encoded(Image.fromarray(RGB), "TIFF", compression=compression)
    np.testing.assert_array_equal(read_picture(stored(tmp_path, "a.tif", data)).pixels, RGB)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(tmp_path, format):
    steps = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((16, 16), np.uint8))
    for code in range(1, 9):
        exif = Image.Exif()
        exif[274] = code
        data = encoded(Image.fromarray(steps).convert("RGB"), format, exif=exif)
        want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        np.testing.assert_array_equal(read_picture(stored(tmp_path, "a", data)).pixels, want, str(code))


def test_tiff_layouts(tmp_path):
    path = tmp_path / "a.tif"
    planes = values("uint16", 5)
    for axes in ("separate", "contig"):
        array = np.moveaxis(planes, -1, 0) if axes == "separate" else planes
        tifffile.imwrite(path, array, photometric="minisblack", planarconfig=axes)
        np.testing.assert_array_equal(read_picture(path).pixels, planes)
    tifffile.imwrite(path, planes[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(path).pixels[..., 0], 65535 - planes[..., 0])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(40, 1), (1, 40), (1, 1), (3, 1)])
def test_tiff_sides_of_one_pixel(tmp_path, height, width, channels):
    drawn = np.random.default_rng(5).integers(0, 65536, (height, width, channels)).astype(np.uint16)
    path = tmp_path / "a.tif"
    write_picture(path, Picture(drawn))
    np.testing.assert_array_equal(read_picture(path).pixels, drawn)
    if channels > 1:
        kind = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(path, np.moveaxis(drawn, -1, 0), photometric=kind, planarconfig="separate")
        np.testing.assert_array_equal(read_picture(path).pixels, drawn)


def test_16_bit_ppm_with_another_maximum(tmp_path):
    path = stored(tmp_path, "a.pgm", b"P5\n# made by hand\n2 1\n1023\n\x03\xff\x02\x00")
    np.testing.assert_array_equal(read_picture(path).pixels.ravel(), [65535, round(512 / 1023 * 65535)])


@pytest.mark.parametrize(
    ("ending", "dtype"),
    [(".png", "uint8"), (".png", "uint16"), (".jpg", "uint8"), (".tif", "uint16"), (".webp", "uint8")],
)
def test_profile_survives_where_it_fits(tmp_path, ending, dtype):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"a{ending}"
    write_picture(path, Picture(values(dtype, 3), icc=profile))
    assert read_picture(path).icc == profile
    write_picture(path, Picture(values(dtype, 1), icc=profile))
    assert read_picture(path).icc is None


def bomb(bits):
    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0" * 99)) + chunk(b"IEND", b"")


def array_file(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def half(data):
    return data[: len(data) // 2]


def pages():
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((3, 8, 9, 3), np.uint8), photometric="rgb")
    return file.getvalue()


ANIMATION = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]}
BROKEN = {
    "empty": (b"", "empty (0 bytes)"),
    "text": (b"hello", "not an image"),
    "gif": (encoded(Image.fromarray(RGB), "GIF"), "not an image"),
    "bomb": (bomb(8), "178 million pixels"),
    "bomb of 16 bit": (bomb(16), "178 million pixels"),
    "two frames": (encoded(Image.fromarray(RGB), "PNG", **ANIMATION), "2 frames"),
    "two webp frames": (encoded(Image.fromarray(RGB), "WEBP", **ANIMATION), "2 frames"),
    "three pages": (pages(), "3 pages"),
    "nan": (array_file(np.array([[1, np.nan], [np.inf, 0]])), "2 of 4 values are NaN or infinite"),
    "white of 255": (
        array_file(np.array([[-1.5, 3], [255, 0]])),
        "float values from -1.5 to 255, but white is 1; divide them by the value of white, such as 255 or 65535",
    ),
    "int16": (array_file(np.ones((3, 3), np.int16)), "int16"),
    "one axis": (array_file(np.ones(3)), "shape (3,)"),
    "no pixels": (b"P5 0 5 65535\n", "cannot be decoded"),
    **{
        f"half a {format}": (half(encoded(Image.fromarray(RGB), format)), "cannot be decoded")
        for format in ("PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP")
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_told_in_one_line(tmp_path, name):
    data, words = BROKEN[name]
    path = stored(tmp_path, "a.png", data)
    with pytest.raises(DataError) as caught:
        read_picture(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and words in text and "\n" not in text


def test_half_a_16_bit_png(tmp_path):
    path = tmp_path / "a.png"
    write_picture(path, Picture(values("uint16", 3)))
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_picture(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_picture(tmp_path)


@pytest.mark.parametrize(
    ("name", "picture", "words"),
    [
        ("a.jpg", Picture(values("uint16", 3)), "3 channels of uint16; use .png or .tif"),
        ("a.jpg", Picture(RGB, RGB[..., 0]), "uint8 with alpha; use .png or .tif"),
        ("a.png", Picture(values("uint8", 5)), "5 channels of uint8; use .tif or .npy"),
        ("a.png", Picture(values("float32", 3)), "float32; use .tif or .npy"),
        (
            "a.npy",
            Picture(values("float32", 1), values("float32", 1)[..., 0]),
            "1 channel of float32 with alpha; use .tif",
        ),
        ("a.gif", Picture(RGB), "unknown ending '.gif'; use one of .png"),
    ],
)
def test_refuses_what_the_format_cannot_hold(tmp_path, name, picture, words):
    with pytest.raises(ConfigError) as caught:
        write_picture(tmp_path / name, picture)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_bright_spots_in_float_are_read(tmp_path):
    write_picture(tmp_path / "a.tif", Picture(np.array([[[1.9], [-0.3]]], np.float32)))
    assert read_picture(tmp_path / "a.tif").pixels.ravel() == pytest.approx([1.9, -0.3])


@pytest.mark.parametrize(("ending", "most"), [("jpg", 65500), ("JPEG", 65500), ("webp", 16383)])
def test_formats_hold_so_many_pixels_on_a_side(tmp_path, ending, most):
    path = tmp_path / f"a.{ending}"
    write_picture(path, Picture(np.zeros((1, most, 1), np.uint8)))
    with Image.open(path) as image:
        assert image.size == (most, 1)
    path.unlink()
    said = rf"^{path}: \.{ending.lower()} holds at most {most} pixels on a side, not {most + 1}; use .png or .tif$"
    for shape in ((1, most + 1, 1), (most + 1, 1, 1)):
        with pytest.raises(ConfigError, match=said):
            write_picture(path, Picture(np.zeros(shape, np.uint8)))
    assert not list(tmp_path.iterdir())
    write_picture(tmp_path / "a.png", Picture(np.zeros((1, most + 1, 1), np.uint8)))


def test_what_an_encoder_refuses_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("encoding error 5")

    monkeypatch.setattr(Image.Image, "save", refuse)
    said = r"a\.webp: cannot be written \(encoding error 5\); use .png or .tif$"
    with pytest.raises(ConfigError, match=said):
        write_picture(tmp_path / "a.webp", Picture(RGB))
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_picture(path, Picture(RGB))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_picture(path, Picture(RGB[::-1]))
    np.testing.assert_array_equal(read_picture(path).pixels, RGB)
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_picture(tmp_path / "file" / "a.png", Picture(RGB))


def test_every_ending_is_written(tmp_path):
    for ending in ENDINGS:
        pixels = RGB[..., :1] if ending == ".pgm" else RGB
        write_picture(tmp_path / f"a{ending.upper()}", Picture(pixels))
        assert read_picture(tmp_path / f"a{ending.upper()}").pixels.shape == pixels.shape


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_float_and_back_is_exact(dtype):
    everything = np.arange(int(peak(dtype)) + 1).astype(dtype)
    assert to_float(everything).dtype == np.float32 and to_float(everything).max() == 1
    np.testing.assert_array_equal(from_float(to_float(everything), dtype), everything)


def test_rounding_is_half_up_and_clipped():
    halves = np.array([-1, 0.5 / 255, 1.49 / 255, 1.5 / 255, 2.5 / 255, 7])
    np.testing.assert_array_equal(from_float(halves, np.uint8), [0, 1, 1, 2, 3, 255])
    np.testing.assert_array_equal(from_float(np.array([-1.0, 7.0]), np.float32), [-1, 7])
    assert from_float(halves, np.float32).dtype == np.float32


def test_channels():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 1, 3], [255, 255, 255]]], np.uint8)
    # 76.245, 149.685, 29.07, 1.228, 255
    np.testing.assert_array_equal(match_channels(colours, 1, "a.png").ravel(), [76, 150, 29, 1, 255])
    half = np.array([[[0, 0, 250]]], np.uint8)  # 114 * 250 = 28 500 thousandths
    assert match_channels(half, 1, "a.png").item() == 29
    shade = match_channels(np.array([[[0.5, 0.25, 1.0]]], np.float32), 1, "a.tif")
    assert shade.dtype == np.float32 and shade.item() == pytest.approx(0.41025)
    gray = values("uint16", 1)
    np.testing.assert_array_equal(match_channels(gray, 3, "a.png"), np.concatenate([gray] * 3, axis=2))
    assert match_channels(gray, 1, "a.png") is gray
    with pytest.raises(DataError, match=r"^a\.tif: has 5 channels, but 3 are wanted"):
        match_channels(values("uint8", 5), 3, "a.tif")


def test_paths_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_picture(Path("größe 1.png"), Picture(RGB))
    np.testing.assert_array_equal(read_picture(Path("größe 1.png")).pixels, RGB)
