"""First values of a network's weights: one choice with the same default for every family.

Libraries differ in silence (timm's ResNet starts its blocks at the identity, torchvision's does not), so that
"the same" network from two of them starts from two functions. Here every family starts with ``kaiming`` and,
where a block has it, the last layer of its branch at zero, unless another choice is made by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from core import nd
from core.registry import Registry
from core.residual.residual import Residual
from core.residual.rule import Rule

TRANSPOSED = tuple(nd.conv_transpose(dims) for dims in (1, 2, 3))
LAYERS = (nn.Linear, *(nd.conv(dims) for dims in (1, 2, 3)), *TRANSPOSED)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
HEADS = ("fc", "head", "classifier")
BESIDE_BRANCH = ("downsample", "rule", "se", "attention")


@dataclass(frozen=True)
class Scheme:
    """A way to set all weights of a model.

    Attributes:
        set_weights: Sets them in place.
        ends_branches: It decides about the last layer of each branch itself, so that zeroing is not asked for.
    """

    set_weights: Callable[[nn.Module], None]
    ends_branches: bool = False


INITS: Registry[Scheme] = Registry("initialisation")


@torch.no_grad()
def initialise(model: nn.Module, scheme: str = "kaiming", zero_init_last: bool = True) -> None:
    """Sets all weights of a model, from torch's global generator.

    Parameters of residual rules keep the values that their papers give them. The classification head is what
    ``model.get_classifier()`` returns, as in timm, or else its attribute ``fc``, ``head`` or ``classifier``.

    Args:
        model: A backbone, or any module.
        scheme: Name of an initialisation, one of ``INITS``:

            * ``kaiming``: convolutions and linear layers from N(0, 2 / fan_out), biases 0, norms 1 and 0; the head
              keeps torch's uniform start (He et al., arXiv:1502.01852, and timm's ResNet). ``fan_out`` is
              the number of outputs that an input feeds: output channels of its group times kernel size. (timm's
              and torchvision's grouped ResNets count all groups, so that their ResNeXt starts smaller.)
            * ``orthonormal``: rows of each flattened weight orthonormal, within each group, or the columns where
              there are more rows than columns ("All You Need is Beyond a Good Init", Xie et al., arXiv:1703.01827);
              all else as in ``kaiming``.
            * ``fixup``: for networks without norms (Zhang et al., arXiv:1901.09321, section 3): as ``kaiming``,
              but in a branch of m weight layers all but the last are multiplied by L^(-1/(2m - 2)), and the last
              is 0, as is the head. L is the rule's ``depth``. A block whose branch is no plain row of layers
              says what it is by a method ``weight_chains()`` that returns lists of modules.
            * ``trunc_normal``: every weight from N(0, 0.02^2) cut at two standard deviations, biases 0, norms 1 and
              0, as ConvNeXt and its relatives start (Liu et al., arXiv:2201.03545, appendix A).
            * ``he_leaky``: weights from N(0, 2 / ((1 + a^2) fan_in)) for leaky ReLUs of slope a = 0.01, biases 0, norms
              1 and 0, as nnU-Net starts. Of transposed convolutions ``fan_in`` is torch's, which counts outputs.
            * ``default``: as torch built them.
        zero_init_last: Calls ``block.zero_init_last()`` of every block that has it, so that the block starts as
            its shortcut. Not under ``fixup``, and not where the rule does the same
            (:attr:`core.residual.Rule.identity_at_init`): of a product of two zeros neither factor is trained.

    Raises:
        ConfigError: There is no such scheme.
    """
    chosen = INITS[scheme]
    chosen.set_weights(model)
    if not zero_init_last or chosen.ends_branches:
        return
    for block in model.modules():
        zero = getattr(block, "zero_init_last", None)
        if callable(zero) and not _starts_as_identity(block):
            zero()


def weight_layers(branch: nn.Module) -> list[nn.Module]:
    """Returns the layers of a branch that multiply by a weight, in the order of registration.

    A residual block may stand for its branch. Left out are the shortcut, the rule and the attention (attributes
    ``downsample``, ``rule``, ``se``, ``attention``), and residual blocks inside.
    """
    weight = getattr(branch, "weight", None)
    layers = [branch] if isinstance(weight, nn.Parameter) and weight.ndim > 1 else []
    for name, child in branch.named_children():
        if name not in BESIDE_BRANCH and not isinstance(child, Residual):
            layers += weight_layers(child)
    return layers


def _starts_as_identity(block: nn.Module) -> bool:
    rule = getattr(block, "rule", None)
    return isinstance(rule, Rule) and rule.identity_at_init


def _outside_rules(module: nn.Module) -> Iterator[nn.Module]:
    """All modules but the rules and what they are made of: a rule's first weights are part of its definition."""
    if not isinstance(module, Rule):
        yield module
        for child in module.children():
            yield from _outside_rules(child)


def _head_layers(model: nn.Module) -> list[nn.Module]:
    get = getattr(model, "get_classifier", None)
    found = [get()] if get else [getattr(model, name, None) for name in HEADS]
    heads = [head for head in found if isinstance(head, nn.Module)]
    return [layer for head in heads[:1] for layer in head.modules() if isinstance(layer, LAYERS)]


def _set_all(model: nn.Module, set_weight: Callable[[nn.Module], object]) -> None:
    """Biases 0, norms 1 and 0, the head as torch has it, and every other weight by ``set_weight(layer)``."""
    head = _head_layers(model)
    for module in _outside_rules(model):
        if module in head:
            module.reset_parameters()  # type: ignore[operator]
            continue
        if isinstance(module, LAYERS):
            set_weight(module)
        elif isinstance(module, NORMS):
            if module.weight is not None:
                nn.init.ones_(module.weight)
        else:
            continue
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _he(layer: nn.Module) -> None:
    # A transposed convolution stores its weight the other way round: torch's fan_in are its outputs.
    mode = "fan_in" if isinstance(layer, TRANSPOSED) else "fan_out"
    nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")  # type: ignore[arg-type]
    # torch counts the outputs of all groups; an input feeds those of its own alone.
    layer.weight.mul_(getattr(layer, "groups", 1) ** 0.5)  # type: ignore[operator]


def _orthonormal_rows(layer: nn.Module) -> None:
    for part in layer.weight.chunk(getattr(layer, "groups", 1)):  # type: ignore[operator]
        nn.init.orthogonal_(part)


def _truncated(layer: nn.Module) -> None:
    nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)  # type: ignore[arg-type]


