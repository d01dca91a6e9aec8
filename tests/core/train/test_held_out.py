"""Validation data that is kept out of the training where a task has none."""

import numpy as np
import pytest
import torch
from torch import nn

from core.data.loader import EpochLoader
from core.errors import ConfigError
from core.task import Part
from core.train.held_out import hold_out
from core.train.learner import Learner


class Numbers:
    """Twenty samples of five names; a sample is its number."""

    def __init__(self, names=5):
        self.names = names

    def __len__(self):
        return 20

    def draw(self, index, rng):
        return {"x": np.float32(index), "ids": f"image {index % self.names}"}


class Distance(Learner):
    """The loss is the distance of the numbers to the bias."""

    def loss_and_metrics(self, batch):
        loss = (batch["x"] - self.model.bias).abs().mean()
        return loss, {"square": (batch["x"] - self.model.bias).square().mean().detach()}


def part(names=5, groups=None, learner=Distance):
    source = EpochLoader(Numbers(names), 4, seed=1, groups=groups)
    return Part("model", learner(nn.Linear(1, 1)), source)


def test_what_is_validated_is_whole_and_never_trained():
    made = part()
    note = hold_out(made, seed=0)
    held = {int(x) for batch in made.learner.kept_out for x in batch["x"]}
    (name,) = {index % 5 for index in held}
    assert held == {index for index in range(20) if index % 5 == name}
    assert note == f"image {name}: training data that is kept out of the trials"
    assert made.source.steps_per_epoch == 4
    batches = made.source.batches(0, torch.device("cpu"))
    trained = {int(x) for _ in range(8) for x in next(batches)["x"]}
    assert trained == set(range(20)) - held

    nn.init.constant_(made.learner.model.bias, 2.0)
    value, metrics = made.learner.validate()
    assert value == pytest.approx(np.mean([abs(x - 2) for x in held]))
    assert metrics["square"] == pytest.approx(np.mean([(x - 2) ** 2 for x in held]))


def test_groups_of_samples_keep_their_sizes_without_what_is_held_out():
    made = part(groups=[12, 8])
    hold_out(made, seed=0)
    held = [int(x) for batch in made.learner.kept_out for x in batch["x"]]
    sizes = [12 - sum(x < 12 for x in held), 8 - sum(x >= 12 for x in held)]
    assert made.source.groups == sizes
    for _, batch in zip(range(6), made.source.batches(0, torch.device("cpu")), strict=False):
        assert len({int(x) < 12 for x in batch["x"]}) == 1, "a batch is of one group"


def test_a_learner_that_validates_by_itself_is_left_alone():
    class Own(Distance):
        def validate(self):
            return 1.0, {}

    made = part(learner=Own)
    source = made.source
    assert hold_out(made, seed=0) == ""
    assert made.source is source


def test_one_image_cannot_be_split():
    with pytest.raises(ConfigError, match="all training samples are of image 0"):
        hold_out(part(names=1), seed=0)
