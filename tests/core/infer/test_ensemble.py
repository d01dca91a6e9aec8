"""The eight symmetries, and their mean."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiled_nets import Enlarging, Plain
from torch import nn

from core.infer.ensemble import self_ensemble


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


def test_the_turns_are_all_flips_and_rotations():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    made = {
        (tuple(y.shape), *y.flatten().tolist())
        for turn in self_ensemble(nn.Identity()).turns
        for y in [turn(x)]
    }
    wanted = {
        (tuple(y.shape), *y.flatten().tolist())
        for k, flip in itertools.product(range(4), (False, True))
        for y in [torch.rot90(x.flip(-1) if flip else x, k, (-2, -1))]
    }
    assert made == wanted
    assert len(made) == 8


def test_turns_are_undone_and_move_boxes_with_the_image():
    x = torch.arange(35.0).reshape(1, 1, 5, 7)
    part = x[..., 1:3, 2:6]
    for turn in self_ensemble(nn.Identity()).turns:
        assert torch.equal(turn.back(turn(x)), x)
        top, bottom, left, right = turn.box((1, 3, 2, 6), 5, 7)
        assert torch.equal(turn(x)[..., top:bottom, left:right], turn(part))


def test_the_mean_of_the_eight():
    model = Plain().eval()
    x = torch.rand(1, 1, 9, 7)
    outputs = []
    for k, flip in itertools.product(range(4), (False, True)):
        y = torch.rot90(model(torch.rot90(x.flip(-1) if flip else x, k, (-2, -1))), -k, (-2, -1))
        outputs.append(y.flip(-1) if flip else y)
    torch.testing.assert_close(self_ensemble(model)(x), torch.stack(outputs).mean(0))


def test_the_result_turns_with_the_image_and_takes_the_scale():
    model = self_ensemble(Enlarging().eval())
    assert (model.channels, model.scale, model.halo, model.training) == (3, 2, 2, False)
    x = torch.rand(1, 3, 6, 5)
    for options in ({}, {"scale": 3}):
        y = model(x, **options)
        assert y.shape[2:] == (6 * options.get("scale", 2), 5 * options.get("scale", 2))
        torch.testing.assert_close(model(x.rot90(1, (2, 3)), **options), y.rot90(1, (2, 3)))
