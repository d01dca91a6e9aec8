"""Masked pre-training: the blocks, the error on masked voxels by hand, what is explained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import ConfigError
from tasks.segmentation.config import AugmentConfig, MaskedConfig, SegTrainConfig
from tasks.segmentation.labels import Labels
from tasks.segmentation.masked import (
    MaskedLearner,
    MaskedSamples,
    block_mask,
    explained_variance,
    masked_batch,
)
from tasks.segmentation.samples import PatchSamples


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("patch", "block", "ratio", "chosen"), [((8, 12, 8), 4, 0.75, 9), ((9, 11), 2, 0.5, 10)]
)
def test_whole_blocks_of_a_grid_are_masked(patch, block, ratio, chosen):
    mask = block_mask(patch, MaskedConfig(ratio, block), rng())
    assert mask.shape == patch and mask.dtype == torch.bool
    assert mask.sum() == chosen * block ** len(patch)
    # The incomplete blocks at the ends are never masked, and a block is masked as a whole.
    whole = mask[tuple(slice(side // block * block) for side in patch)]
    assert whole.sum() == mask.sum()
    for axis in range(len(patch)):
        parts = whole.unflatten(axis, (-1, block))
        assert torch.equal(parts.all(axis + 1), parts.any(axis + 1))


def test_masks_differ_between_samples_and_not_between_runs():
    masks = [block_mask((16, 16), MaskedConfig(0.5, 4), rng(seed)) for seed in (0, 1, 0)]
    assert torch.equal(masks[0], masks[2]) and not torch.equal(masks[0], masks[1])
    # Every block is masked now and then.
    assert torch.stack([block_mask((8, 8), MaskedConfig(0.5, 4), rng(i)) for i in range(40)]).any(0).all()


@pytest.mark.parametrize(("block", "ratio"), [(16, 0.75), (8, 0.2)])
def test_a_patch_without_a_masked_block_is_refused(block, ratio):
    with pytest.raises(ConfigError, match=rf"--masked.block {block}.*patch of 8 x 12 x 20 voxels"):
        block_mask((8, 12, 20), MaskedConfig(ratio, block), rng())


def test_masked_voxels_are_zero():
    image = torch.ones(2, 3, 2, 2)
    mask = torch.tensor([[[True, False], [False, False]], [[True, True], [True, True]]])
    hidden = masked_batch(image, mask)
    assert hidden[0, :, 0, 0].count_nonzero() == 0 and hidden[0].sum() == 9 and hidden[1].sum() == 0


def test_explained_variance_by_hand():
    target = torch.tensor([[[1.0, 3.0, 5.0, 100.0]]])
    masked = torch.tensor([[True, True, True, False]])
    # The variance of 1, 3, 5 is 8/3; the errors are 0, 1, 1.
    predicted = torch.tensor([[[1.0, 2.0, 4.0, 0.0]]])
    assert explained_variance(predicted, target, masked) == pytest.approx(1 - (2 / 3) / (8 / 3))
    assert explained_variance(target, target, masked) == 1
    assert explained_variance(torch.full_like(target, 3.0), target, masked) == pytest.approx(0)


class Constant(nn.Module):
    """Predicts one value everywhere, and keeps what it saw."""

    def __init__(self, value=2.0):
        super().__init__()
        self.value, self.seen = nn.Parameter(torch.tensor(value)), []

    def forward(self, image):
        self.seen.append(image.detach().clone())
        return self.value.expand_as(image)


def test_the_error_counts_on_masked_voxels_alone():
    image = torch.tensor([[[1.0, 5.0, 7.0]], [[4.0, 4.0, 9.0]]])
    mask = torch.tensor([[True, False, False], [True, True, False]])
    learner = MaskedLearner(Constant())
    loss, _ = learner({"image": image, "mask": mask})
    # Errors -1, 2 and 2 of three masked voxels.
    assert loss.item() == pytest.approx((1 + 4 + 4) / 3)
    loss.backward()
    assert learner.model.value.grad.item() == pytest.approx(2 * (1 - 2 - 2) / 3)
    assert learner.model.seen[0].tolist() == [[[0, 5, 7]], [[0, 0, 9]]]


def test_several_channels_weigh_the_same():
    image = torch.tensor([[[2.0, 0.0], [4.0, 0.0]]])
    loss, _ = MaskedLearner(Constant())({"image": image, "mask": torch.tensor([[True, False]])})
    assert loss.item() == pytest.approx((0 + 4) / 2)


def samples_of(kind="mirror", patch=(4, 4), block=2):
    plan = SimpleNamespace(dims=2, patch_size=patch, batch_size=3, previous_classes=0)
    image = rng().normal(size=(1, 1, 9, 9)).astype(np.float32)
    case = SimpleNamespace(image=image, labels=None, mask=None, foreground={})
    labels, train = Labels(("background",), (0,)), SegTrainConfig(batches_per_epoch=2)
    patches = PatchSamples([case], ["one"], plan, labels, train, AugmentConfig(kind), intensity=False)
    return MaskedSamples(patches, patch, MaskedConfig(0.5, block))


def test_samples_have_masks_of_their_own():
    samples = samples_of()
    assert len(samples) == 6
    first, second = samples.draw(0, rng(0)), samples.draw(1, rng(1))
    assert set(first) == {"image", "mask", "ids"} and first["mask"].sum() == 8
    assert not torch.equal(first["mask"], second["mask"])
    assert torch.equal(samples.draw(0, rng(0))["mask"], first["mask"])
    with pytest.raises(ConfigError, match=r"--masked\.block 5"):
        samples_of(block=5)


@torch.no_grad()
def test_validation_is_the_same_every_time():
    learner = MaskedLearner(Constant(0.0), validation=samples_of("none"), batches=2, batch_size=3, seed=1)
    value, metrics = learner.validate()
    assert learner.validate() == (value, metrics)
    assert set(metrics) == {"mse", "explained"} and metrics["mse"] == value
    held = learner._held_out
    hidden = torch.cat([batch["image"][:, 0][batch["mask"]] for batch in held]).double()
    assert len(held) == 2 and len(hidden) == 6 * 8
    assert value == pytest.approx(hidden.square().mean().item(), rel=1e-5)
    assert metrics["explained"] == pytest.approx(1 - value / hidden.var(correction=0).item(), rel=1e-5)
    assert all((seen == 0).sum() >= 3 * 8 for seen in learner.model.seen)


def test_nothing_to_validate_on():
    assert MaskedLearner(Constant()).validate() == (float("inf"), {})
