"""From the configuration of a model and a plan to a network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from core.errors import ConfigError
from core.registry import Registry
from tasks.segmentation.config import FixedConfig, PlannedConfig, SMPConfig
from tasks.segmentation.models.planned import PlannedUNet
from tasks.segmentation.models.r2unet import LEVELS, VARIANTS, FixedUNet
from tasks.segmentation.planning.plan import Plan

BUILDERS: Registry[Callable[[Any, Plan, int, int], nn.Module]] = Registry("segmentation network")


def build_network(config: Any, plan: Plan, in_channels: int, outputs: int) -> nn.Module:
    """Returns a new network.

    Args:
        config: One of the configurations in ``tasks.segmentation.config.MODELS``.
        plan: Gives the number of axes, and all of the geometry of planned networks.
        in_channels: Channels of the input, those of a coarser model's output among them.
        outputs: Channels of the output.

    Returns:
        A module that maps ``(B, in_channels, *patch)`` to logits ``(B, outputs, *patch)``, or in training, where its
        ``deep_supervision`` is true, to a list of them, the finest first.

    Raises:
        ConfigError: An option is wrong, or the network does not fit the plan.
        DataError: Weights cannot be read or do not fit.
    """
    return BUILDERS[config.name](config, plan, in_channels, outputs)


@BUILDERS.register("resenc_unet")
@BUILDERS.register("plain_unet")
def _planned(config: PlannedConfig, plan: Plan, in_channels: int, outputs: int) -> nn.Module:
    wanted = "resenc_unet" if plan.residual else "plain_unet"
    if config.name != wanted:
        raise ConfigError(
            f"the plan's encoder is that of {wanted}: take --model.name {wanted}, or another plan"
        )
    if not plan.residual and (config.rule != "add" or config.rule_options):
        raise ConfigError(
            f"--model.rule {config.rule}: plain_unet has no residual connections; take resenc_unet, or leave the rule "
            "add"
        )
    if len(plan.strides) == 1:
        raise ConfigError(
            f"patches of {' x '.join(map(str, plan.patch_size))} are too small for {config.name}, which halves them; "
            "give larger images or --plan.patch_size, or another --model.name, such as unet"
        )
    return PlannedUNet(
        plan,
        in_channels,
        outputs,
        rule=config.rule,
        rule_options=config.rule_options,
        deep_supervision=config.deep_supervision,
    )


def _fixed(config: FixedConfig, plan: Plan, in_channels: int, outputs: int) -> nn.Module:
    if config.norm == "instance" and max(plan.patch_size) <= 2 ** (LEVELS - 1):
        raise ConfigError(
            f"--plan.patch_size {list(plan.patch_size)}: the coarsest level of {config.name} is one voxel, which has "
            "no instance norm; take larger patches, or --model.norm batch"
        )
    return FixedUNet(
        config.name,
        in_channels,
        outputs,
        base_width=config.base_width,
        steps=getattr(config, "steps", 0),
        dims=plan.dims,
        norm=config.norm,
        rule=config.rule,
        rule_options=config.rule_options,
    )


for _name in VARIANTS:
    BUILDERS.register(_name)(_fixed)


@BUILDERS.register("smp")
def _smp(config: SMPConfig, plan: Plan, in_channels: int, outputs: int) -> nn.Module:
    if plan.dims != 2:
        raise ConfigError(
            f"--model.name smp is for images, and {plan.configuration} works on volumes: take --plan.configuration 2d"
        )
    from tasks.segmentation.models.smp import SMPNet

    network = SMPNet(
        config.decoder,
        config.encoder,
        in_channels,
        outputs,
        options=config.options,
        encoder_options=config.encoder_options,
        encoder_weights=config.encoder_weights,
        rule=config.rule,
        rule_options=config.rule_options,
    )
    _try_patch(network, config, plan, in_channels)
    return network


def _try_patch(network: nn.Module, config: SMPConfig, plan: Plan, in_channels: int) -> None:
    """Tries the shapes, without computing anything: some decoders pool what is left of a small patch."""
    shadow = copy.deepcopy(network).to("meta").eval()
    try:
        shadow(torch.empty(2, in_channels, *plan.patch_size, device="meta"))
    except (RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        size = " x ".join(map(str, plan.patch_size))
        raise ConfigError(
            f"{config.decoder} on {config.encoder} cannot take patches of {size} ({reason}); give a larger "
            "--plan.patch_size, or another --model.decoder"
        ) from None
