"""Decoders of segmentation_models_pytorch on encoders of the core, or on the library's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from core.backbones import BACKBONES, adapt_input, backbone_options, load_weights, read_weights
from core.backbones.smp import register_smp_encoders
from core.errors import ConfigError
from core.registry import check_options, nearest
from tasks.segmentation.models.padding import crop_to_size, pad_to_multiple

DECODERS = (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
    "Segformer",
)
PREFIX = "segmentation-"
"""What stands before the names of the core's encoders in the library; each network enters them anew."""

OF_THE_DECODER = {
    "encoder_name": "--model.encoder",
    "encoder_weights": "--model.encoder_weights",
    "in_channels": "the images",
    "classes": "the labels",
    "activation": "the loss",
    "aux_params": "the task, which has no class of the whole image,",
}
OF_THE_ENCODER = {
    "dims": "the library, which is for images,",
    "in_channels": "the images",
    "num_classes": "the labels",
    "rule": "--model.rule",
    "rule_options": "--model.rule_options",
}
"""Options that are not given among the others, and what decides them."""


class SMPNet(nn.Module):
    """A decoder of segmentation_models_pytorch; sizes that its encoder cannot halve are padded inside.

    Nothing is downloaded. An encoder of the core with a rule of its own keeps it where the rule is ``add``.

    Args:
        decoder: One of ``DECODERS``.
        encoder: One of :func:`core.backbones.list_backbones` whose features are reduced by 2 (or 4) to 32, or else an
            encoder of the library.
        in_channels: Channels of the images.
        outputs: Channels of the output.
        options: Options of the decoder.
        encoder_options: Options of an encoder of the core.
        encoder_weights: File of weights for an encoder of the core, adapted to the channels of the images.
        rule: Residual rule of an encoder of the core.
        rule_options: Options of the rule.

    Attributes:
        network: The library's network.

    Raises:
        ConfigError: A name or an option is unknown, they do not fit each other, or the library is not installed.
        DataError: The weights cannot be read or do not fit.
    """

    deep_supervision: bool = False

    def __init__(
        self,
        decoder: str,
        encoder: str,
        in_channels: int,
        outputs: int,
        *,
        options: Mapping[str, Any] | None = None,
        encoder_options: Mapping[str, Any] | None = None,
        encoder_weights: str | None = None,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _refuse_decided("--model.options", options, OF_THE_DECODER)
        _refuse_decided("--model.encoder_options", encoder_options, OF_THE_ENCODER)
        if decoder not in DECODERS:
            hint = nearest(decoder, DECODERS)
            raise ConfigError(f"unknown --model.decoder {decoder!r}.{hint} Known: {', '.join(DECODERS)}")
        ours = encoder in BACKBONES
        if ours:
            own_rule = rule == "add" and not rule_options
            joined = {} if own_rule else {"rule": rule, "rule_options": dict(rule_options or {})}
            name = _enter(encoder, {**(encoder_options or {}), **joined})
        else:
            name = _library_encoder(encoder, encoder_options, encoder_weights, rule, rule_options)
        self.network = _build(decoder, name, in_channels, outputs, options or {}, encoder)
        if encoder_weights is not None:
            state = adapt_input(read_weights(encoder_weights), in_channels)
            load_weights(self.network.encoder, state, source=encoder_weights)  # type: ignore[type-var]
        stride: int = self.network.encoder.output_stride  # type: ignore[assignment, union-attr]
        self.multiples = (stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images ``(B, in_channels, H, W)`` of any size to logits ``(B, outputs, H, W)``."""
        return crop_to_size(self.network(pad_to_multiple(x, self.multiples)), x.shape[2:])


def _enter(encoder: str, options: dict[str, Any]) -> str:
    """Enters the core's encoders with these options into the library and returns the name of one."""
    check_options(f"backbone {encoder!r}", backbone_options(encoder), options)
    name = PREFIX + encoder
    if name not in register_smp_encoders(PREFIX, **options):
        raise ConfigError(
            f"--model.encoder {encoder} is no encoder for these decoders, which read features reduced by 2 (or 4) to "
            "32; take another, such as resnet18"
        )
    return name


def _library_encoder(
    encoder: str,
    encoder_options: Mapping[str, Any] | None,
    encoder_weights: str | None,
    rule: str,
    rule_options: Mapping[str, Any] | None,
) -> str:
    """Checks an encoder of the library."""
    register_smp_encoders()  # says in one line where the library is not installed
    from segmentation_models_pytorch.encoders import get_encoder_names

    known = get_encoder_names()
    if encoder not in known and not encoder.startswith("tu-"):
        hint = nearest(encoder, [*BACKBONES, *known])
        raise ConfigError(
            f"unknown --model.encoder {encoder!r}.{hint} Take one of python -m core.backbones --all, or tu- and a name "
            "of timm"
        )
    for what, given in (
        ("encoder_options", encoder_options),
        ("encoder_weights", encoder_weights),
        ("rule", rule != "add" or rule_options),
    ):
        if given:
            raise ConfigError(
                f"--model.{what} is for encoders of core.backbones, and {encoder} is none of them"
            )
    return encoder


def _build(
    decoder: str, name: str, in_channels: int, outputs: int, options: Mapping[str, Any], encoder: str
) -> nn.Module:
    import segmentation_models_pytorch as smp

    kind = getattr(smp, decoder)
    # The library takes any name and reads those that it knows.
    known = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_KEYWORD]
    mine = dict.fromkeys(option for option in known if option not in OF_THE_DECODER)
    check_options(f"--model.options of {decoder}", mine, options)
    try:
        return kind(name, encoder_weights=None, in_channels=in_channels, classes=outputs, **options)
    except ConfigError:
        raise
    # The library checks with whatever its layers raise.
    except (KeyError, TypeError, ValueError, RuntimeError, NotImplementedError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ConfigError(f"{decoder} cannot be built on {encoder} with --model.options: {reason}") from error


def _refuse_decided(flag: str, given: Mapping[str, Any] | None, decided: Mapping[str, str]) -> None:
    for option, decides in decided.items():
        if option in (given or {}):
            raise ConfigError(f"{flag} has {option}, which {decides} decides; take it out")
