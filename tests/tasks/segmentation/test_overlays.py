"""Label maps over images: what is coloured, where slices lie, and which part is enlarged."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tasks.segmentation.overlays import (
    ERRORS,
    OPACITY,
    Scene,
    draw_prediction,
    draw_scene,
    error_kinds,
    palette,
    shade,
    views_of,
)


def test_labels_are_coloured_and_their_outlines_opaque():
    colours = palette(2)
    labels = np.zeros((9, 9), np.int16)
    labels[2:7, 2:7] = 2
    picture = np.full((9, 9, 3), 0.25)
    shaded = shade(picture, labels, colours)
    np.testing.assert_allclose(shaded[0, 0], 0.25)
    np.testing.assert_allclose(shaded[2, 4], colours[1])
    np.testing.assert_allclose(shaded[4, 4], 0.25 * (1 - OPACITY) + OPACITY * colours[1])
    # Ignored voxels are no class.
    np.testing.assert_allclose(shade(picture, np.full((9, 9), -1), colours), 0.25)


@pytest.mark.parametrize("count", [1, 7, 20])
def test_classes_have_colours_of_their_own(count):
    colours = palette(count)[:count]
    assert len(np.unique(colours.round(6), axis=0)) == count
    if count <= 7:
        assert not any(np.allclose(colour, to_rgb(error)) for colour in colours for error in ERRORS.values())


def test_kinds_of_errors():
    truth = np.array([[[0, 0, 1, 1, 2, -1, 1]]])
    found = np.array([[[0, 1, 0, 1, 1, 1, 2]]])
    valid = np.array([[[1, 1, 1, 1, 1, 0, 1]]], bool)
    np.testing.assert_array_equal(error_kinds(truth, found, valid)[0, 0], [0, 1, 2, 0, 3, 0, 3])


def test_objects_are_wrong_where_they_are_no_true_object():
    """Numbers mean nothing; two that were found as one do."""
    truth, found = np.zeros((1, 4, 10), int), np.zeros((1, 4, 10), int)
    truth[0, 0, :4], truth[0, 2, :5], truth[0, 2, 5:] = 1, 2, 3
    found[0, 0, :4], found[0, 2, 1:9] = 9, 4
    kinds = error_kinds(truth, found, np.ones_like(truth, bool), objects=True)
    assert not kinds[0, 0].any()
    np.testing.assert_array_equal(kinds[0, 2], [2, *[3] * 8, 2])


def test_the_part_with_most_errors_is_enlarged():
    errors = np.zeros((1, 160, 200), np.uint8)
    errors[0, 5, 5] = errors[0, 90:100, 150:160] = 1
    scene = Scene(np.zeros((1, 1, 160, 200)), (999.0, 1.0, 1.0), {"truth": errors}, errors)
    whole, part = views_of(scene)
    assert whole.box is None and whole.of(errors).shape == (160, 200)
    top, left, side = part.box
    assert side == 40 and top <= 90 and top + side >= 100 and left <= 150 and left + side >= 160
    assert part.of(errors).sum() == 100
    assert len(views_of(Scene(scene.image, scene.spacing, {}, np.zeros_like(errors)))) == 1


def test_slices_go_through_the_middle_of_the_truth():
    truth = np.zeros((10, 20, 30), np.int16)
    truth[2:5, 10:13, 20:27] = 1
    scene = Scene(np.zeros((1, 10, 20, 30)), (2.0, 1.0, 1.0), {"truth": truth})
    assert [(view.axis, view.index) for view in views_of(scene)] == [(0, 3), (1, 11), (2, 23)]
    assert [view.of(scene.image).shape for view in views_of(scene)] == [(1, 20, 30), (1, 10, 30), (1, 10, 20)]
    empty = Scene(scene.image, scene.spacing, {"truth": 0 * truth})
    assert [view.index for view in views_of(empty)] == [5, 10, 15]


def test_panels_of_a_volume_have_its_proportions():
    truth = np.zeros((4, 20, 30), np.int16)
    truth[1:3, 5:9, 5:9] = 1
    scene = Scene(np.random.default_rng(0).random((2, 4, 20, 30)), (5.0, 1.0, 0.5), {"truth": truth}, truth)
    figure = Figure()
    draw_scene(figure, scene, palette(1))
    axes = np.array(figure.axes).reshape(3, 3)
    assert [axis.get_title() for axis in axes[0]] == ["image", "truth", "error"]
    assert [axis.get_aspect() for axis in axes[:, 0]] == [2.0, 10.0, 5.0]
    assert axes[0, 0].images[0].origin == "lower"
    # Through 1.5, 6.5 and 6.5 from 0 on.
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["z 3 of 4", "y 7 of 20", "x 7 of 30"]
    assert not any(axis.get_ylabel() for axis in axes[:, 1:].ravel())
    # The errors lie where they are, in their colour, over a gray image.
    error = np.asarray(axes[0, 2].images[0].get_array())
    red = 0.9 * np.array(to_rgb("tab:red"))
    assert (error[5:9, 5:9] >= red - 1e-6).all()
    assert (error[..., 0] == error[..., 1]).sum() == 20 * 30 - 16


def test_a_large_image_is_thinned_and_its_frame_with_it():
    errors = np.zeros((1, 2400, 1600), np.uint8)
    errors[0, 1200:1210, 800:810] = 2
    scene = Scene(np.zeros((3, 1, 2400, 1600), np.float32), (999.0, 1.0, 1.0), {"truth": errors}, errors)
    figure = Figure()
    draw_scene(figure, scene, palette(1))
    assert figure.axes[0].images[0].get_array().shape == (800, 534, 3)
    (frame,) = figure.axes[0].patches
    top, left = frame.get_y() * 3, frame.get_x() * 3
    assert top <= 1200 <= 1210 <= top + 400 + 3 and left <= 800 <= 810 <= left + 400 + 3


@pytest.mark.parametrize("names", [("background", "liver"), ()])
def test_a_result_is_drawn_beside_its_image(names, tmp_path):
    result = np.zeros((1, 20, 30), np.int32)
    result[0, 3:9, 4:12] = 1
    scene = Scene(np.ones((1, 1, 20, 30)), (999.0, 1.0, 1.0), {"result": result})
    figure = draw_prediction(scene, names, "case")
    assert [axis.get_title() for axis in figure.axes] == ["image", "result"]
    assert not any(axis.get_ylabel() for axis in figure.axes), "an image has no slices"
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == list(names[1:])
    figure.savefig(tmp_path / "x.png", dpi=40)
