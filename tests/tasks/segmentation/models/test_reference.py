"""Weights of nnU-Net and of the PyTorch R2U-Net under our names: every name, and the same logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from core.backbones import load_weights
from core.errors import DataError
from tasks.segmentation.models.planned import PlannedUNet
from tasks.segmentation.models.r2unet import FixedUNet
from tasks.segmentation.models.reference import (
    from_image_segmentation,
    from_nnunet,
    read_nnunet_fold,
    to_nnunet,
)


def unit(at, *, bias=True):
    """Names of nnU-Net's row of convolution, norm and activation, each twice."""
    leaves = [*(("weight", "bias") if bias else ("weight",))]
    names = [f"{at}.{layer}.{leaf}" for layer in ("conv", "all_modules.0") for leaf in leaves]
    return names + [
        f"{at}.{layer}.{leaf}" for layer in ("norm", "all_modules.1") for leaf in ("weight", "bias")
    ]


def nnunet_names(plan):
    """Every name in the state_dict of nnU-Net's network of a plan."""
    encoder = unit("encoder.stem.convs.0") if plan.residual else []
    for stage, count in enumerate(plan.blocks):
        for block in range(count):
            if not plan.residual:
                encoder += unit(f"encoder.stages.{stage}.0.convs.{block}")
                continue
            at = f"encoder.stages.{stage}.blocks.{block}"
            encoder += unit(f"{at}.conv1") + unit(f"{at}.conv2")
            if stage and not block:
                encoder += unit(f"{at}.skip.1", bias=False)
    names = encoder + [f"decoder.{name}" for name in encoder]
    for i in range(len(plan.blocks) - 1):
        for conv in range(plan.decoder_convs[-1 - i]):
            names += unit(f"decoder.stages.{i}.convs.{conv}")
        names += [
            f"decoder.{kind}.{i}.{leaf}"
            for kind in ("transpconvs", "seg_layers")
            for leaf in ("weight", "bias")
        ]
    return names


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [True, False])
def test_names_of_nnunet_both_ways(make_plan, shake, dims, residual):
    plan = make_plan(dims, residual, decoder_convs=(2, 1))
    network = shake(PlannedUNet(plan, 2, 3))
    theirs = to_nnunet(network.state_dict())
    assert sorted(theirs) == sorted(nnunet_names(plan))
    for key, weight in theirs.items():
        first = key.removeprefix("decoder.") if key.startswith("decoder.encoder.") else key
        first = first.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")
        assert weight is theirs[first]
    back = from_nnunet(theirs)
    assert back.keys() == network.state_dict().keys()
    other = load_weights(PlannedUNet(plan, 2, 3), back).eval()
    x = torch.randn(2, 2, *plan.patch_size)
    assert torch.equal(other(x), network(x))


def test_536_names_for_149_parameters(make_plan):
    plan = make_plan(3, widths=(32, 64, 128, 256), blocks=(1, 3, 4, 6), even=True)
    with torch.device("meta"):
        state = PlannedUNet(plan, 1, 3).state_dict()
    assert (len(to_nnunet(state)), len(state)) == (536, 149)


def test_a_norm_is_not_taken_for_a_convolution():
    """Values by their names: a permuted table would still give a set of the right names."""
    keys = {
        "encoder.stages.2.blocks.1.conv2.norm.weight": "encoder.stages.2.1.bn2.weight",
        "encoder.stages.1.blocks.0.skip.1.conv.weight": "encoder.stages.1.0.downsample.1.weight",
        "encoder.stages.1.blocks.0.skip.1.norm.bias": "encoder.stages.1.0.downsample.2.bias",
        "encoder.stages.3.0.convs.1.norm.bias": "encoder.stages.3.1.bn.bias",
        "decoder.stages.0.convs.1.conv.bias": "decoder.0.convs.1.conv.bias",
        "decoder.transpconvs.2.weight": "decoder.2.up.weight",
        "decoder.seg_layers.2.bias": "segment.2.bias",
        "something.else.weight": "something.else.weight",
    }
    given = from_nnunet({key: torch.full((1,), float(i)) for i, key in enumerate(keys)})
    assert {key: int(value) for key, value in given.items()} == {
        ours: i for i, ours in enumerate(keys.values())
    }


def checkpoint(network, **changes):
    """What nnU-Net's trainer saves, numbers of numpy in its curves among it."""
    return {
        "network_weights": to_nnunet(network.state_dict()),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0, 1]}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.25)],
            "lrs": [0.01],
            "steps": [np.int64(3)],
        },
        "_best_ema": np.float64(0.75),
        "current_epoch": 1000,
        "init_args": {
            "plans": {"plans_name": "nnUNetPlans"},
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": {"labels": {"background": 0, "cell": 1}},
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }


def test_a_fold_of_nnunet(make_plan, shake, tmp_path):
    plan = make_plan()
    network = shake(PlannedUNet(plan, 1, 3))
    path = tmp_path / "checkpoint_final.pth"
    torch.save(checkpoint(network), path)
    fold = read_nnunet_fold(path)
    x = torch.randn(2, 1, *plan.patch_size)
    assert torch.equal(load_weights(PlannedUNet(plan, 1, 3), fold.weights).eval()(x), network(x))
    assert (fold.mirror_axes, fold.configuration, fold.trainer) == ((0, 1, 2), "3d_fullres", "nnUNetTrainer")
    assert fold.plans["plans_name"] == "nnUNetPlans" and fold.dataset["labels"]["cell"] == 1
    torch.save(checkpoint(network, inference_allowed_mirroring_axes=None), path)
    assert read_nnunet_fold(path).mirror_axes == ()


