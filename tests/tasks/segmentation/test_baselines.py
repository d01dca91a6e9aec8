"""Methods without a network find what they can find, and are chosen on training cases alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu
from sklearn.metrics import f1_score

from tasks.segmentation.baselines import score_baselines, separated
from tasks.segmentation.config import SegScoringConfig
from tasks.segmentation.data.cases import Case, Fold, Geometry, Scan, SegmentationData, Voxels
from tasks.segmentation.labels import IGNORE, Labels, object_labels
from tasks.segmentation.prior import learn_prior
from tasks.segmentation.thresholds import OTSU, best_level, choose_rule, is_dark

SCAN = Scan("", (1, 1, 1), (1.0, 1.0, 1.0), 1.0, np.zeros((1, 0)), {})
VESSEL = Labels(("background", "vessel"), (0, 255))
TWO = Labels(("background", "head", "tail"), (0, 1, 2))


def data_of(voxels, labels, train, test):
    cases = [Case(f"case_{i}", (), None, None, each.geometry, SCAN) for i, each in enumerate(voxels)]
    content = dict(zip((case.name for case in cases), voxels, strict=True))
    fold = Fold("model", tuple(train), (), tuple(test))
    channels = ["x"] * len(voxels[0].image)
    return SegmentationData("x", cases, [fold], labels, channels, lambda case: content[case.name])


def voxels_of(image, labels, mask=None, objects=None):
    geometry = Geometry(labels.shape, (999.0 if len(labels) == 1 else 1.0, 1.0, 1.0), ".png")
    return Voxels(image.astype(np.float32), labels.astype(np.int16), mask, objects, geometry)


def config(*names):
    return SimpleNamespace(scoring=SegScoringConfig(baselines=list(names)) if names else SegScoringConfig())


def vessels(seed, size=64):
    """Thin dark lines in the second channel, on a slope that is far larger; the first channel is noise."""
    rng = np.random.default_rng(seed)
    lines = np.zeros((size, size), bool)
    for at in rng.integers(4, size - 4, 3):
        lines[:, at - 1 : at + 1] = True
    slope = np.linspace(0, 200, size)[:, None] * rng.uniform(0.5, 1.5)
    image = np.stack([rng.normal(0, 50, (size, size)), slope - 40 * lines + rng.normal(0, 2, (size, size))])
    mask = np.ones((1, size, size), bool)
    mask[0, :, :2] = False
    return voxels_of(image[:, None], lines[None], mask)


def test_threshold_finds_channel_polarity_and_filter():
    cases = [vessels(seed) for seed in range(6)]
    rule = choose_rule((case, case.labels > 0) for case in cases[:4])
    assert (rule.channel, rule.filter) == (1, "top-hat 3") and rule.polarity != "bright"
    data = data_of(cases, VESSEL, range(4), (4, 5))
    results = score_baselines(config(), data)
    assert list(results) == ["threshold", "otsu", "majority"], "the first decides about promotion"
    assert results["threshold"].metrics["dice"] > 0.9 > results["otsu"].metrics["dice"]
    assert results["threshold"].metrics["auc"] > 0.95
    assert results["majority"].metrics["dice"] == 0 and results["majority"].metrics["auc"] == 0.5


def test_nothing_is_found_outside_the_field_of_view():
    case = vessels(0)
    case.mask[:, :, 20:] = False
    result = score_baselines(config("threshold"), data_of([case, case], VESSEL, [0], [1]))["threshold"]
    assert not result.outputs.worst[0].labels[~case.mask].any()


def test_the_best_level_is_that_of_a_search():
    rng = np.random.default_rng(0)
    truths = [rng.random(300) < share for share in (0.1, 0.4, 0.0)]
    values = [rng.normal(truth * 2.0, 1) for truth in truths]
    dice, level = best_level(values, truths)

    def mean_dice(at):
        return np.mean([f1_score(t, v > at) for t, v in zip(truths[:2], values[:2], strict=True)])

    assert dice == pytest.approx(mean_dice(level))
    tried = np.linspace(-2, 4, 200)
    assert dice >= max(map(mean_dice, tried)) - 0.01


def test_the_smaller_part_is_the_class_whatever_its_brightness():
    dark_on_bright = np.r_[np.zeros(10), np.ones(90)]
    assert is_dark(dark_on_bright, "smaller") and not is_dark(1 - dark_on_bright, "smaller")
    assert is_dark(dark_on_bright, "dark") and not is_dark(dark_on_bright, "bright")


def blobs(seed, bright=True):
    rng = np.random.default_rng(seed)
    labels = np.zeros((1, 48, 48), bool)
    labels[0, 8:20, 8:20] = labels[0, 28:40, 24:40] = True
    image = 100 + 50 * (1 if bright else -1) * labels + rng.normal(0, 4, labels.shape)
    return image[None], labels


def test_otsu_is_that_of_scikit_image():
    image, labels = blobs(0)
    data = data_of([voxels_of(image, labels)] * 2, VESSEL, [0], [1])
    found = score_baselines(config("otsu"), data)["otsu"].outputs.worst[0].labels
    np.testing.assert_array_equal(found, image[0] > threshold_otsu(image))


def test_otsu_needs_no_training_cases():
    """Then the class is the smaller part of each image."""
    cases = [voxels_of(*blobs(i, bright)) for i, bright in enumerate((True, False))]
    results = score_baselines(config(), data_of(cases, VESSEL, [], [0, 1]))
    assert list(results) == ["otsu", "majority"], "what has to be learned is left out"
    assert results["otsu"].metrics["dice"] > 0.99


def test_threshold_knows_otsu_too():
    cases = [voxels_of(*blobs(i, i % 2 == 0)) for i in range(6)]
    rule = choose_rule((case, case.labels > 0) for case in cases[:4])
    assert (rule.polarity, rule.scale) == ("smaller", OTSU)


def discs(centres, radius=7, size=64):
    grid = np.indices((size, size))
    numbers = np.zeros((1, size, size), np.int32)
    for i, (y, x) in enumerate(centres):
        numbers[0][((grid[0] - y) ** 2 + (grid[1] - x) ** 2) <= radius**2] = i + 1
    return numbers


def test_touching_objects_are_separated():
    truth = discs([(20, 16), (20, 29), (45, 40)])
    assert ndimage.label(truth)[1] == 2
    numbers = separated(truth > 0)
    assert numbers.max() == 3 and ((numbers > 0) == (truth > 0)).all()
    # Each true object has one number in nearly all of its voxels.
    for i in (1, 2, 3):
        counts = np.bincount(numbers[truth == i])
        assert counts.max() > 0.9 * counts.sum()
    speck = truth > 0
    speck[0, 2, 60] = True
    assert separated(speck).max() == 3


def test_objects_are_scored_as_objects():
    rng = np.random.default_rng(0)
    cases = []
    for shift in range(4):
        truth = discs([(20, 16 + shift), (20, 29 + shift), (45, 40)])
        cases.append(
            voxels_of((40.0 * (truth > 0) + rng.normal(0, 3, truth.shape))[None], truth > 0, None, truth)
        )
    results = score_baselines(config(), data_of(cases, object_labels(), range(3), [3]))
    assert list(results) == ["threshold", "otsu", "majority"]
    assert results["threshold"].metrics["instance_f1"] == 1
    assert results["majority"].metrics["instance_f1"] == 0


def organs(seed, shape=(10, 16, 14)):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int16)
    z, y, x = (round(0.2 * n) + rng.integers(0, 2) for n in shape)
    labels[z : z + shape[0] // 2, y : y + shape[1] // 3, x : x + shape[2] // 2] = 1
    labels[z : z + shape[0] // 2, y + shape[1] // 3 : y + 2 * (shape[1] // 3), x : x + shape[2] // 2] = 2
    return voxels_of(rng.normal(size=(1, *shape)), labels)


def test_prior_is_where_things_usually_are():
    """It never looks at the image, which is noise, and goes to cases of another shape."""
    cases = [organs(seed) for seed in range(8)] + [organs(9, (20, 32, 28))]
    results = score_baselines(config(), data_of(cases, TWO, range(8), [8]))
    assert list(results) == ["prior", "majority"]
    assert results["prior"].metrics["dice"] > 0.7
    assert results["prior"].outputs.worst[0].labels.shape == (20, 32, 28)


def test_prior_is_the_mean_of_the_labels():
    cases = [organs(seed) for seed in range(5)]
    data = data_of(cases, TWO, range(5), [])
    prior = learn_prior(data.cases, data.read, TWO)
    expected = np.mean([[case.labels == i for i in range(3)] for case in cases], axis=0)
    np.testing.assert_allclose(prior.maps, expected, atol=1e-6)
    np.testing.assert_allclose(prior.probabilities((20, 32, 28)).sum(0), 1, atol=1e-5)


def test_what_is_ignored_counts_for_nothing_in_the_prior():
    """In the first row of each case another part is unlabelled, in the last one all: there nothing is known."""
    marked = np.ones((1, 8, 12), np.int16)
    marked[0, :, 6:] = 2
    cases = [voxels_of(np.zeros((1, 1, 8, 12)), marked) for _ in range(4)]
    for i, each in enumerate(cases):
        each.labels[0, 0, 3 * i : 3 * i + 3] = IGNORE
        each.mask = np.ones((1, 8, 12), bool)
        each.mask[0, 1, 3 * i : 3 * i + 3] = False  # the same by the field of view
        each.labels[0, 1, 3 * i : 3 * i + 3] = 0
        each.labels[0, 7] = IGNORE
    data = data_of(cases, TWO, range(4), [])
    prior = learn_prior(data.cases, data.read, TWO)
    expected = np.stack([marked == i for i in range(3)]).astype(float)
    expected[:, :, 7] = 0
    np.testing.assert_allclose(prior.maps, expected, atol=1e-5)


def test_what_is_ignored_does_not_choose_the_weight_of_the_prior():
    """Four cases do not know about the lower part: else it would seem to be wrong in them, and be left out."""
    cases = [voxels_of(np.zeros((1, 1, 9, 8)), np.zeros((1, 9, 8))) for _ in range(12)]
    for i, each in enumerate(cases):
        part = slice(3, 6) if i < 3 else slice(0, 3)
        each.labels[0, part] = 1
        if i >= 8:
            each.labels[0, 3:6] = IGNORE
    data = data_of(cases, VESSEL, range(12), [])
    prior = learn_prior(data.cases, data.read, VESSEL)
    # By hand: 3 of 8 have the lower part. With it Dice is 8 x 2/3 + 4 in sum, without it 5 + 4.
    np.testing.assert_allclose(prior.maps[1, 0, :, 0], [9 / 12] * 3 + [3 / 8] * 3 + [0] * 3, atol=1e-5)
    assert prior.classes(prior.maps)[0, :, 0].tolist() == [1] * 6 + [0] * 3


def test_prior_of_regions():
    regions = Labels(("background", "a", "b"), (0, 1, 2), None, (("whole", (1, 2)), ("part", (2,))), (1, 2))
    cases = [organs(seed) for seed in range(5)]
    results = score_baselines(config("prior"), data_of(cases, regions, range(4), [4]))
    assert results["prior"].metrics["whole/dice"] > 0.8 and results["prior"].metrics["part/dice"] > 0.6


def test_there_always_is_one():
    cases = [organs(0), organs(1)]
    assert list(score_baselines(config("threshold"), data_of(cases, TWO, [0], [1]))) == ["majority"]
    with pytest.raises(ValueError, match=r"unknown baseline 'priors'.*prior"):
        score_baselines(config("priors"), data_of(cases, TWO, [0], [1]))
