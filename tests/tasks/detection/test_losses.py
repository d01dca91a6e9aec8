"""The losses by hand, and against stored numbers of the reference."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.detection_assigner import corner_priors
from core.train import distributed
from tasks.detection import losses
from tasks.detection.learner import assign_batch
from tasks.detection.losses import detection_losses, dice_loss, quality_focal_loss
from tasks.detection.models.head import decode_boxes

FIXTURE = Path(__file__).parent / "fixtures" / "rtmdet_loss_case.npz"


def test_stored_case_of_the_reference():
    with np.load(FIXTURE) as stored:
        of = {name: torch.from_numpy(stored[name]) for name in stored.files}
    logits, distances = (
        torch.cat([of[f"{name}{i}"].flatten(2).mT for i in range(3)], 1) for name in ("cls", "reg")
    )
    priors = corner_priors(96)
    boxes = decode_boxes(priors, distances)
    batch = {
        "boxes": torch.cat([of["gt0"], of["gt1"]]),
        "labels": torch.cat([of["lab0"], of["lab1"]]),
        "owner": torch.tensor([0, 0, 1]),
    }
    matched, quality = assign_batch(logits, boxes, priors, batch)
    found = detection_losses(logits, boxes, matched, quality, batch["boxes"], batch["labels"])
    # The reference gives one number for each stride.
    assert found["loss_cls"].item() == pytest.approx(of["loss_cls"].sum().item(), rel=1e-5)
    assert found["loss_box"].item() == pytest.approx(of["loss_bbox"].sum().item(), rel=1e-5)


def test_quality_focal_loss_by_hand():
    logits, quality = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([0.0, 0.7, 0.0])
    p = 1 / (1 + math.exp(-2.0))
    q = 1 / (1 + math.e)
    expected = [
        math.log(2) / 4,
        -(0.7 * math.log(p) + 0.3 * math.log(1 - p)) * (p - 0.7) ** 2,
        -math.log(1 - q) * q**2,
    ]
    assert torch.allclose(quality_focal_loss(logits, quality), torch.tensor(expected), atol=1e-6)


def test_dice_loss_has_squares_below_the_fraction():
    logits = torch.tensor([[[0.0, 100.0], [-100.0, 0.0]], [[100.0, 100.0], [-100.0, -100.0]]])
    masks = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    expected = torch.tensor([1 - 2 * 1.5 / (1.5 + 2), 0.0])
    assert torch.allclose(dice_loss(logits, masks), expected, atol=1e-5)


def one_place(quality):
    """Two images of two places; the second place of the second image has the second object."""
    logits = torch.full((2, 2, 3), -40.0).index_put_((torch.tensor(1), torch.tensor(1)), torch.tensor(0.0))
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]] * 2] * 2)
    boxes[1, 1] = torch.tensor([0.0, 0.0, 4.0, 2.0])
    matched = torch.tensor([[-1, -1], [-1, 1]])
    values = torch.zeros(2, 2)
    values[1, 1] = quality
    return logits, boxes, matched, values, torch.tensor([[5.0, 5.0, 9.0, 9.0], [2.0, 0.0, 6.0, 2.0]])


def test_sums_are_weighted_and_divided_by_at_least_one():
    found = detection_losses(*one_place(0.5), torch.tensor([0, 2]))
    # All logits are 0 there: the own class is right at 0.5, and the two others are not at 0.
    assert found["loss_cls"].item() == pytest.approx(2 * math.log(2) / 4, rel=1e-6)
    giou = 4 / 12  # the hull is the union
    assert found["loss_box"].item() == pytest.approx(2 * 0.5 * (1 - giou), rel=1e-6)


def test_the_divisor_is_the_mean_over_processes(monkeypatch):
    asked = []

    def twice_as_much(values):
        asked.append(values.clone())
        return values * 8

    assert losses.mean_over_ranks is distributed.mean_over_ranks
    alone = detection_losses(*one_place(0.5), torch.tensor([0, 2]))
    monkeypatch.setattr(losses, "mean_over_ranks", twice_as_much)
    together = detection_losses(*one_place(0.5), torch.tensor([0, 2]))
    assert torch.allclose(torch.stack(asked), torch.tensor(0.5))
    for name, value in alone.items():
        assert together[name].item() == pytest.approx(value.item() / 4)


def test_a_batch_without_objects_is_finite_and_reaches_both_outputs():
    logits = torch.zeros(2, 5, 3, requires_grad=True)
    boxes = torch.zeros(2, 5, 4, requires_grad=True)
    matched, quality = torch.full((2, 5), -1), torch.zeros(2, 5)
    found = detection_losses(
        logits, boxes, matched, quality, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    )
    assert found["loss_box"].item() == 0
    assert found["loss_cls"].item() == pytest.approx(30 * math.log(2) / 4)
    sum(found.values()).backward()
    assert logits.grad.abs().sum() > 0 and boxes.grad is not None and not boxes.grad.any()
