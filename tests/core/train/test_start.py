"""Training that starts from a trained model."""

import pytest
import torch
from torch import nn

from core.errors import ConfigError
from core.train.start import for_classes, start_from


def net(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, width))


def test_what_fits_is_copied_and_the_rest_stays():
    trained, new = net(5, 0), net(7, 1)
    trained[1].running_mean.fill_(2.0)
    tail = new[2].weight.clone()
    said = start_from(new, trained.state_dict(), "models:/x/1")
    assert torch.equal(new[0].weight, trained[0].weight) and torch.equal(
        new[1].running_mean, torch.full((4,), 2.0)
    )
    assert torch.equal(new[2].weight, tail)
    assert said == "starts from models:/x/1: 7 of 9 tensors; new: 2.weight, 2.bias"
    new[0].weight.data.zero_()
    assert trained[0].weight.abs().sum() > 0, "the trained model is not shared"


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"--train.start_from other: none of its weights fits this model"):
        start_from(net(5, 0), {"a": torch.zeros(1), "0.weight": torch.zeros(4, 4)}, "other")
    volumes = {
        name: weight[..., None] if weight.ndim > 1 else weight
        for name, weight in net(5, 1).state_dict().items()
    }
    with pytest.raises(ConfigError, match="none of its weights fits"):
        start_from(net(5, 0), volumes, "of which norms and biases fit")


def test_the_first_convolution_is_adapted_to_other_channels():
    trained, new = (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(2, 2)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(2, 2)),
    )
    start_from(new, trained.state_dict(), "x")
    x = torch.rand(1, 1, 5, 5)
    torch.testing.assert_close(new[0](x.expand(1, 3, 5, 5)), trained[0](x))


def test_rows_of_classes_are_taken_over_by_name():
    state = {
        "body": torch.arange(3.0),
        "out.weight": torch.arange(6.0).view(3, 2),
        "out.bias": torch.arange(3.0),
    }
    by_class, known = ["out.weight", "out.bias"], ["cat", "dog", "bird"]
    turned = for_classes(state, by_class, known, ["bird", "cat"])
    assert turned["out.weight"].tolist() == [[4, 5], [0, 1]] and turned["out.bias"].tolist() == [2, 0]
    assert turned["body"] is state["body"]
    assert set(for_classes(state, by_class, known, ["bird", "fish"])) == {"body"}
    assert for_classes(state, by_class, known, known) == state
