"""The learner: loss and its terms, the pseudo-Dice by hand, its running mean over checkpoints."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tasks.segmentation.labels import IGNORE, Labels, object_labels
from tasks.segmentation.learner import SegmentationLearner
from tasks.segmentation.losses import DeepSupervisionLoss, DiceCE

THREE = Labels(("background", "a", "b"), (0, 1, 2))
REGIONS = object_labels()


class Given(nn.Module):
    """A network whose image holds the class that it predicts, at a certain strength."""

    def __init__(self, labels):
        super().__init__()
        self.labels, self.strength = labels, nn.Parameter(torch.tensor(9.0))

    def forward(self, image):
        predicted = image[:, 0].round().long()
        maps = (
            [torch.isin(predicted, torch.tensor(classes)) for _, classes in self.labels.targets]
            if self.labels.regions
            else [predicted == k for k in range(len(self.labels.names))]
        )
        return self.strength * (torch.stack(maps, 1).float() - 0.5)


class Patches:
    """Patches of four voxels: predictions as images, and labels."""

    def __init__(self, predicted, truth):
        self.predicted, self.truth, self.draws = predicted, truth, 0

    def __len__(self):
        return len(self.truth)

    def draw(self, index, rng):
        self.draws += 1
        image = torch.tensor([self.predicted[index]], dtype=torch.float32)
        return {"image": image, "labels": torch.tensor(self.truth[index]), "ids": str(index)}


PREDICTED = [[1, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0], [1, 0, 1, 1]]
TRUTH = [[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [1, IGNORE, IGNORE, 1]]


def learner_of(labels=THREE, predicted=PREDICTED, truth=TRUTH, batches=2, model=None):
    patches = Patches(predicted, truth)
    return SegmentationLearner(
        model or Given(labels), labels, batch_dice=True, validation=patches, batches=batches, batch_size=2
    )


def test_loss_is_the_sum_of_its_terms():
    learner = learner_of()
    batch = {"image": torch.rand(2, 1, 4), "labels": torch.tensor(TRUTH[:2])}
    loss, metrics = learner(batch)
    assert set(metrics) == {"cross_entropy", "dice_loss"}
    assert loss.requires_grad and not any(value.requires_grad for value in metrics.values())
    torch.testing.assert_close(loss.detach(), sum(metrics.values()))
    torch.testing.assert_close(
        loss, DiceCE(THREE, batch_dice=True)(learner.model(batch["image"]), batch["labels"])
    )


def test_a_network_with_several_outputs():
    class Two(Given):
        def forward(self, image):
            fine = super().forward(image)
            return [fine, fine[..., ::2]]

    batch = {"image": torch.rand(2, 1, 4), "labels": torch.tensor(TRUTH[:2])}
    learner = learner_of(model=Two(THREE))
    expected = DeepSupervisionLoss(DiceCE(THREE, batch_dice=True))(
        learner.model(batch["image"]), batch["labels"]
    )
    torch.testing.assert_close(learner(batch)[0], expected)


@torch.no_grad()
def test_pseudo_dice_is_that_of_all_patches_together():
    # Class a: predicted 2 + 1 + 0 + 2 voxels that count, true 1 + 2 + 1 + 2, both 1 + 1 + 0 + 2.
    value, metrics = learner_of().eval().validate()
    a = 2 * 4 / (5 + 6)
    assert metrics["pseudo_dice_a"] == pytest.approx(a)
    # Class b: predicted once, never true.
    assert metrics["pseudo_dice_b"] == 0
    assert metrics["pseudo_dice"] == pytest.approx(a / 2)
    assert metrics["pseudo_dice_ema"] == pytest.approx(a / 2) and value == pytest.approx(1 - a / 2)
    assert set(metrics) == {"loss", "pseudo_dice", "pseudo_dice_ema", "pseudo_dice_a", "pseudo_dice_b"}
    assert math.isfinite(metrics["loss"])


@torch.no_grad()
def test_regions_are_scored_as_regions():
    predicted, truth = [[1, 2, 0, 0], [2, 2, 0, 1]], [[2, 2, 0, 0], [2, 1, 1, 0]]
    _, metrics = learner_of(REGIONS, predicted, truth, batches=1).validate()
    assert metrics["pseudo_dice_object"] == pytest.approx(2 * 4 / (5 + 5))
    assert metrics["pseudo_dice_core"] == pytest.approx(2 * 2 / (3 + 3))


@torch.no_grad()
def test_a_class_that_is_neither_there_nor_predicted_is_left_out():
    _, metrics = learner_of(predicted=[[1, 0, 0, 0]] * 2, truth=[[1, 0, 0, 0]] * 2, batches=1).validate()
    assert metrics["pseudo_dice"] == 1 and "pseudo_dice_b" not in metrics


@torch.no_grad()
def test_running_mean_survives_a_checkpoint():
    learner = learner_of()
    first = learner.validate()[1]["pseudo_dice"]
    learner._held_out[0]["image"].zero_()
    second, metrics = learner.validate()
    assert metrics["pseudo_dice"] != first
    assert 1 - second == pytest.approx(0.9 * first + 0.1 * metrics["pseudo_dice"])
    resumed = learner_of()
    resumed.load_state_dict(learner.state_dict())
    value, again = resumed.validate()
    assert again["pseudo_dice"] == pytest.approx(first)
    assert 1 - value == pytest.approx(0.9 * (1 - second) + 0.1 * first)


@torch.no_grad()
def test_patches_are_drawn_once():
    learner = learner_of()
    learner.validate()
    learner.validate()
    assert learner.validation.draws == 4


def test_nothing_to_validate_on():
    learner = SegmentationLearner(Given(THREE), THREE, batch_dice=True, batches=5)
    assert learner.validate() == (float("inf"), {})
    assert learner.pseudo_dice < 0


def test_only_the_network_and_the_running_mean_are_saved():
    assert set(learner_of().state_dict()) == {"model.strength", "pseudo_dice"}
    assert np.isclose(learner_of().state_dict()["pseudo_dice"], -1)
