"""Losses against hand values and their limits."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks.ecg.losses import TERMS, MultiLabelLoss, positive_weights

LOGITS = torch.linspace(-4, 4, 24, dtype=torch.float64).view(6, 4)
TARGETS = (torch.arange(24).view(6, 4) % 3 == 0).double()


def test_bce_is_torchs():
    weights = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(LOGITS, TARGETS, pos_weight=weights)
    torch.testing.assert_close(MultiLabelLoss("bce", weights=weights)(LOGITS, TARGETS), expected)


def test_without_focusing_and_margin_all_are_bce():
    expected = F.binary_cross_entropy_with_logits(LOGITS, TARGETS)
    for name in TERMS:
        torch.testing.assert_close(MultiLabelLoss(name, 0.0, 0.0)(LOGITS, TARGETS), expected)


def at(name, probability, target, focusing, margin=0.0):
    logit = torch.tensor([[math.log(probability / (1 - probability))]], dtype=torch.float64)
    return MultiLabelLoss(name, focusing, margin)(logit, torch.tensor([[float(target)]])).item()


def test_focal_values_by_hand():
    assert at("focal", 0.9, 1, 2.0) == pytest.approx(-(0.1**2) * math.log(0.9))
    assert at("focal", 0.9, 0, 2.0) == pytest.approx(-(0.9**2) * math.log(0.1))


def test_asymmetric_values_by_hand():
    assert at("asymmetric", 0.3, 1, 4.0, 0.05) == pytest.approx(-math.log(0.3))
    assert at("asymmetric", 0.3, 0, 4.0, 0.05) == pytest.approx(-(0.25**4) * math.log(0.75))
    assert at("asymmetric", 0.04, 0, 4.0, 0.05) == 0
    assert at("asymmetric", 0.06, 0, 1.0, 0.05) == pytest.approx(-0.01 * math.log(0.99))


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("focusing", "margin"), [(0.5, 0.0), (2.0, 0.05), (0.0, 0.3)])
def test_loss_and_gradient_are_finite_at_the_ends(name, focusing, margin):
    logits = torch.tensor([[-200.0, -30.0, 0.0, 30.0, 200.0]], requires_grad=True)
    for target in (0.0, 1.0):
        loss = MultiLabelLoss(name, focusing, margin)(logits, torch.full_like(logits, target))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


def test_mixed_targets_have_the_mixed_loss():
    loss = MultiLabelLoss("focal", 2.0)
    both = 0.3 * loss(LOGITS, torch.ones_like(LOGITS)) + 0.7 * loss(LOGITS, torch.zeros_like(LOGITS))
    torch.testing.assert_close(loss(LOGITS, torch.full_like(LOGITS, 0.3)), both)


def test_weights_are_the_root_of_negatives_over_positives():
    labels = np.zeros((10, 4), bool)
    labels[:2, 0], labels[:5, 1], labels[:, 3] = True, True, True
    assert positive_weights(labels).tolist() == [2, 1, 1, 1]
    assert positive_weights(labels).dtype == torch.float32
