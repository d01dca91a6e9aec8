"""The assigner against stored cases of the reference, and against the literal form on random ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.detection_assigner import compare, corner_priors, literal_assign, made_image
from tasks.detection.assigner import assign

FIXTURE = Path(__file__).parent / "fixtures" / "rtmdet_assigner_cases.npz"


@pytest.mark.parametrize("case", range(4))
def test_stored_cases_of_the_reference(case):
    with np.load(FIXTURE) as stored:
        of = {name.split("_", 1)[1]: stored[name] for name in stored.files if name.startswith(f"{case}_")}
    boxes, logits, gt, labels = (torch.from_numpy(of[name]) for name in ("boxes", "logits", "gt", "labels"))
    matched, quality = assign(logits, boxes, corner_priors(int(of["size"])), gt, labels)
    assert torch.equal(matched, torch.from_numpy(of["gt_inds"]) - 1)
    positive = matched >= 0
    assert torch.allclose(quality[positive], torch.from_numpy(of["metric"])[positive], atol=1e-5)
    assert not quality[~positive].any()


@pytest.mark.parametrize("case", range(60))
def test_random_images_are_assigned_as_by_the_literal_form(case):
    rng = np.random.default_rng(case)
    size, objects, classes = int(rng.choice([64, 128, 160])), int(rng.integers(0, 60)), (1, 3, 80)[case % 3]
    image = made_image(size, objects, classes, seed=case)
    centres = None
    if case % 2:
        gt = image[3]
        centres = gt[:, :2] + torch.from_numpy(rng.random((objects, 2), np.float32)) * (gt[:, 2:] - gt[:, :2])
    ours, literal = assign(*image, centres), literal_assign(*image, centres)
    assert torch.equal(ours[0], literal[0])
    assert torch.allclose(ours[1], literal[1], atol=1e-5)
    assert objects < 10 or len(ours[0].unique()) > 3


def test_without_objects_all_is_background():
    logits, boxes, priors, gt, labels = made_image(64, 0, 3, seed=0)
    matched, quality = assign(logits, boxes, priors, gt, labels)
    assert matched.dtype == torch.int64 and (matched == -1).all() and not quality.any()


def test_an_object_between_all_places_gets_none_and_breaks_nothing():
    logits, boxes, priors, _, _ = made_image(64, 0, 3, seed=0)
    gt, label = torch.tensor([[1.0, 1.0, 7.0, 7.0]]), torch.tensor([2])
    matched, _ = assign(logits, boxes, priors, gt, label)
    assert (matched == -1).all()


def test_a_place_on_the_edge_of_an_object_is_not_inside():
    logits, boxes, priors, _, _ = made_image(64, 0, 1, seed=0)
    gt = torch.tensor([[8.0, 8.0, 24.0, 24.0]])
    matched, _ = assign(logits, boxes, priors, gt, torch.tensor([0]))
    x, y = priors[(matched >= 0)][:, :2].unbind(1)
    assert len(x) and (x == 16).all() and (y == 16).all()


def test_untrained_boxes_inside_out_give_each_object_its_nearest_place():
    _, _, priors, _, _ = made_image(64, 0, 1, seed=0)
    boxes = torch.cat([priors[:, :2] + 1, priors[:, :2] - 1], 1)
    gt = torch.tensor([[4.0, 4.0, 29.0, 29.0], [32.0, 33.0, 63.0, 63.0]])
    matched, quality = assign(torch.zeros(len(priors), 1), boxes, priors, gt, torch.tensor([0, 0]))
    assert [(matched == g).sum() for g in (0, 1)] == [1, 1]
    assert not quality.any()
    assert torch.equal(priors[matched == 0][0, :2], torch.tensor([16.0, 16.0]))


def test_inputs_stay_as_they_are():
    image = made_image(64, 9, 3, seed=1)
    before = [each.clone() for each in image]
    assign(*image)
    assert all(torch.equal(old, new) for old, new in zip(before, image, strict=True))


def test_the_benchmark_finds_both_forms_equal(capsys):
    compare(size=96, objects=5, classes=4, rounds=1)
    assert "what is assigned is equal" in capsys.readouterr().out
