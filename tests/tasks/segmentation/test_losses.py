"""The loss against numpy by hand and MONAI's; ignored voxels, regions, several resolutions."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks.segmentation.labels import IGNORE, Labels, object_labels
from tasks.segmentation.losses import DeepSupervisionLoss, DiceCE, TargetMaps, shrink, supervision_weights

THREE = Labels(("background", "a", "b"), (0, 1, 2))
REGIONS = object_labels()


def tensors(outputs=3, ignored=0.0, size=(2, 4, 5, 3), seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size[0], outputs, *size[1:]))
    target = rng.integers(0, 3, size)
    target[rng.random(size) < ignored] = IGNORE
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(target)


def by_hand(logits, target, *, regions=(), batch_dice=False):
    """Dice and cross entropy, voxel by voxel, in float64."""
    logits, target = logits.double().numpy(), target.numpy()
    batch, outputs = logits.shape[:2]
    if regions:
        p = 1 / (1 + np.exp(-logits))
        g = np.stack([np.isin(target, classes) for classes in regions], 1)
        scored = range(outputs)
    else:
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        g = np.stack([target == k for k in range(outputs)], 1)
        scored = range(1, outputs)
    keep = target != IGNORE
    entropy = []
    for b, *voxel in np.argwhere(keep):
        at = (b, slice(None), *voxel)
        if regions:
            entropy += [-math.log(q if one else 1 - q) for q, one in zip(p[at], g[at], strict=True)]
        else:
            entropy.append(-math.log(p[at][target[b, *voxel]]))
    groups = [range(batch)] if batch_dice else [[b] for b in range(batch)]
    dice = []
    for group in groups:
        for k in scored:
            both = sum((p[b, k] * g[b, k])[keep[b]].sum() for b in group)
            total = sum((p[b, k] + g[b, k])[keep[b]].sum() for b in group)
            dice.append((2 * both + 1e-5) / (total + 1e-5))
    return np.mean(entropy), -np.mean(dice)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_classes_by_hand(batch_dice, ignored):
    logits, target = tensors(ignored=ignored)
    terms = DiceCE(THREE, batch_dice).terms(logits, target)
    entropy, dice = by_hand(logits, target, batch_dice=batch_dice)
    assert terms["cross_entropy"].item() == pytest.approx(entropy, rel=1e-5)
    assert terms["dice_loss"].item() == pytest.approx(dice, rel=1e-5)
    assert DiceCE(THREE, batch_dice)(logits, target).item() == pytest.approx(entropy + dice, rel=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_regions_by_hand(batch_dice, ignored):
    logits, target = tensors(outputs=2, ignored=ignored)
    terms = DiceCE(REGIONS, batch_dice).terms(logits, target)
    entropy, dice = by_hand(logits, target, regions=[(1, 2), (2,)], batch_dice=batch_dice)
    assert terms["cross_entropy"].item() == pytest.approx(entropy, rel=1e-5)
    assert terms["dice_loss"].item() == pytest.approx(dice, rel=1e-5)


def test_a_number_worked_out_on_paper():
    # Four voxels with even odds for two classes, two of each: I = 1, sums 2 + 2, so Dice 1/2; entropy log 2.
    labels = Labels(("background", "a"), (0, 1))
    value = DiceCE(labels, batch_dice=False)(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 1, 1]]))
    assert value.item() == pytest.approx(math.log(2) - 0.5, abs=1e-5)
    # The same voxels with a single output.
    value = DiceCE(labels.binary(), batch_dice=False)(torch.zeros(1, 1, 4), torch.tensor([[0, 0, 1, 1]]))
    assert value.item() == pytest.approx(math.log(2) - 0.5, abs=1e-5)


def test_cross_entropy_alone():
    logits, target = tensors()
    loss = DiceCE(THREE, batch_dice=True, dice=False)
    assert set(loss.terms(logits, target)) == {"cross_entropy"}
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target))


@pytest.mark.parametrize("batch_dice", [False, True])
def test_equal_to_monai_but_for_the_sign_of_dice(batch_dice):
    from monai.losses import DiceCELoss

    logits, target = tensors()
    peer = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=batch_dice,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    ours = DiceCE(THREE, batch_dice)(logits, target)
    torch.testing.assert_close(ours + 1, peer(logits, target[:, None]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("labels", "outputs"), [(THREE, 3), (REGIONS, 2)])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_nothing_to_learn_from_gives_zero_with_gradients(labels, outputs, batch_dice):
    logits, target = tensors(outputs)
    logits.requires_grad_()
    loss = DiceCE(labels, batch_dice)(logits, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss.item() == 0 and logits.grad.count_nonzero() == 0


def test_ignored_voxels_have_no_gradient():
    logits, target = tensors(ignored=0.3)
    logits.requires_grad_()
    DiceCE(THREE, batch_dice=False)(logits, target).backward()
    per_voxel = logits.grad.abs().sum(1)
    assert (per_voxel[target == IGNORE] == 0).all() and (per_voxel[target != IGNORE] > 0).all()


def test_low_precision_logits_are_summed_in_float32():
    logits, target = tensors(size=(1, 40, 40, 40))
    exact = DiceCE(THREE, batch_dice=False)(logits.bfloat16().float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        value = DiceCE(THREE, batch_dice=False)(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact)


def test_target_maps_are_those_of_the_labels():
    target = torch.tensor([[0, 1, 2, IGNORE]])
    assert TargetMaps(REGIONS)(target).tolist() == [[[False, True, True, False], [False, False, True, False]]]
    assert TargetMaps(THREE)(target).tolist() == [[[False, True, False, False], [False, False, True, False]]]


# ---------------------------------------------------------------- several resolutions


def test_weights_halve_and_the_last_is_zero():
    assert supervision_weights(3) == pytest.approx([2 / 3, 1 / 3, 0])
    assert supervision_weights(1) == [1]
    assert supervision_weights(5) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])


def test_outputs_are_compared_with_smaller_targets():
    loss, (fine, target) = DiceCE(THREE, batch_dice=True), tensors(size=(2, 8, 6), ignored=0.2)
    middle, coarse = tensors(size=(2, 4, 3), seed=1)[0], tensors(size=(2, 2, 3), seed=2)[0]
    # The nearest voxel of an enlargement by two is the second of each pair.
    expected = 2 / 3 * loss(fine, target) + 1 / 3 * loss(middle, target[:, 1::2, 1::2])
    torch.testing.assert_close(DeepSupervisionLoss(loss)([fine, middle, coarse], target), expected)
    torch.testing.assert_close(DeepSupervisionLoss(loss)(fine, target), loss(fine, target))
    torch.testing.assert_close(DeepSupervisionLoss(loss)([fine], target), loss(fine, target))


def test_the_coarsest_output_stays_in_the_graph():
    fine, target = tensors(size=(2, 8, 6))
    coarse = torch.randn(2, 3, 4, 3, requires_grad=True)
    DeepSupervisionLoss(DiceCE(THREE, batch_dice=True))([fine, coarse], target).backward()
    assert coarse.grad is not None and coarse.grad.count_nonzero() == 0


def test_shrinking_keeps_labels():
    target = torch.tensor([[[IGNORE, 0, 1, 2, 2], [2, 1, 0, IGNORE, 0]]])
    assert shrink(target, (1, 5)).tolist() == [[[2, 1, 0, IGNORE, 0]]]
    # Centres of three cells of 5/3 columns lie at 0.83, 2.5 and 4.17.
    assert shrink(target, (2, 3)).tolist() == [[[IGNORE, 1, 2], [2, 0, 0]]]
    assert shrink(target, (2, 5)) is target
