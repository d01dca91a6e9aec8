"""Baselines on images whose objects are easy to see, or always in one place."""

import numpy as np
import pytest
from scored_sets import SIZE, data_of, draw_set, image_set, no_images, scoring_of

from tasks.detection.baselines import score_baselines
from tasks.detection.matching import overlaps
from tasks.detection.regions import find_regions


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return data_of(draw_set(folder / "train", 20, seed=0), draw_set(folder / "test", 6, seed=1))


def test_regions_are_told_apart_by_their_looks(data):
    results = score_baselines(scoring_of(baselines=["regions", "prior"]), data)
    assert list(results) == ["regions", "prior"]
    regions = results["regions"].metrics
    assert regions["disc/map50"] > 0.9 and regions["box/map50"] > 0.9
    assert results["prior"].metrics["map50"] < 0.5
    assert "map_low" not in regions


def test_the_regions_of_an_image_contain_its_objects(data):
    from tasks.detection.data.images import read_rgb

    for i in range(len(data.test)):
        regions = find_regions(read_rgb(data.test.path(i)))
        assert (overlaps(data.test.targets(i).boxes, regions.boxes).max(1) > 0.85).all()
        assert np.isfinite(regions.looks).all() and len(regions.looks) == len(regions.boxes)


def test_regions_are_in_pixels_of_the_image_whatever_its_size():
    image = np.full((1200, 900, 3), 90, np.uint8)
    image[400:700, 300:500] = (250, 240, 30)
    regions = find_regions(image)
    assert overlaps(np.array([[300, 400, 500, 700]], np.float32), regions.boxes).max() > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (300, 3)])
def test_plain_and_tiny_images_have_no_regions(shape):
    regions = find_regions(np.full((*shape, 3), 77, np.uint8))
    assert regions.boxes.shape == (0, 4) and regions.looks.shape == (0, 16)


def test_the_prior_is_the_usual_place_and_scores_how_often_it_is_right(data):
    folder = data.train.root
    # In 8 of 20 images there is a disc in the corner; everywhere a crowd, which is not learned.
    corner, crowd = [0, 0, 60, 60, 0, 0], [100, 50, 190, 150, 1, 1]
    train = image_set([[corner, crowd] if i < 8 else [crowd] for i in range(20)], folder)
    test = image_set([[corner]] * 6, data.test.root)
    result = score_baselines(scoring_of(baselines=["prior"]), data_of(train, test))["prior"]
    assert result.metrics["disc/map"] == pytest.approx(1)
    for found in result.outputs.found:
        assert found.boxes == pytest.approx(np.array([[0, 0, 60, 60]]), abs=1e-3)
        assert found.scores == pytest.approx([0.4]) and found.labels.tolist() == [0]


def test_without_training_images_there_are_no_baselines_and_without_names_the_prior(data):
    assert score_baselines(scoring_of(), data_of(no_images(), data.test)) == {}
    assert list(score_baselines(scoring_of(baselines=[]), data)) == ["prior"]


def test_training_images_without_regions_that_fit_find_nothing(data):
    elsewhere = image_set([[[0, 0, 3, SIZE[1], 0, 0]]] * 20, data.train.root)
    result = score_baselines(scoring_of(baselines=["regions"]), data_of(elsewhere, data.test))["regions"]
    assert result.metrics["map"] == 0 and not any(map(len, result.outputs.found))