def test_numbers_under_the_names_of_older_numpy(make_plan, tmp_path):
    """numpy 1 called its core numpy.core; a file of protocol 2 has these names as text."""
    path = tmp_path / "old.pth"
    torch.save(checkpoint(PlannedUNet(make_plan(), 1, 3)), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_nnunet_fold(path).trainer == "nnUNetTrainer"


class Harmful:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_wrong_checkpoint_is_one_line(make_plan, tmp_path, capsys):
    path = tmp_path / "checkpoint_final.pth"
    with pytest.raises(DataError, match=r"checkpoint_final\.pth cannot be read: No such file"):
        read_nnunet_fold(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(DataError, match="is no checkpoint of nnU-Net v2: it has no init_args"):
        read_nnunet_fold(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is no checkpoint of nnU-Net v2 that can be read safely"):
        read_nnunet_fold(path)
    torch.save(checkpoint(PlannedUNet(make_plan(), 1, 3), logging=Harmful()), path)
    with pytest.raises(DataError, match="that can be read safely"):
        read_nnunet_fold(path)
    assert capsys.readouterr().out == ""


class Released:
    """The forward pass of the PyTorch code on weights by its names, which it draws where they are first asked for."""

    def __init__(self, recurrent, gated, width, steps=2):
        self.recurrent, self.gated, self.width, self.steps = recurrent, gated, width, steps
        self.state = {}
        self.generator = torch.Generator().manual_seed(5)

    def draw(self, name, *shape, positive=False):
        if name not in self.state:
            value = torch.randn(shape, generator=self.generator) * 0.3
            self.state[name] = value.abs() + 0.5 if positive else value
        return self.state[name]

    def conv(self, x, name, out, kernel=3):
        weight = self.draw(f"{name}.weight", out, x.shape[1], kernel, kernel)
        return F.conv2d(x, weight, self.draw(f"{name}.bias", out), padding=kernel // 2)

    def norm(self, x, name):
        shape = x.shape[1]
        self.state.setdefault(f"{name}.num_batches_tracked", torch.tensor(1))
        return F.batch_norm(
            x,
            self.draw(f"{name}.running_mean", shape),
            self.draw(f"{name}.running_var", shape, positive=True),
            self.draw(f"{name}.weight", shape, positive=True),
            self.draw(f"{name}.bias", shape),
        )

    def block(self, x, recurrent, plain, out):
        if not self.recurrent:
            for i in (0, 3):
                x = self.norm(self.conv(x, f"{plain}.conv.{i}", out), f"{plain}.conv.{i + 1}").relu()
            return x
        x = projected = self.conv(x, f"{recurrent}.Conv_1x1", out, 1)
        for i in (0, 1):
            at, start = f"{recurrent}.RCNN.{i}.conv", x
            x = self.norm(self.conv(start, f"{at}.0", out), f"{at}.1").relu()
            for _ in range(self.steps):
                x = self.norm(self.conv(start + x, f"{at}.0", out), f"{at}.1").relu()
        return projected + x

    def gate(self, g, x, name):
        inner = x.shape[1] // 2
        both = self.norm(self.conv(g, f"{name}.W_g.0", inner, 1), f"{name}.W_g.1")
        both = both + self.norm(self.conv(x, f"{name}.W_x.0", inner, 1), f"{name}.W_x.1")
        return x * self.norm(self.conv(both.relu(), f"{name}.psi.0", 1, 1), f"{name}.psi.1").sigmoid()

    def __call__(self, x, outputs):
        skips = []
        for level in range(1, 6):
            x = F.max_pool2d(x, 2) if level > 1 else x
            x = self.block(x, f"RRCNN{level}", f"Conv{level}", self.width * 2 ** (level - 1))
            skips.append(x)
        skips.pop()
        for level in (5, 4, 3, 2):
            out = self.width * 2 ** (level - 2)
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.norm(self.conv(x, f"Up{level}.up.1", out), f"Up{level}.up.2").relu()
            skip = self.gate(x, skips[-1], f"Att{level}") if self.gated else skips[-1]
            skips.pop()
            x = self.block(torch.cat((skip, x), 1), f"Up_RRCNN{level}", f"Up_conv{level}", out)
        return self.conv(x, "Conv_1x1", outputs, 1)


@pytest.mark.parametrize(
    ("variant", "recurrent", "gated"),
    [("unet", False, False), ("attunet", False, True), ("r2unet", True, False), ("r2attunet", True, True)],
)
def test_the_released_networks(variant, recurrent, gated):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 48)
    released = Released(recurrent, gated, width=4)
    expected = released(x, 2)
    network = FixedUNet(variant, 3, 2, base_width=4)
    load_weights(network, from_image_segmentation(released.state))
    torch.testing.assert_close(
        network.eval()(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
    )
    assert expected.std() > 0.1
