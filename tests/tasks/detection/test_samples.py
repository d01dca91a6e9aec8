"""Training samples and their batches."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from core.data.loader import EpochLoader, Place, PlacedSamples
from tasks.detection.config import AugmentConfig
from tasks.detection.data.dataset import ImageSet, Polygons
from tasks.detection.samples import DetectionSamples

SIDE = 96
CPU = torch.device("cpu")
COLOURS = np.array([[220, 0, 0], [0, 220, 0], [0, 0, 220]])
CALM = AugmentConfig(mosaic=0, scale=[1, 1], hsv=[0, 0, 0], flip=0, mixup=0)


class Rectangles:
    """Images of a few rectangles, red, green and blue for the classes 0, 1 and 2, on grey."""

    def __init__(self, count=8, *, empty=(), outlines=True):
        rng = np.random.default_rng(0)
        self.pictures, boxes, labels, start = [], [], [], [0]
        sizes = rng.integers(80, 220, (count, 2))
        for index, (width, height) in enumerate(sizes):
            picture = np.full((height, width, 3), 70, np.uint8)
            for cell in range(0 if index in empty else 4):  # one in each quarter, so that none covers another
                label = int(rng.integers(3))
                low = np.array([cell % 2, cell // 2]) * [width, height] / 2
                corner = low + rng.uniform(0.05, 0.3, 2) * [width / 2, height / 2]
                x1, y1 = corner.astype(int)
                x2, y2 = (corner + rng.uniform(0.3, 0.65, 2) * [width / 2, height / 2]).astype(int)
                picture[y1:y2, x1:x2] = COLOURS[label]
                boxes.append([x1, y1, x2, y2])
                labels.append(label)
            start.append(len(boxes))
            self.pictures.append(picture)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        k = len(boxes)
        polygons = Polygons(
            boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2), np.arange(k + 1) * 4, np.arange(k + 1)
        )
        self.images = ImageSet(
            Path("nowhere"),
            np.array([f"{i}.png" for i in range(count)]),
            sizes.astype(np.int32),
            np.arange(count),
            np.array(start),
            boxes,
            np.array(labels, np.int64),
            np.zeros(k, bool),
            np.ones(k, np.float32),
            polygons if outlines else None,
        )

    def __call__(self, index):
        return self.pictures[index]

    def samples(self, augment=CALM, plain_from=10, masks=False):
        return DetectionSamples(self.images, self, SIDE, augment, plain_from, masks)


def drawn(samples, index=0, epoch=0, recent=(1, 2, 3, 4, 5), seed=0):
    return samples.draw_at(Place(epoch, index, recent), np.random.default_rng(seed))


AUGMENTS = {
    "plain": AugmentConfig(mosaic=0, hsv=[0, 0, 0], mixup=0, flip_vertical=0.5),
    "mosaic": AugmentConfig(hsv=[0, 0, 0], mixup=0),
    "small mosaic": AugmentConfig(hsv=[0, 0, 0], mixup=0, scale=[0.3, 0.5]),
}


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("masks", [False, True])
def test_boxes_and_masks_are_where_the_pixels_of_their_class_are(name, masks):
    samples = Rectangles().samples(AUGMENTS[name], masks=masks)
    boxes_seen = 0
    for seed in range(40):
        sample = drawn(samples, index=seed % 8, seed=seed)
        picture = sample["image"].permute(1, 2, 0).numpy().astype(int)
        for label, colour in enumerate(COLOURS):
            # Where the colour is the class's own: blends at the borders may be either.
            is_colour = np.abs(picture - colour).sum(2) < 90
            surely, perhaps = np.zeros((2, SIDE, SIDE), bool)
            for x1, y1, x2, y2 in sample["boxes"][sample["labels"] == label].numpy():
                surely[round(y1 + 1.2) : round(y2 - 1.2), round(x1 + 1.2) : round(x2 - 1.2)] = True
                perhaps[max(0, round(y1 - 1)) : round(y2 + 1), max(0, round(x1 - 1)) : round(x2 + 1)] = True
            assert (~is_colour & surely).sum() <= 0.03 * surely.sum()
            # Slivers that are thinner than a pixel are not learned.
            assert (is_colour & ~perhaps).sum() <= 30
            boxes_seen += int((sample["labels"] == label).sum())
        assert (sample["boxes"][:, 2:] - sample["boxes"][:, :2] >= 0.99).all()
        assert ((sample["boxes"] >= 0) & (sample["boxes"] <= SIDE)).all()
        if masks:
            for box, mask in zip(sample["boxes"].numpy(), sample["masks"].numpy(), strict=True):
                centres = np.arange(2, SIDE, 4) + 0.5
                clear = (np.abs(centres[:, None] - box) > 1e-4).all(
                    axis=1
                )  # of the border, where rounding rules
                x, y = ((centres > box[k]) & (centres < box[k + 2]) for k in (0, 1))
                expected = y[:, None] & x
                np.testing.assert_array_equal(mask[clear][:, clear], expected[clear][:, clear])
    assert boxes_seen > 100


def test_an_image_that_is_not_changed_is_fitted():
    rectangles = Rectangles()
    samples = rectangles.samples()
    for index in range(8):
        sample = drawn(samples, index)
        height, width = rectangles(index).shape[:2]
        scale = SIDE / max(height, width)
        w, h = int(width * scale + 0.5), int(height * scale + 0.5)
        image = sample["image"].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image[:h, :w], cv2.resize(rectangles(index), (w, h)))
        assert (image[h:] == 114).all()
        assert (image[:, w:] == 114).all()
        known = rectangles.images.targets(index)
        factors = [w / width, h / height] * 2
        np.testing.assert_allclose(sample["boxes"], known.boxes * factors, rtol=1e-5)
        assert sample["labels"].tolist() == known.labels.tolist()
        assert sample["ids"] == f"{index}.png"


def test_types_are_those_that_losses_expect():
    sample = drawn(Rectangles().samples(AugmentConfig(), masks=True))
    assert sample["image"].dtype == sample["masks"].dtype == torch.uint8
    assert (sample["boxes"].dtype, sample["labels"].dtype) == (torch.float32, torch.int64)
    assert sample["has_mask"].dtype == torch.bool
    assert sample["image"].shape == (3, SIDE, SIDE)
    assert "masks" not in drawn(Rectangles().samples(AugmentConfig()))


def test_flips_are_as_often_as_asked():
    rectangles = Rectangles()
    still = drawn(rectangles.samples())["image"]
    for option in ("flip", "flip_vertical"):
        samples = rectangles.samples(replace(CALM, **{option: 0.25}))
        kept = [torch.equal(drawn(samples, seed=seed)["image"], still) for seed in range(200)]
        assert np.mean(kept) == pytest.approx(0.75, abs=0.08)


def test_no_image_is_mirrored_where_none_may_be():
    # All images are dark on the left and bright on the right, blended ones too.
    rectangles = Rectangles(outlines=False)
    ramp = np.linspace(0, 255, 128).astype(np.uint8)[None, :, None]
    rectangles.pictures = [np.broadcast_to(ramp, (128, 128, 3)) for _ in range(8)]
    rectangles.images.sizes[:] = 128
    samples = rectangles.samples(AugmentConfig(mosaic=0, scale=[1, 1], hsv=[0, 0, 0], flip=0, mixup=1))
    for seed in range(20):
        image = drawn(samples, seed=seed)["image"].int()
        assert (image.diff(dim=2) >= 0).all()


def test_images_without_objects_stay_and_are_empty():
    rectangles = Rectangles(empty=range(8))
    for masks in (False, True):
        sample = drawn(rectangles.samples(AugmentConfig(), masks=masks))
        assert sample["boxes"].shape == (0, 4)
        assert sample["labels"].shape == (0,)
        batch = DetectionSamples.collate([sample, sample])
        assert batch["boxes"].shape == (0, 4)
        assert batch["owner"].dtype == torch.int64
        assert not masks or batch["masks"].shape == (0, SIDE // 4, SIDE // 4)


def test_a_part_with_objects_is_preferred(monkeypatch):
    rectangles = Rectangles(count=1, outlines=False)
    # One small object in a corner: few of the parts of an image enlarged twice show it.
    known = rectangles.images
    one = {"start": np.array([0, 1]), "labels": known.labels[:1], "area": known.area[:1]}
    boxes, crowd = np.array([[0, 0, 20, 20]], np.float32), known.crowd[:1]
    rectangles.images = replace(known, boxes=boxes, crowd=crowd, **one)
    samples = rectangles.samples(replace(CALM, scale=[2, 2]))

    def share():
        return np.mean([len(drawn(samples, seed=seed)["labels"]) for seed in range(100)])

    preferred = share()
    monkeypatch.setattr("tasks.detection.samples.TRIES", 1)
    once = share()
    assert 0 < once < 0.4
    assert preferred == pytest.approx(1 - (1 - once) ** 10, abs=0.15)
    crowd = replace(rectangles.images, crowd=np.ones(1, bool))
    samples = DetectionSamples(crowd, rectangles, SIDE, CALM, 1, False)
    assert len(drawn(samples)["labels"]) == 0


def test_objects_without_outline_have_no_mask():
    rectangles = Rectangles()
    polygons = rectangles.images.polygons
    rings = polygons.rings[:-4]  # those of the last image's objects are gone
    objects = np.minimum(polygons.objects, len(rings) - 1)
    rectangles.images = replace(rectangles.images, polygons=Polygons(polygons.points, rings, objects))
    samples = rectangles.samples(masks=True)
    assert drawn(samples, 0)["has_mask"].all()
    sample = drawn(samples, 7)
    assert not sample["has_mask"].any()
    assert len(sample["has_mask"]) == len(sample["boxes"]) == 4
    rectangles.images = replace(rectangles.images, polygons=None)
    assert not drawn(rectangles.samples(masks=True))["has_mask"].any()


def mixed(sample):
    """Whether a sample of the uniform images below shows more than one of them, or what lies between."""
    return len(sample["image"].unique()) > 1


class Uniform(Rectangles):
    """Square images of one value each."""

    def __init__(self, count=12):
        super().__init__(count, outlines=False)
        self.images.sizes[:] = 64
        self.pictures = [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(count)]


STILL = AugmentConfig(scale=[1, 1], hsv=[0, 0, 0], flip=0, mixup=0)


def test_images_are_joined_once_enough_have_been_drawn():
    samples = Uniform().samples(STILL)
    assert isinstance(samples, PlacedSamples)
    assert samples.window == 40
    for recent, expected in [((), False), ((1, 2, 3), False), ((1, 2, 3, 4), True)]:
        joined = [mixed(drawn(samples, recent=recent, seed=seed)) for seed in range(10)]
        assert any(joined) == expected
    narrow = Uniform().samples(replace(STILL, cache=2))
    assert any(mixed(drawn(narrow, recent=(3, 4), seed=seed)) for seed in range(10))
    everything = Uniform().samples(replace(STILL, cache=0))
    assert everything.window == 0
    assert any(mixed(drawn(everything, recent=(), seed=seed)) for seed in range(10))


def test_others_are_drawn_from_the_recent_ones():
    samples = Uniform().samples(replace(STILL, scale=[0.5, 0.5]))  # the whole mosaic is seen
    values = set()
    for seed in range(30):
        image = drawn(samples, index=2, recent=(5, 6, 8, 9), seed=seed)["image"]
        assert 20 in image, "the image itself is always there"
        values |= set(image.unique().tolist())
    assert values == {20, 50, 60, 80, 90, 114}


def test_mixup_is_as_often_as_asked():
    samples = Uniform().samples(replace(STILL, mosaic=0, mixup=0.3))
    values = [int(drawn(samples, index=1, recent=(3, 5, 7, 9), seed=s)["image"][0, 0, 0]) for s in range(300)]
    assert set(values) == {10, 20, 30, 40, 50}
    assert np.mean(np.array(values) != 10) == pytest.approx(0.3, abs=0.07)


def test_a_sample_depends_on_its_place_and_the_generator_alone():
    samples, other = (Rectangles().samples(AugmentConfig(), masks=True) for _ in range(2))
    for index in range(5):
        drawn(other, index, seed=9)
    first, second = drawn(samples, 3, seed=4), drawn(other, 3, seed=4)
    assert all(torch.equal(first[key], second[key]) for key in first if key != "ids")
    assert not torch.equal(first["image"], drawn(samples, 3, seed=5)["image"])


def test_a_batch_tells_whose_an_object_is():
    rectangles = Rectangles(empty=[1])
    samples = rectangles.samples(masks=True)
    parts = [drawn(samples, index) for index in range(3)]
    batch = DetectionSamples.collate(parts)
    assert batch["image"].shape == (3, 3, SIDE, SIDE)
    assert batch["owner"].tolist() == [0] * 4 + [2] * 4
    assert batch["ids"] == ["0.png", "1.png", "2.png"]
    for key in ("boxes", "labels", "masks", "has_mask"):
        assert torch.equal(batch[key][4:], parts[2][key])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_last_epochs_are_plain_in_loader_processes_too(workers):
    samples = Uniform().samples(STILL, plain_from=2)
    loader = EpochLoader(samples, 4, seed=0, workers=workers, collate=samples.collate)
    epochs = [[], [], [], []]
    for number, batch in enumerate(islice(loader.batches(0, CPU), 12)):
        epochs[number // 3] += [len(image.unique()) > 1 for image in batch["image"]]
    assert np.mean(epochs[1]) > 0.5
    assert not any(epochs[2] + epochs[3])


def test_a_loader_entered_in_the_middle_draws_the_same():
    samples = Rectangles().samples(AugmentConfig(), masks=True)

    def batches(start, count):
        loader = EpochLoader(samples, 4, seed=3, collate=samples.collate)
        return list(islice(loader.batches(start, CPU), count))

    for expected, batch in zip(batches(0, 6)[3:], batches(3, 3), strict=True):
        assert batch["ids"] == expected["ids"]
        for key in ("image", "boxes", "labels", "owner", "masks"):
            assert torch.equal(batch[key], expected[key])
