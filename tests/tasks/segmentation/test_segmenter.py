"""From voxels to segmentations: networks that know the answer, folds, ensembles, cascades, fields of view."""

from __future__ import annotations

import copy
import dataclasses

import base_plan
import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from core.errors import DataError
from tasks.segmentation.data.cases import FLAT, Geometry, Voxels
from tasks.segmentation.labels import Labels, object_labels
from tasks.segmentation.onednn import OneDNNConv3d, with_onednn
from tasks.segmentation.preprocess import preprocess
from tasks.segmentation.segmenter import Segmenter

LABELS = Labels(("background", "low", "high"), (0, 1, 2))
PLAN = dataclasses.replace(base_plan.PLAN, normalisation=("none",))
FLAT_PLAN = dataclasses.replace(
    PLAN, configuration="2d", spacing=(1.0, 1.0), patch_size=(16, 16), resample=False, crop=False
)


class Levels(nn.Module):
    """Logits of background 0, of class 1 the first channel less ``low``, of class 2 twice that less ``high``."""

    def __init__(self, low=1.0, high=2.0, dims=3):
        super().__init__()
        self.conv = (nn.Conv3d if dims == 3 else nn.Conv2d)(1, 3, 1)
        with torch.no_grad():
            self.conv.weight[:] = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, *[1] * dims)
            self.conv.bias[:] = torch.tensor([0.0, -low, -low - high])

    def forward(self, x):
        return self.conv(x[:, :1])


def settings(plan=PLAN, labels=LABELS, **more):
    return {
        "objective": "segment",
        "labels": labels.to_dict(),
        "channels": ["MRI"],
        "plan": plan.to_dict(),
        "postprocessing": None,
        "previous": None,
        "members": [],
        **more,
    }


def segmenter(*networks, previous=None, members=(), learned_from=None, **options):
    named = {f"fold_{i}": network for i, network in enumerate(networks)} or {}
    metadata = {"name": "test"} | ({"learned_from": learned_from} if learned_from else {})
    return Segmenter(settings(**options), named, metadata, previous, members)


