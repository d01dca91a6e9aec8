"""A network applied to images of every type, size and number of channels."""

import numpy as np
import pytest
import torch
from restoring_nets import Affine, Blurred, Repeated, Tinted, Twice
from tiled_nets import Attentive, Plain, image, whole

from core.errors import ConfigError, DataError
from core.infer.restorer import Cut, Restorer


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_type_is_kept_and_whole_numbers_are_clipped_and_rounded(dtype, channels):
    pixels = image(21, 17, channels, dtype)
    restored = Restorer(Affine(channels, 2.4, -0.21))(pixels)
    assert restored.dtype == dtype and restored.shape == pixels.shape
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    values = 2.4 * pixels.astype(np.float64) - 0.21 * white
    if dtype == "float32":
        assert values.max() > 1 and values.min() < 0
        np.testing.assert_allclose(restored, values, atol=1e-6)
    else:
        np.testing.assert_array_equal(restored, np.floor(np.clip(values, 0, white) + 0.5))
        assert restored.max() == white and restored.min() == 0


def test_a_gray_image_goes_through_a_colour_model_as_three_equal_channels():
    pixels = image(12, 9, 1)
    np.testing.assert_allclose(Restorer(Tinted())(pixels), pixels + 0.3, atol=1e-6)
    whole_numbers = image(12, 9, 1, "uint8")
    expected = np.floor(np.minimum(whole_numbers + 255 * np.array([0.1, 0.2, 0.6]), 255) + 0.5)
    restored = Restorer(Tinted())(whole_numbers)
    assert restored.dtype == np.uint8 and restored.shape == (12, 9, 1)
    np.testing.assert_array_equal(restored, np.floor(expected.mean(axis=2, keepdims=True) + 0.5))


@pytest.mark.parametrize(
    ("have", "want", "said"),
    [
        (3, 1, r"the image is colour \(3 channels\) and the model is for gray \(1 channel\); convert the"),
        (4, 3, r"the image is 4 channels and the model is for colour"),
        (1, 4, r"the image is gray \(1 channel\) and the model is for 4 channels"),
    ],
)
def test_other_channels_are_told(have, want, said):
    with pytest.raises(DataError, match=said) as error:
        Restorer(Affine(want))(image(8, 8, have))
    assert "\n" not in str(error.value)


def test_models_of_other_channels_restore_their_own():
    pixels = image(8, 9, 5, "uint16")
    np.testing.assert_array_equal(Restorer(Affine(5))(pixels), pixels)


def test_the_model_is_folded_and_left_as_it_was():
    model = Blurred()
    model.train()
    restorer = Restorer(model, {"patch": 8})
    assert isinstance(restorer.network.layers[1], torch.nn.Identity)
    assert isinstance(model.layers[1], torch.nn.BatchNorm2d) and model.training
    pixels = image(14, 15)
    padded = np.pad(pixels[..., 0], 1)
    mean = sum(padded[i : i + 14, j : j + 15] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(restorer(pixels)[..., 0], (mean - 0.25) / np.sqrt(1 + 1e-5), atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_tiles_change_nothing(dtype):
    restorer = Restorer(Plain(3))
    pixels = image(45, 38, 3, dtype)
    restorer.cut = Cut(tile=0)
    expected = restorer(pixels)
    restorer.cut = Cut(tile=16)
    np.testing.assert_allclose(restorer(pixels), expected, atol=1e-6 if dtype == "float32" else 0)
    restorer.cut = Cut(tile=16, halo=0)
    assert not np.array_equal(restorer(pixels), expected)


def test_global_means_by_the_chosen_way():
    torch.manual_seed(0)
    restorer = Restorer(Attentive(), {"patch": 16})
    pixels = image(40, 36)
    restored = {}
    for means in ("whole", "two_pass", "tile", "window"):
        restorer.cut = Cut(20, None, means)
        restored[means] = restorer(pixels)
    restorer.cut = Cut(0)
    exact = restorer(pixels)
    np.testing.assert_allclose(exact, whole(restorer.network, pixels), atol=1e-6)
    np.testing.assert_allclose(restored["whole"], exact, atol=1e-4)
    error = {means: np.abs(values - exact).max() for means, values in restored.items()}
    assert error["two_pass"] < error["tile"]
    assert len({values.tobytes() for values in restored.values()}) == 4


def test_an_enlargement_of_the_model_is_taken():
    pixels = image(5, 6, 3, "uint8")
    restorer = Restorer(Repeated())
    assert restorer.scales == (2, 3)
    for scale, expected in ((None, 2), (2, 2), (3, 3)):
        np.testing.assert_array_equal(
            restorer(pixels, scale), pixels.repeat(expected, axis=0).repeat(expected, axis=1)
        )
    with pytest.raises(ConfigError, match="this model does not enlarge by 4; it has 2, 3"):
        restorer(pixels, 4)
    single = Restorer(Twice())
    np.testing.assert_array_equal(single(pixels), pixels.repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(ConfigError, match="this model does not enlarge by 3; it has 2"):
        single(pixels, 3)


@pytest.mark.parametrize(("scale", "side"), [(1, 512), (2, 512), (3, 341), (8, 128), (16, 128)])
def test_the_default_size_of_a_piece(monkeypatch, scale, side):
    from core.infer import restorer as module

    asked = []

    def seen(model, pixels, *, tile, **options):
        asked.append(tile)
        return pixels

    monkeypatch.setattr(module, "restore", seen)
    model = Twice(1)
    model.scale = scale
    restorer = Restorer(model)
    for tile, expected in ((None, side), (0, 0), (100, 100)):
        restorer.cut = Cut(tile)
        restorer(image(8, 8))
        assert asked.pop() == expected
    assert Cut().tile is None


def test_progress_ends_with_all_pieces():
    seen = []
    restorer = Restorer(Plain())
    restorer.cut = Cut(10)
    restorer(image(20, 30), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_an_ensemble_is_the_mean_of_eight_views():
    torch.manual_seed(0)
    restorer = Restorer(Plain())
    pixels = image(11, 14)
    views = []
    for flip in (False, True):
        for turns in range(4):
            view = np.rot90(pixels[:, ::-1] if flip else pixels, turns)
            back = np.rot90(restorer(np.ascontiguousarray(view)), -turns)
            views.append(back[:, ::-1] if flip else back)
    plain = restorer(pixels)
    restorer.ensemble()
    np.testing.assert_allclose(restorer(pixels), np.mean(views, axis=0), atol=1e-6)
    assert np.abs(restorer(pixels) - plain).max() > 1e-4


@pytest.mark.parametrize("model", [Plain(3), Twice(), Repeated()])
def test_tuning_changes_nothing_but_time(model):
    restorer = Restorer(model)
    pixels = image(20, 21, 3)
    expected = restorer(pixels)
    name = restorer.tune(side=32)
    assert name.split(",")[0] in ("plain", "channels_last", "winograd")
    np.testing.assert_allclose(restorer(pixels), expected, atol=1e-5)


def test_of_a_network_that_sees_far_the_halo_is_bounded(monkeypatch):
    from core.infer import restorer as module

    class Seen(Affine):
        halo = 40

        def forward(self, x):
            sides.append(tuple(x.shape[2:]))
            return super().forward(x)

    sides: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "FAR", 3)
    restorer = Restorer(Seen(1))
    for halo, expected in ((None, (16, 16)), (5, (20, 20))):
        sides.clear()
        restorer.cut = Cut(10, halo)
        restorer(image(30, 30))
        assert max(sides) == expected
