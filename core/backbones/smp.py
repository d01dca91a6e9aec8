"""Our backbones as encoders of segmentation_models_pytorch, so that its decoders stand on any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import BACKBONES, backbone_options
from core.backbones.spec import Spec
from core.backbones.weights import adapt_input
from core.errors import ConfigError
from core.registry import check_options
from core.residual.init import initialise

PYRAMID = (2, 4, 8, 16, 32)
"""What the decoders expect each feature to be reduced by."""


class Encoder(Backbone):
    """What segmentation_models_pytorch calls on an encoder; :func:`encoder_class` joins it with a family.

    The layers are the backbone's, named as there, so that its weights load. Blocks behind the last feature do
    not exist; their weights are passed over in loading, as those of the classifier are.

    Attributes:
        out_channels: Channels of every feature, the input first.
        output_stride: By what the last feature is reduced.
        left_out: Names of the whole backbone's weights that have no place here.
    """

    _is_torch_scriptable = False  # what smp asks of its encoders
    _is_torch_exportable = True
    _is_torch_compilable = True

    depth: int
    left_out: frozenset[str] = frozenset()

    @property
    def out_channels(self) -> list[int]:
        """Channels of every feature, the input first; 0 where the backbone has none of half the size."""
        empty = [0] * _first_is_missing(self)
        channels = [info.channels for info in _features(self)]
        return [self.spec.in_channels, *empty, *channels][: self.depth + 1]

    @property
    def output_stride(self) -> int:
        """Factor by which the last feature is smaller than the input."""
        reductions = [1, *[2] * _first_is_missing(self), *(info.reduction for info in _features(self))]
        reduction = reductions[self.depth]
        assert isinstance(reduction, int)  # as in every pyramid
        return reduction

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]  # the protocol of smp
        """Returns the input ``(B, C, H, W)`` and ``depth`` features, each half the size of the one before.

        Backbones that begin with patches of 4 pixels have ``(B, 0, H / 2, W / 2)`` in place of the first, as
        smp's own do.
        """
        features = [x]
        if _first_is_missing(self):
            features.append(x.new_empty(x.shape[0], 0, x.shape[2] // 2, x.shape[3] // 2))
        return (features + self.forward_features(x, stem=True))[: self.depth + 1]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Replaces the first convolution by one for another number of channels.

        Args:
            in_channels: Channels of the input.
            pretrained: Take over the weights, see :func:`core.backbones.adapt_input`; otherwise draw new ones.
        """
        if in_channels == self.spec.in_channels:
            return
        kinds = tuple(nd.conv(dims) for dims in (1, 2, 3))
        name, old = next((n, m) for n, m in self.named_modules() if isinstance(m, kinds))
        new = type(old)(
            in_channels,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]  # of as many axes as the class has
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            old.dilation,  # type: ignore[arg-type]
            bias=old.bias is not None,
        ).to(old.weight)
        if pretrained:
            new.load_state_dict(adapt_input(old.state_dict(), in_channels))
        else:
            initialise(new, self.spec.init, False)
        self.set_submodule(name, new)
        self.spec = replace(self.spec, in_channels=in_channels)

    def make_dilated(self, output_stride: int) -> None:
        """Does nothing: the encoder was built for its output stride."""
        assert self.output_stride <= output_stride

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for key in self.left_out:
            state_dict.pop(prefix + key, None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle finds a class by its name in a module, where that of a family joined with Encoder is not.
        return _blank, (type(self).__bases__[1],), self.__dict__


@cache
def encoder_class(family: type[Backbone]) -> type[Encoder]:
    """Returns a family of backbones with the methods of an encoder."""
    return type(f"{family.__name__}Encoder", (Encoder, family), {"__module__": __name__})


def _blank(family: type[Backbone]) -> Encoder:
    kind = encoder_class(family)
    return kind.__new__(kind)


def create_encoder(
    name: str, options: Mapping[str, Any], *, depth: int = 5, output_stride: int = 32
) -> Encoder:
    """Builds an encoder with random weights for 3 channels.

    Args:
        name: One of :func:`core.backbones.list_backbones` that has features at 1/2 or 1/4 to 1/32.
        options: Options of the backbone, such as ``{"rule": "orthogonal"}``.
        depth: Features below the input, 1 to 5.
        output_stride: 32, or 8 or 16 for decoders that want a finer last feature (DeepLabV3): strides beyond it
            become dilations.

    Raises:
        ConfigError: An option is wrong, or the backbone cannot be an encoder of this depth or stride.
    """
    preset = BACKBONES[name]
    given = check_options(f"backbone {name!r}", backbone_options(name), options)
    spec = replace(preset.spec, **{**given, "dims": 2, "num_classes": None})
    if depth not in range(1, 6):
        raise ConfigError(f"encoder_depth of {name} must be 1 to 5, not {depth}")
    family = encoder_class(preset.model)
    whole = _on_meta(preset.model, replace(spec, num_classes=2))
    if not _fits(whole):
        found = ", ".join(str(info.reduction) for info in _features(whole))
        raise ConfigError(f"{name} reduces its input by {found}; an encoder needs (2,) 4, 8, 16, 32")
    spec = _cut(name, preset.model, spec, whole, depth)
    if output_stride != PYRAMID[-1]:
        reduction = whole.feature_info[0].reduction
        assert isinstance(reduction, int)  # as in every pyramid
        spec = _dilated(name, spec, reduction, output_stride)
    encoder = family(spec)
    encoder.remove_head()
    encoder.depth = depth
    encoder.left_out = frozenset(whole.state_dict().keys() - encoder.state_dict().keys())
    return encoder


def register_smp_encoders(prefix: str = "skipway-", **options: Any) -> list[str]:
    """Enters the backbones into segmentation_models_pytorch, for its decoders to take by name.

    ``smp.Unet("skipway-resnet18", encoder_weights=None)`` works afterwards. A second call with a prefix replaces
    what the first one entered; options under another prefix stand beside the defaults:
    ``register_smp_encoders("orthogonal-", rule="orthogonal")`` gives ``orthogonal-resnet18``.

    Args:
        prefix: What stands before each name.
        **options: Options of the backbones, as :func:`core.backbones.create_backbone`; ``in_channels`` and
            ``num_classes`` are smp's. Backbones that do not have them all are left out.

    Returns:
        The names, of the backbones for images whose features are reduced by 2 (or 4) to 32.

    Raises:
        ConfigError: segmentation_models_pytorch is not installed, no backbone has the options, or a name is one
            of its own encoders.
    """
    try:
        from segmentation_models_pytorch.encoders import encoders
    except ImportError:
        raise ConfigError(
            "segmentation_models_pytorch is not installed; run pip install 'skipway[backbones]'"
        ) from None
    entries = {
        prefix + name: {
            "encoder": partial(create_encoder, name, options),
            "pretrained_settings": {},  # smp downloads from its own hub; see load_timm
            "params": {},
        }
        for name in _pyramids()
        if options.keys() <= backbone_options(name).keys() - {"dims", "in_channels", "num_classes"}
    }
    if not entries:
        raise ConfigError(f"no backbone for images has the options {', '.join(options)}")
    for name in entries:
        present = encoders.get(name)
        if present is not None and getattr(present["encoder"], "func", None) is not create_encoder:
            raise ConfigError(f"segmentation_models_pytorch has its own {name!r}; take another prefix")
    encoders.update(entries)
    return list(entries)


@cache
def _pyramids() -> tuple[str, ...]:
    return tuple(_fitting())


def _fitting() -> Iterator[str]:
    for name in BACKBONES:
        preset = BACKBONES[name]
        if 2 in preset.spec.allowed_dims:
            layers = getattr(preset.spec, "layers", None)
            # One block a stage has the resolutions of the whole network.
            short = replace(preset.spec, layers=(1,) * len(layers)) if layers else preset.spec  # type: ignore
            if _fits(_on_meta(preset.model, short)):
                yield name


def _on_meta(family: type[Backbone], spec: Spec) -> Backbone:
    with torch.device("meta"):
        return family(spec)


def _features(model: Backbone) -> list[FeatureInfo]:
    return [*([model.stem_info] if model.stem_info else []), *model.feature_info]


def _first_is_missing(model: Backbone) -> bool:
    return _features(model)[0].reduction == PYRAMID[1]


def _fits(model: Backbone) -> bool:
    reductions = tuple(info.reduction for info in _features(model))
    return reductions in (PYRAMID, PYRAMID[1:])


def _cut(name: str, family: type[Backbone], spec: Spec, whole: Backbone, depth: int) -> Spec:
    """Returns the spec without the stages behind the last feature, which would be trained by nothing."""
    if depth == len(PYRAMID):
        return spec
    wanted = whole.feature_info[: max(depth - len(PYRAMID) + len(whole.feature_info), 1)]
    stages = len(getattr(spec, "layers", ()))
    for count in range(len(wanted), stages):
        shorter = {f: getattr(spec, f)[:count] for f in ("layers", "widths") if hasattr(spec, f)}
        try:
            cut = replace(spec, **shorter)
            model = _on_meta(family, cut)
        except ConfigError:  # other fields have to have as many entries
            break
        if model.feature_info == wanted and model.state_dict().keys() <= whole.state_dict().keys():
            return cut
    raise ConfigError(
        f"{name} has a last stage unlike the others and takes encoder_depth=5 alone, not {depth}"
    )


def _dilated(name: str, spec: Spec, reduction: int, output_stride: int) -> Spec:
    """Returns the spec with dilations for the strides beyond an output stride."""
    if output_stride not in PYRAMID[2:]:
        raise ConfigError(f"encoder_output_stride of {name} must be 8, 16 or 32, not {output_stride}")
    if not (hasattr(spec, "strides") and hasattr(spec, "dilations")):
        raise ConfigError(f"{name} has no dilations for encoder_output_stride={output_stride}; take 32")
    strides, dilations, dilation = list(spec.strides), list(spec.dilations), 1
    for stage in range(1, len(strides)):
        if reduction * strides[stage] > output_stride:
            dilation, strides[stage] = dilation * strides[stage], 1
        reduction *= strides[stage]
        dilations[stage] *= dilation
    return replace(spec, strides=tuple(strides), dilations=tuple(dilations))  # type: ignore[call-arg]