def _he_of_leaky_relus(layer: nn.Module) -> None:
    nn.init.kaiming_normal_(layer.weight, a=0.01)  # type: ignore[arg-type]


def _he_leaky(model: nn.Module) -> None:
    _set_all(model, _he_of_leaky_relus)


def _trunc_normal(model: nn.Module) -> None:
    _set_all(model, _truncated)


def _kaiming(model: nn.Module) -> None:
    _set_all(model, _he)


def _orthonormal(model: nn.Module) -> None:
    _set_all(model, _orthonormal_rows)


def _fixup(model: nn.Module) -> None:
    _kaiming(model)
    for layer in _head_layers(model):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    for block in model.modules():
        if isinstance(block, Residual):
            chains = getattr(block, "weight_chains", None)
            for chain in chains() if chains else [weight_layers(block)]:
                _scale_chain(chain, block)


def _scale_chain(chain: list[nn.Module], block: Residual) -> None:
    weights: list[Tensor] = [layer.weight for layer in chain]  # type: ignore[misc]
    for weight in weights[:-1]:
        weight.mul_(block.rule.spec.depth ** (-1 / (2 * len(weights) - 2)))
    if weights and not _starts_as_identity(block):
        weights[-1].zero_()


def _leave(model: nn.Module) -> None:
    """Changes nothing."""


INITS.register("kaiming")(Scheme(_kaiming))
INITS.register("orthonormal")(Scheme(_orthonormal))
INITS.register("fixup")(Scheme(_fixup, ends_branches=True))
INITS.register("trunc_normal")(Scheme(_trunc_normal))
INITS.register("he_leaky")(Scheme(_he_leaky))
INITS.register("default")(Scheme(_leave))
