"""Every configured model becomes a network that fits the plan, or one line."""

from __future__ import annotations

import pytest
import torch

from core.errors import ConfigError
from core.residual import Residual
from tasks.segmentation.build import OUTPUTS
from tasks.segmentation.config import MODELS
from tasks.segmentation.models.build import BUILDERS, build_network
from tasks.segmentation.models.r2unet import VARIANTS

WITHOUT = [name for name in VARIANTS if not VARIANTS[name].residual]


def configured(name, **options):
    return MODELS[name](**options)


def test_every_model_has_a_builder():
    assert set(BUILDERS) == set(MODELS)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", list(MODELS))
def test_networks_fit_the_plan(name, dims, make_plan):
    plan = make_plan(dims, residual=name != "plain_unet")
    with torch.device("meta"):
        if name == "smp" and dims == 3:
            with pytest.raises(ConfigError, match="smp is for images, and 3d_fullres works on volumes"):
                build_network(configured(name), plan, 2, 3)
            return
        narrow = {"base_width": 8} if name in VARIANTS else {}
        network = build_network(configured(name, **narrow), plan, 2, 3).eval()
        assert network(torch.empty(2, 2, *plan.patch_size)).shape == (2, 3, *plan.patch_size)
    assert isinstance(network.deep_supervision, bool)
    assert network.deep_supervision == (name in ("resenc_unet", "plain_unet"))


def test_options_reach_the_networks(make_plan):
    with torch.device("meta"):
        narrow = build_network(configured("r2attunet", base_width=8, steps=1), make_plan(3), 1, 2)
        assert narrow.down[0][0].unit1.steps == 1 and narrow.output.in_channels == 8
        ruled = build_network(
            configured("resenc_unet", rule="scaled", rule_options={"scale": 0.5}, deep_supervision=False),
            make_plan(3),
            1,
            2,
        )
        assert {m.rule.scale for m in ruled.modules() if isinstance(m, Residual)} == {0.5}
        assert not ruled.deep_supervision
        fpn = build_network(configured("smp", decoder="FPN", encoder="resnet34"), make_plan(2), 1, 2)
        assert type(fpn.network).__name__ == "FPN" and len(fpn.network.encoder.layer3) == 6


@pytest.mark.parametrize("name", ["plain_unet", *WITHOUT])
def test_rules_need_residual_connections(name, make_plan):
    with pytest.raises(ConfigError, match=f"--model.rule scaled: {name} has no residual connections; take "):
        build_network(configured(name, rule="scaled"), make_plan(2, residual=False), 1, 2)


@pytest.mark.parametrize(("name", "residual"), [("plain_unet", True), ("resenc_unet", False)])
def test_the_encoder_is_the_plans(name, residual, make_plan):
    wanted = "resenc_unet" if residual else "plain_unet"
    with pytest.raises(
        ConfigError, match=f"the plan's encoder is that of {wanted}: take --model.name {wanted}"
    ):
        build_network(configured(name), make_plan(2, residual=residual), 1, 2)


def test_a_patch_too_small_for_a_decoder_is_one_line(make_plan):
    with (
        torch.device("meta"),
        pytest.raises(ConfigError, match="PAN on resnet18 cannot take patches of 16 x 12"),
    ):
        build_network(configured("smp", decoder="PAN"), make_plan(2), 1, 2)


@pytest.mark.parametrize("name", list(MODELS))
def test_weights_with_a_row_for_each_output_are_known_by_name(name, make_plan):
    plan = make_plan(2, residual=name != "plain_unet")
    narrow = {"base_width": 8} if name in VARIANTS else {}
    with torch.device("meta"):
        three, four = (
            build_network(configured(name, **narrow), plan, 2, outputs).state_dict() for outputs in (3, 4)
        )
    by_class = {key for key in three if three[key].shape != four[key].shape}
    assert by_class and by_class == {key for key in three if key.startswith(OUTPUTS)}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_plan_without_a_stage_to_halve_is_one_line(dims, make_plan):
    plan = make_plan(dims, widths=(4,), blocks=(1,), even=True)
    with pytest.raises(
        ConfigError, match=r"are too small for resenc_unet, which halves them; give larger images"
    ):
        build_network(configured("resenc_unet"), plan, 1, 2)
