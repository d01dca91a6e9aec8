"""Training patches: where they lie, what is read there, and that numbers come from the given generator alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.data.loader import EpochLoader
from core.errors import ConfigError
from tasks.segmentation.config import AugmentConfig, SegTrainConfig
from tasks.segmentation.labels import IGNORE, Labels
from tasks.segmentation.samples import PatchSamples, crop, fixed_batches

TWO = Labels(("background", "head", "tail"), (0, 1, 2))
PARTLY = Labels(("background", "head"), (0, 1), 2)


def plan_of(patch, batch=6):
    return SimpleNamespace(
        dims=len(patch), patch_size=patch, batch_size=batch, normalisation=("zscore",), previous_classes=0
    )


def case_of(shape=(9, 10, 11), labelled=(), mask=None, labels=True):
    """A case whose voxels know their own position; ``labelled`` are voxels and their class."""
    z, y, x = np.indices(shape)
    image = (10000 * z + 100 * y + x + 1).astype(np.float32)[None]
    truth = np.zeros(shape, np.int16)
    foreground = {}
    for k, voxel in labelled:
        truth[voxel] = k
        foreground.setdefault(k, []).append(voxel)
    positions = {k: np.array(v, np.int32) for k, v in foreground.items()}
    return SimpleNamespace(
        image=image, labels=truth if labels else None, mask=mask, foreground=positions, frame=None
    )


def samples_of(cases, patch, labels=TWO, foreground=0.33, kind="none", batches=50):
    names = [f"case_{i}" for i in range(len(cases))]
    train = SegTrainConfig(batches_per_epoch=batches, foreground=foreground)
    return PatchSamples(cases, names, plan_of(patch), labels, train, AugmentConfig(kind))


def drawn(samples, count=None):
    return [samples.draw(i, np.random.default_rng([7, i])) for i in range(count or len(samples))]


def corner(image):
    """First voxel (z, y, x) of a patch that lies inside its case."""
    value = int(image.flatten()[0]) - 1
    return value // 10000, value // 100 % 100, value % 100


def test_a_patch_is_read_with_its_labels_as_tensors():
    case = case_of(labelled=[(1, (4, 5, 6))])
    patch = samples_of([case], (3, 4, 5), foreground=1.0).draw(0, np.random.default_rng(0))
    assert patch["image"].shape == (1, 3, 4, 5) and patch["image"].dtype == torch.float32
    assert patch["labels"].shape == (3, 4, 5) and patch["labels"].dtype == torch.int64
    assert patch["ids"] == "case_0"
    z, y, x = corner(patch["image"])
    assert np.array_equal(patch["image"][0], case.image[0, z : z + 3, y : y + 4, x : x + 5])
    assert np.array_equal(patch["labels"], case.labels[z : z + 3, y : y + 4, x : x + 5])


@pytest.mark.parametrize(("share", "free"), [(0.33, 4), (0.5, 3), (0.0, 6), (1.0, 0)])
def test_the_last_patches_of_a_batch_are_put_on_a_labelled_voxel(share, free):
    # One voxel in 64,000, so that no free patch of one voxel meets it by chance.
    case = case_of((40, 40, 40), [(1, (20, 30, 25))])
    forced = [
        bool(sample["labels"].any())
        for sample in drawn(samples_of([case], (1, 1, 1), foreground=share, batches=3))
    ]
    assert forced == 3 * ([False] * free + [True] * (6 - free))


def test_classes_are_drawn_alike_however_many_voxels_they_have():
    many = [(1, (z, y, 2)) for z in range(9) for y in range(10)]
    samples = samples_of([case_of(labelled=[*many, (2, (4, 4, 8))])], (1, 1, 1), foreground=1.0)
    classes = [sample["labels"].item() for sample in drawn(samples)]
    assert set(classes) == {1, 2} and 110 < classes.count(1) < 190


def test_a_forced_patch_is_centred_and_moved_inside_at_the_border():
    middle = samples_of([case_of(labelled=[(1, (4, 5, 6))])], (3, 3, 3), foreground=1.0)
    assert {corner(s["image"]) for s in drawn(middle, 5)} == {(3, 4, 5)}
    border = samples_of([case_of(labelled=[(1, (8, 0, 10))])], (3, 3, 3), foreground=1.0)
    assert {corner(s["image"]) for s in drawn(border, 5)} == {(6, 0, 8)}


def test_free_patches_reach_every_position():
    samples = samples_of([case_of((4, 3, 3))], (2, 3, 2), foreground=0.0)
    assert {corner(s["image"]) for s in drawn(samples)} == {(z, 0, x) for z in range(3) for x in range(2)}


def test_a_small_case_is_padded_with_zero_and_background():
    case = case_of((2, 3, 3), [(2, (0, 0, 0))])
    patch = samples_of([case], (4, 3, 6), foreground=0.0).draw(0, np.random.default_rng(1))
    # One slice more on each side; of the odd number of columns, one more in front.
    assert np.array_equal(patch["image"][0, 1:3, :, 2:5], case.image[0])
    assert patch["image"].count_nonzero() == 18
    assert patch["labels"].sum() == 2 and patch["labels"][1, 0, 2] == 2


def test_a_plan_of_slices_reads_the_slice_of_the_voxel():
    samples = samples_of([case_of(labelled=[(1, (7, 5, 5))])], (3, 3), foreground=1.0)
    patch = samples.draw(0, np.random.default_rng(0))
    assert patch["image"].shape == (1, 3, 3) and patch["labels"].shape == (3, 3)
    assert corner(patch["image"]) == (7, 4, 4) and patch["labels"][1, 1] == 1
    free = samples_of([case_of()], (3, 3), foreground=0.0)
    assert {corner(s["image"])[0] for s in drawn(free)} == set(range(9))


def test_centres_lie_in_the_field_of_view_and_labels_outside_count_for_nothing():
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 8:12, 5:15] = True
    samples = samples_of([case_of((1, 20, 20), mask=mask)], (4, 6), foreground=0.0)
    for sample in drawn(samples):
        _, y, x = corner(sample["image"])
        assert mask[0, y + 2, x + 3]
        assert np.array_equal(sample["labels"] != IGNORE, mask[0, y : y + 4, x : x + 6])


def test_free_patches_are_put_where_something_is_labelled():
    case = case_of((1, 60, 60))
    case.labels[:] = IGNORE
    case.labels[0, 20, [10, 30, 58, 59]] = 0
    everywhere = drawn(samples_of([case], (3, 3), labels=TWO, foreground=0.0), 60)
    labelled = drawn(samples_of([case], (3, 3), labels=PARTLY, foreground=0.0), 60)
    assert {corner(sample["image"]) for sample in labelled} == {(0, 19, x) for x in (9, 29, 57)}
    assert sum((sample["labels"] != IGNORE).any().item() for sample in everywhere) < 10
    case.labels[:] = IGNORE
    nothing = samples_of([case], (3, 3), labels=PARTLY).draw(0, np.random.default_rng(0))
    assert (nothing["labels"] == IGNORE).all()


def test_cases_without_labels_or_without_foreground_are_read_too():
    for case in (case_of(labels=False), case_of()):
        sample = samples_of([case], (3, 3, 3), foreground=1.0).draw(5, np.random.default_rng(0))
        assert not sample["labels"].any() and sample["image"].all()


def test_all_cases_are_drawn():
    samples = samples_of([case_of(), case_of(), case_of()], (3, 3, 3))
    assert {s["ids"] for s in drawn(samples, 60)} == {"case_0", "case_1", "case_2"}


def test_arrays_on_disk_are_read_and_never_written(tmp_path):
    case = case_of(labelled=[(1, (4, 4, 4))])
    memory = samples_of([case], (12, 4, 4), kind="mirror")
    for name in ("image", "labels"):
        np.save(tmp_path / f"{name}.npy", getattr(case, name))
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("image", "labels")}
    disk = samples_of([SimpleNamespace(**{**vars(case), **mapped})], (12, 4, 4), kind="mirror")
    for a, b in zip(drawn(memory, 12), drawn(disk, 12), strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["labels"], b["labels"])


def test_batches_depend_on_the_seed_alone():
    samples = samples_of([case_of(labelled=[(1, (4, 4, 4))])], (3, 3, 3), kind="mirror", batches=4)

    def batches(seed, start=0):
        source = EpochLoader(samples, 6, seed=seed, shuffle=False).batches(start, torch.device("cpu"))
        return [next(source)["image"] for _ in range(3)]

    np.random.seed(0)
    torch.manual_seed(0)
    first = batches(1)
    assert first[0].shape == (6, 1, 3, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, batches(1), strict=True))
    assert torch.equal(batches(1, start=2)[0], first[2])
    assert not torch.equal(batches(2)[0], first[0])


def test_validation_batches_are_fixed_and_not_augmented():
    case = case_of(labelled=[(1, (4, 4, 4)), (2, (2, 2, 2))])
    samples = samples_of([case], (3, 3, 3), kind="mirror")
    plain = samples.unchanged()
    assert len(plain) == len(samples) == 300
    batches = fixed_batches(plain, 2, 6, seed=3)
    assert len(batches) == 2 and batches[0]["labels"].shape == (6, 3, 3, 3) and "ids" not in batches[0]
    again = fixed_batches(plain, 2, 6, seed=3)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(batches, again, strict=True))
    # Values grow along every axis, unless an axis was mirrored.
    rows = torch.cat([batch["image"] for batch in batches]).flatten(1)
    assert (rows.diff() > 0).all()
    mirrored = torch.stack([s["image"] for s in drawn(samples, 12)]).flatten(1)
    assert not (mirrored.diff() > 0).all()


def test_crop_against_padding_and_slicing():
    array = np.random.default_rng(0).normal(size=(2, 5, 6, 7))
    padded = np.pad(array, ((0, 0), (4, 4), (4, 4), (4, 4)))
    for start, size in [((-2, 0, 3), (9, 2, 2)), ((1, -4, -1), (3, 14, 9)), ((0, 0, 0), (5, 6, 7))]:
        z, y, x = (slice(s + 4, s + 4 + n) for s, n in zip(start, size, strict=True))
        assert np.array_equal(crop(array, start, size), padded[:, z, y, x])


def test_axes_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match=r"--augment.mirror: \[2\]: .* are 0, 1"):
        PatchSamples([], [], plan_of((3, 3)), TWO, SegTrainConfig(), AugmentConfig("mirror", [2]))
    with pytest.raises(ConfigError, match="unknown augmentation 'nnunets'"):
        samples_of([case_of()], (3, 3), kind="nnunets")
