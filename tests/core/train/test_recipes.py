"""Recipes, the loss that goes with them, and heads on prefixes of the features."""

import math
from dataclasses import fields

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.config import TrainConfig, check_train
from core.errors import ConfigError
from core.train.matryoshka import MatryoshkaHead, matryoshka_loss
from core.train.recipes import RECIPES, TRAINED_ELSEWHERE, bce_loss, smooth, train_config

IMAGENET = 1281167


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_configure_the_loop(name):
    recipe = RECIPES[name]
    config = train_config(recipe, IMAGENET)
    check_train(config)
    assert (config.epochs, config.batch_size, config.lr) == (recipe.epochs, recipe.batch_size, recipe.lr)
    assert 0 < recipe.top1 < 100
    assert 0 < recipe.test_crop <= 1
    known = {"epochs", "batch_size", "optimizer", "lr", "weight_decay", "warmup_epochs", "clip_norm", "ema"}
    assert {f.name for f in fields(recipe)} == known | set(TRAINED_ELSEWHERE) | {"source", "top1"}


def test_a2_by_the_paper():
    """Table 2 of arXiv:2110.00476; 625 steps an epoch."""
    expected = TrainConfig(
        epochs=300,
        batch_size=2048,
        lr=5e-3,
        optimizer="lamb",
        weight_decay=0.02,
        schedule="cosine",
        warmup_steps=5 * 625,
        grad_clip=1.0,
    )
    assert train_config(RECIPES["a2"], IMAGENET) == expected


def test_resnet_rs_by_the_authors_configurations():
    """109200 steps and 1560 of warm-up in tensorflow/models, for 350 and 5 epochs; 1.6 = 0.1 * 4096 / 256."""
    config = train_config(RECIPES["resnet_rs_50_160"], IMAGENET)
    assert (config.warmup_steps, config.epochs * (IMAGENET // config.batch_size)) == (1560, 109200)
    assert (config.lr, config.ema, config.optimizer) == (0.1 * 4096 / 256, 0.9999, "sgd")


def test_smaller_batches_learn_more_slowly():
    assert train_config(RECIPES["a1"], 10000, 512).lr == pytest.approx(5e-3 / 2)
    assert train_config(RECIPES["a1"], 10000, 512).warmup_steps == 5 * 19
    assert train_config(RECIPES["resnet_rs_50_160"], 10000, 256).lr == pytest.approx(0.1)


def test_bce_of_mixed_targets_by_hand():
    """A fourth of class 0 and three of class 1; a logit of ln 3 is a probability of 3/4."""
    first, second = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    target = 0.25 * first + 0.75 * second
    logits = torch.tensor([[0.0, math.log(3.0), -math.log(3.0)]])
    by_class = [
        math.log(2.0),
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
        -math.log(0.75),
    ]
    assert bce_loss(logits, target).item() == pytest.approx(sum(by_class) / 3, rel=1e-5)


def test_smoothing_by_hand():
    assert smooth(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.1).tolist() == [
        pytest.approx([0.925, 0.025, 0.025, 0.025])
    ]


# ---------------------------------------------------------------- prefixes


def test_a_prefix_is_the_head_on_a_slice():
    torch.manual_seed(0)
    head, x = MatryoshkaHead(8, 3, [2, 4, 8]), torch.randn(5, 8)
    logits = head(x)
    assert [tuple(part.shape) for part in logits] == [(5, 3)] * 3
    for m, part in zip((2, 4, 8), logits, strict=True):
        masked = x.clone()
        masked[:, m:] = 0
        torch.testing.assert_close(part, head.head(masked))
    assert sum(p.numel() for p in head.parameters()) == 8 * 3 + 3, "the weights are shared"


def test_the_loss_is_a_weighted_sum():
    torch.manual_seed(0)
    head, x, target = MatryoshkaHead(8, 3, [2, 8]), torch.randn(5, 8), torch.tensor([0, 1, 2, 1, 0])
    small, large = head(x)
    loss = matryoshka_loss(head(x), target)
    torch.testing.assert_close(loss, F.cross_entropy(small, target) + F.cross_entropy(large, target))
    hot = F.one_hot(target, 3).float()
    weighted = matryoshka_loss(head(x), hot, [0.5, 2.0], bce_loss)
    torch.testing.assert_close(weighted, 0.5 * bce_loss(small, hot) + 2.0 * bce_loss(large, hot))
    loss.backward()
    assert isinstance(head.head, nn.Linear)
    assert (head.head.weight.grad != 0).all()


@pytest.mark.parametrize("prefixes", [[], [0, 4], [4, 4], [8, 4], [4, 9]])
def test_wrong_prefixes(prefixes):
    with pytest.raises(ConfigError, match="that grow"):
        MatryoshkaHead(8, 3, prefixes)


def test_wrong_weights():
    with pytest.raises(ConfigError, match="3 weights for 2 prefixes"):
        matryoshka_loss([torch.zeros(1, 2)] * 2, torch.zeros(1).long(), [1, 1, 1])