def case(shape=(12, 14, 11), spacing=(1.0, 1.0, 1.0), seed=0):
    """Levels 0, 1.5 and 4 in boxes, zeros around them."""
    image = np.zeros((1, *shape), np.float32)
    z, y, x = (n // 2 for n in shape)
    image[0, : max(1, shape[0] - 2), 1:-2, 1:-2] = 0.4
    image[0, : max(1, z), 2:y, 2:x] = 1.5
    image[0, : max(1, z), y:-3, x:-3] = 4
    return Voxels(image, None, None, None, Geometry(shape, spacing, ".nii.gz"))


def expected(voxels):
    return np.where(voxels.image[0] > 2, 2, np.where(voxels.image[0] > 1, 1, 0))


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("mirror", ["no", "yes"])
def test_a_volume_is_segmented_in_its_own_geometry(transpose, mirror):
    model = segmenter(Levels(), plan=dataclasses.replace(PLAN, transpose=transpose))
    model.mirror = mirror
    voxels = case()
    found = model.segment(voxels, "a")
    assert found.labels.dtype == np.int16
    np.testing.assert_array_equal(found.labels, expected(voxels))
    assert found.objects is None and found.probabilities is None


def test_other_spacings_are_resampled_and_back():
    voxels = case((20, 24, 22), (0.5, 0.5, 0.5))
    found = segmenter(Levels()).segment(voxels, "a")
    assert found.labels.shape == (20, 24, 22)
    wrong = found.labels != expected(voxels)
    assert wrong.mean() < 0.08, "along the borders"
    assert set(np.unique(found.labels)) == {0, 1, 2}


def test_images_are_segmented_by_networks_of_images():
    voxels = case((1, 40, 30), (FLAT, 1.0, 1.0))
    found = segmenter(Levels(dims=2), plan=FLAT_PLAN).segment(voxels, "a")
    np.testing.assert_array_equal(found.labels, expected(voxels))


def test_probabilities_on_request():
    voxels = case()
    model = segmenter(Levels())
    found = model.segment(voxels, "a", keep_probabilities=True)
    image = voxels.image[0]
    logits = np.stack([0 * image, image - 1, 2 * image - 3])
    expected_probabilities = special.softmax(logits, axis=0)
    expected_probabilities[:, image == 0] = np.array([[1], [0], [0]])  # cropped away
    np.testing.assert_allclose(found.probabilities, expected_probabilities, atol=1e-5)
    np.testing.assert_array_equal(found.labels, model.segment(voxels, "a").labels)


def test_folds_are_averaged_or_asked_alone():
    voxels = case()
    model = segmenter(Levels(low=1.0), Levels(low=3.0))
    prepared = model.prepare(voxels, "a")
    one, two = (model.logits(prepared, [fold]) for fold in ("fold_0", "fold_1"))
    assert one.shape == (3, *prepared.image.shape[1:])
    assert (one - two).abs().max() > 1
    torch.testing.assert_close(model.logits(prepared), (one + two) / 2)
    torch.testing.assert_close(model.logits(prepared, ["fold_0", "fold_1"]), (one + two) / 2)
    # At 1.5 the first says class 1, the second and the mean say background.
    assert (model.segment(voxels, "a", folds=["fold_0"]).labels == 1).any()
    assert not (model.segment(voxels, "a").labels == 1).any()


def test_progress_is_over_all_networks():
    told = []
    model = segmenter(Levels(), Levels())
    model.segment(case(), "a", progress=lambda done, total: told.append((done, total)))
    # Two networks, of 10 x 11 x 8 voxels in windows of 8.
    assert told[-1] == (2 * 4, 2 * 4)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_nothing_is_found_outside_the_field_of_view():
    voxels = case()
    voxels.mask = np.zeros(voxels.image.shape[1:], bool)
    voxels.mask[:, :7] = True
    truth = np.where(voxels.mask, expected(voxels), 0)
    for keep in (False, True):
        found = segmenter(Levels()).segment(voxels, "a", keep_probabilities=keep)
        np.testing.assert_array_equal(found.labels, truth)
    outside = found.probabilities[:, ~voxels.mask]
    assert (outside[0] == 1).all() and not outside[1:].any()


def test_postprocessing_is_applied():
    voxels = case()
    voxels.image[0, 0, 1, 1] = 4
    assert segmenter(Levels()).segment(voxels, "a").labels[0, 1, 1] == 2
    model = segmenter(Levels(), postprocessing={"all_foreground": False, "classes": [[2]]})
    np.testing.assert_array_equal(
        model.segment(voxels, "a").labels,
        np.where(voxels.image[0] == 4, 0, expected(voxels)) + 2 * (expected(case()) == 2),
    )


def test_ensembles_average_probabilities_of_other_plans():
    voxels = case()
    turned = dataclasses.replace(PLAN, transpose=(1, 2, 0), patch_size=(4, 8, 8))
    members = [segmenter(Levels(low=1.0)), segmenter(Levels(low=2.5), plan=turned)]
    parts = [member.segment(voxels, "a", keep_probabilities=True).probabilities for member in members]
    both = Segmenter(
        settings() | {"plan": None, "members": [settings(), settings(turned)]}, {}, {}, members=members
    )
    assert both.plan == PLAN
    found = both.segment(voxels, "a", keep_probabilities=True)
    np.testing.assert_allclose(found.probabilities, (parts[0] + parts[1]) / 2, atol=1e-6)
    np.testing.assert_array_equal(found.labels, found.probabilities.argmax(0))
    assert both.segment(voxels, "a").probabilities is None


def test_options_reach_members_and_coarser_models():
    low = segmenter(Levels())
    fine = segmenter(Levels(), plan=dataclasses.replace(PLAN, previous_classes=2), previous=low)
    both = Segmenter(settings(), {}, {}, members=[fine])
    both.step, both.mirror, both.batch = 1.0, "yes", 3
    both.segment(case(), "a")
    for model in (fine, low):
        assert (model.step, model.mirror, model.batch) == (1.0, "yes", 3)


def test_a_cascade_reads_the_coarser_result():
    class Previous(nn.Module):
        """Says what the coarser model said, with the classes exchanged."""

        def forward(self, x):
            assert x.shape[1] == 3
            return torch.stack([0.5 - x[:, 1] - x[:, 2], x[:, 2], x[:, 1]], dim=1)

    coarse = segmenter(Levels(), plan=dataclasses.replace(PLAN, spacing=(1.0, 1.0, 1.0), transpose=(2, 1, 0)))
    model = segmenter(
        Previous(),
        plan=dataclasses.replace(PLAN, configuration="3d_cascade_fullres", previous_classes=2),
        previous=coarse,
    )
    voxels = case()
    prepared = model.prepare(voxels, "a")
    assert prepared.image.shape[0] == 3
    truth = expected(voxels)
    np.testing.assert_array_equal(model.segment(voxels, "a").labels, np.where(truth > 0, 3 - truth, 0))


def test_a_cascade_asks_the_coarser_networks_that_did_not_learn_from_the_case():
    # At 1.5 the first says class 1, the second and the mean say background.
    known = {"fold_0": ["b"], "fold_1": ["a"]}
    coarse = segmenter(Levels(low=1.0), Levels(low=3.0), learned_from=known)
    # What the finer networks learned from decides about them alone.
    model = segmenter(
        Levels(),
        Levels(),
        plan=dataclasses.replace(PLAN, previous_classes=2),
        previous=coarse,
        learned_from={"fold_0": ["a"], "fold_1": ["b"]},
    )
    found = [model.prepare(case(), name).image[1].any() for name in ("a", "b", "new")]
    assert found == [True, False, False]


def test_networks_that_did_not_learn_from_a_case():
    known = {"fold_0": ["b", "c"], "fold_1": ["a", "c"]}
    model = segmenter(Levels(), Levels(), learned_from=known)
    assert {name: model.unseen(name) for name in "abcd"} == {
        "a": ["fold_0"],
        "b": ["fold_1"],
        "c": ["fold_0", "fold_1"],
        "d": ["fold_0", "fold_1"],
    }
    assert [name for name in "abcd" if model.knows(name)] == ["c"]
    untold = segmenter(Levels())
    assert untold.unseen("a") == ["fold_0"] and not untold.knows("a")
    # In an ensemble all members must not have learned from it.
    other = segmenter(Levels(), Levels(), learned_from={"fold_0": ["a"], "fold_1": ["c", "e"]})
    both = Segmenter(settings(), {}, {}, members=[model, other])
    assert {name: both.unseen(name) for name in "abcde"} == {
        "a": [],
        "b": ["fold_1"],
        "c": ["fold_0"],
        "d": ["fold_0", "fold_1"],
        "e": ["fold_0"],
    }
    assert [name for name in "abcde" if both.knows(name)] == ["c"]


def test_objects_are_told_apart():
    class Objects(nn.Module):
        """Object above 1, core above 3."""

        def forward(self, x):
            return 10 * torch.cat([x - 1, x - 3], dim=1)

    image = np.zeros((1, 1, 24, 40), np.float32)
    image[0, 0, 4:16, 4:16] = image[0, 0, 4:16, 16:30] = 2
    image[0, 0, 6:14, 6:14] = image[0, 0, 6:14, 18:28] = 4
    voxels = Voxels(image, None, None, None, Geometry((1, 24, 40), (FLAT, 1.0, 1.0), ".png"))
    found = segmenter(Objects(), plan=FLAT_PLAN, labels=object_labels()).segment(voxels, "cells")
    assert found.objects.dtype == np.int32
    assert found.objects.max() == 2
    assert found.objects[0, 10, 8] != found.objects[0, 10, 20]
    np.testing.assert_array_equal(found.objects > 0, image[0] > 1)
    np.testing.assert_array_equal(found.labels, np.where(image[0] > 3, 2, np.where(image[0] > 1, 1, 0)))
    assert found.probabilities is None
    voxels.mask = np.zeros((1, 24, 40), bool)
    voxels.mask[:, :, :16] = True
    assert (
        segmenter(Objects(), plan=FLAT_PLAN, labels=object_labels()).segment(voxels, "cells").objects.max()
        == 1
    )


@pytest.mark.parametrize(
    ("axes", "mirror", "count"),
    [(None, "yes", 8), ([0], "yes", 2), ([], "yes", 1), (None, "no", 1), (None, "auto", 1)],
)
def test_only_axes_that_were_mirrored_in_training_are_mirrored(axes, mirror, count, monkeypatch):
    calls = []

    class Counted(Levels):
        def forward(self, x):
            calls.append(1)
            return super().forward(x)

    model = segmenter(Counted(), **({} if axes is None else {"mirror_axes": axes}))
    model.device = torch.device("cpu")
    model.networks = {name: network.cpu() for name, network in model.networks.items()}
    model.mirror, model.batch = mirror, 100
    model.segment(case(), "a")
    assert len(calls) == count


def test_a_wrong_number_of_channels_names_the_case():
    voxels = case()
    voxels.image = voxels.image.repeat(3, axis=0)
    with pytest.raises(DataError, match=r"scan_4: 3 channel\(s\), but the model reads 1"):
        segmenter(Levels()).segment(voxels, "scan_4")


def test_the_networks_given_are_not_changed_and_batch_norm_is_folded():
    network = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.BatchNorm3d(3))
    network[1].running_mean += 1
    before = copy.deepcopy(network.state_dict())
    model = segmenter(network)
    assert isinstance(model.networks["fold_0"][1], nn.Identity)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    voxels = case()
    prepared = preprocess(voxels, dataclasses.replace(PLAN, patch_size=(32, 32, 32)), "a")
    model.plan = dataclasses.replace(PLAN, patch_size=(32, 32, 32))
    with torch.no_grad():
        padded = np.zeros((1, 1, 32, 32, 32), np.float32)
        first = [(32 - n) // 2 for n in prepared.image.shape[1:]]
        inside = tuple(slice(f, f + n) for f, n in zip(first, prepared.image.shape[1:], strict=True))
        padded[(0, slice(None), *inside)] = prepared.image
        plain = network(torch.from_numpy(padded))[(0, slice(None), *inside)]
    torch.testing.assert_close(model.logits(prepared).clone(), plain, rtol=1e-4, atol=1e-5)


def test_single_windows_go_through_onednn():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(4, 8, (1, 3, 3), padding=(0, 1, 1), bias=False),
        nn.Conv3d(8, 8, 3, stride=(1, 2, 2), padding=1, groups=2),
        nn.Conv3d(8, 2, 3, padding="same"),
    ).eval()
    fast = with_onednn(network)
    assert [type(layer) for layer in fast] == [OneDNNConv3d, OneDNNConv3d, nn.Conv3d]
    assert not any(isinstance(layer, OneDNNConv3d) for layer in network)
    x = torch.randn(1, 4, 6, 8, 10)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), network(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast(x), network(x))
    fast(x).sum().backward()
    assert fast[0].weight.grad is not None, "with gradients it is the plain layer"
