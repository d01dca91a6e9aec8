"""Requests with image files as base64 text."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from restoring_nets import Affine, Repeated, Twice

from core.errors import DataError
from core.infer.restorer import Restorer
from core.infer.serving import example_request, serve_frame


def drawn(channels, dtype="uint8"):
    values = np.random.default_rng(channels).integers(0, 200, (11, 9, channels))
    return values.astype(dtype).squeeze()


def text(pixels, format="PNG"):
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, format)
    return base64.b64encode(stored.getvalue()).decode()


def opened(answer):
    data = base64.b64decode(answer)
    assert data.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(data)))


def test_images_come_back_restored():
    gray, colour = drawn(1), drawn(3)
    frame = pd.DataFrame({"image": [text(gray), text(colour, "BMP")]}, index=[7, 9])
    answer = serve_frame(Restorer(Affine(3, 1.0, 0.2)), frame)
    assert list(answer.columns) == ["image"] and len(answer) == 2
    np.testing.assert_array_equal(opened(answer["image"].iloc[0]), gray + 51)
    np.testing.assert_array_equal(opened(answer["image"].iloc[1]), colour + 51)


def test_16_bit_stays_16_bit():
    pixels = drawn(1, "uint16") * 300
    answer = serve_frame(Restorer(Affine(1)), pd.DataFrame({"image": [text(pixels)]}))
    np.testing.assert_array_equal(opened(answer["image"][0]), pixels)


def test_an_enlargement_is_passed_on():
    pixels = drawn(3)
    answer = serve_frame(Restorer(Repeated()), pd.DataFrame({"image": [text(pixels)]}), scale=3)
    np.testing.assert_array_equal(opened(answer["image"][0]), pixels.repeat(3, axis=0).repeat(3, axis=1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("model", "factor"), [(Affine(3, 1.0, 0.2), 1), (Twice(), 2)])
def test_alpha_comes_back(channels, model, factor):
    planes = np.dstack([drawn(channels), np.full((11, 9), 77, np.uint8)])
    answer = serve_frame(Restorer(model), pd.DataFrame({"image": [text(planes)]}))
    restored = opened(answer["image"][0])
    assert restored.shape == (11 * factor, 9 * factor, channels + 1)
    assert (restored[..., -1] == 77).all()
    if factor == 1:
        np.testing.assert_array_equal(restored[..., :-1], planes[..., :-1] + 51)


def floats():
    stored = io.BytesIO()
    tifffile.imwrite(stored, np.zeros((5, 5), np.float32))
    return base64.b64encode(stored.getvalue()).decode()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("no base64!", "image is not base64 text of an image file"),
        (None, "image is not base64 text of an image file"),
        (3.5, "image is not base64 text of an image file"),
        ("ä", "image is not base64 text of an image file"),
        ("", "the file is empty"),
        (base64.b64encode(b"no image").decode(), "is not an image"),
        (text(drawn(3))[:200], "cannot be decoded"),
        (text(drawn(3)), r"the image is colour \(3 channels\) and the model is for gray"),
        (floats(), ".png cannot hold 1 channel of float32"),
    ],
)
def test_a_bad_row_is_named(bad, said):
    frame = pd.DataFrame({"image": pd.Series([text(drawn(1)), bad], dtype=object)})
    with pytest.raises(DataError, match=f"^row 1: .*{said}") as error:
        serve_frame(Restorer(Affine(1)), frame)
    assert "\n" not in str(error.value)
    assert "/tmp" not in str(error.value), "our files are nothing to the caller"


def test_the_column_is_needed():
    with pytest.raises(DataError, match="the request needs a column 'image' with image files as base64 text"):
        serve_frame(Restorer(Affine(1)), pd.DataFrame({"picture": []}))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_example_is_a_request(channels):
    restorer = Restorer(Affine(channels))
    frame, params = example_request(restorer)
    assert params == {}
    (answer,) = serve_frame(restorer, frame)["image"]
    assert opened(answer).shape == ((32, 32) if channels == 1 else (32, 32, 3))
    np.testing.assert_array_equal(opened(answer), opened(frame["image"][0]))


def test_images_of_other_channels_come_and_go_as_tiff():
    restorer = Restorer(Affine(5))
    frame, params = example_request(restorer)
    (text,) = serve_frame(restorer, frame)["image"]
    data = base64.b64decode(text)
    assert data[:4] in (b"II*\x00", b"MM\x00*") and params == {}
    assert tifffile.imread(io.BytesIO(data)).shape == (32, 32, 5)
