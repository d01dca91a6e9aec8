"""R2U-Net and its relatives: U-Nets of five levels with recurrent, residual or plain blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.registry import Registry
from core.residual import ResidualChain
from core.residual.blocks import Block, BlockSpec, create_block
from core.residual.blocks.block import nearly_zero_last
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.recurrent import RecurrentConv
from tasks.segmentation.models.padding import crop_to_size, pad_to_multiple

LEVELS = 5


class ResConvBlock(Block):
    """Two times conv 3, norm, act, and a 1x1 convolution of the input beside them; no activation after the sum.

    The block of ResU-Net, Alom et al., arXiv:1802.06955, figure 4c.

    Args:
        spec: Geometry, materials and place.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec, last_act=False)
        width = spec.out_channels
        self.conv1 = spec.conv(spec.in_channels, width, 3, stride=spec.stride, bias=True)
        self.bn1 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.conv2 = spec.conv(width, width, 3, bias=True)
        self.bn2 = spec.norm_layer(width)
        self.act2 = spec.act_layer()

    def branch(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to the update ``(B, out_channels, *spatial)``."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(x)))

    def zero_init_last(self) -> None:
        """Sets the last layers before the last activation so that the update is 0 to within 1e-6."""
        nearly_zero_last(self.conv2, self.bn2)


class RecurrentUnits(nn.Module):
    """A 1x1 convolution and two recurrent ones, without a residual connection: the block of RU-Net.

    Alom et al., arXiv:1802.06955, figure 4b. Layers are named as in the residual block.

    Args:
        spec: Geometry and materials.
        steps: Recurrences of each convolution.
    """

    def __init__(self, spec: BlockSpec, steps: int) -> None:
        super().__init__()
        self.projection = spec.conv(spec.in_channels, spec.out_channels, bias=True)
        self.unit1 = RecurrentConv(spec, steps, bias=True)
        self.unit2 = RecurrentConv(spec, steps, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``."""
        return self.unit2(self.unit1(self.projection(x)))


class AttentionGate(nn.Module):
    """Weights a skip connection by what the coarser level sees: ``x sigmoid(psi(act(G g + X x)))``.

    "Attention U-Net", Oktay et al., arXiv:1804.03999, section 3, with norms behind all 1x1 convolutions.

    Args:
        spec: Materials.
        width: Channels of both inputs.
    """

    def __init__(self, spec: BlockSpec, width: int) -> None:
        super().__init__()
        inner = max(width // 2, 1)
        self.gate = conv_norm(spec, width, inner, act=False, bias=True)
        self.skip = conv_norm(spec, width, inner, act=False, bias=True)
        self.act = spec.act_layer()
        self.psi = conv_norm(spec, inner, 1, act=False, bias=True)

    def forward(self, gate: Tensor, x: Tensor) -> Tensor:
        """Returns the weighted skip connection ``x``; both are ``(B, width, *spatial)``."""
        return x * self.psi(self.act(self.gate(gate) + self.skip(x))).sigmoid()


@dataclass(frozen=True)
class Variant:
    """What one network of the family has.

    Attributes:
        block: Builds the two convolutions of a level from a spec and the number of recurrences.
        residual: Whether that block has a residual connection.
        gated: Whether the skip connections have attention gates.
    """

    block: Callable[[BlockSpec, int], nn.Module]
    residual: bool = False
    gated: bool = False


def _plain(spec: BlockSpec, steps: int) -> nn.Module:
    width = spec.out_channels
    return nn.Sequential(
        conv_norm(spec, spec.in_channels, width, 3, bias=True), conv_norm(spec, width, width, 3, bias=True)
    )


def _residual(spec: BlockSpec, steps: int) -> nn.Module:
    return ResConvBlock(spec)


def _recurrent(spec: BlockSpec, steps: int) -> nn.Module:
    return create_block("recurrent", spec, steps=steps, bias=True)


VARIANTS: Registry[Variant] = Registry("U-Net of five levels")
VARIANTS.register("unet")(Variant(_plain))
VARIANTS.register("attunet")(Variant(_plain, gated=True))
VARIANTS.register("resunet")(Variant(_residual, residual=True))
VARIANTS.register("runet")(Variant(RecurrentUnits))
VARIANTS.register("r2unet")(Variant(_recurrent, residual=True))
VARIANTS.register("r2attunet")(Variant(_recurrent, residual=True, gated=True))


class FixedUNet(nn.Module):
    """Five levels between poolings of 2, upsampling with a convolution, and a 1x1 convolution to logits.

    "Recurrent Residual Convolutional Neural Network based on U-Net", Alom et al., arXiv:1802.06955; U-Net is that of
    Ronneberger et al., arXiv:1505.04597, with padding and norms. Counts of parameters are those of the released PyTorch
    code of widths 64 to 1024, R2U-Net's 39,091,393 among them; the number of recurrences does not change them. Weights
    start as PyTorch has them.

    Args:
        variant: One of ``VARIANTS``.
        in_channels: Channels of the input.
        outputs: Channels of the output.
        base_width: Channels of the first level, doubled at each of the others.
        steps: Recurrences of the variants that have them.
        dims: 2 for images, 3 for volumes.
        norm: Normalisation.
        act: Activation.
        rule: Residual rule of the variants that have residual connections.
        rule_options: Options of the rule.

    Raises:
        ConfigError: The variant or the rule is unknown, a rule is given for a variant without residual connections, or
            a number is out of range.
    """

    deep_supervision: bool = False

    def __init__(
        self,
        variant: str,
        in_channels: int,
        outputs: int,
        *,
        base_width: int = 64,
        steps: int = 2,
        dims: int = 2,
        norm: str = "batch",
        act: str = "relu",
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        form = VARIANTS[variant]
        if base_width < 1:
            raise ConfigError(f"--model.base_width must be 1 or more, not {base_width}")
        if not form.residual and (rule != "add" or rule_options):
            having = ", ".join(name for name in VARIANTS if VARIANTS[name].residual)
            raise ConfigError(
                f"--model.rule {rule}: {variant} has no residual connections; take one of {having}, or leave the rule "
                "add"
            )
        widths = [base_width * 2**level for level in range(LEVELS)]
        spec = BlockSpec(
            in_channels,
            base_width,
            dims=dims,
            norm=norm,
            act=act,
            rule=rule,
            rule_options=rule_options or {},
            shortcut="bias_conv",
            depth=2 * LEVELS - 1,
        )
        pairs = list(zip([in_channels, *widths[:-1]], widths, strict=True))
        pairs += [(2 * width, width) for width in reversed(widths[:-1])]
        blocks = [_level(form, spec, steps, *pair, index) for index, pair in enumerate(pairs, 1)]
        self.down = nn.ModuleList(blocks[:LEVELS])
        self.pool = nd.pool("max", dims)(2)
        self.up = nn.ModuleList(_upsample(spec, 2 * width, width) for width in reversed(widths[:-1]))
        gates = [AttentionGate(spec, width) for width in reversed(widths[:-1])] if form.gated else []
        self.gates = nn.ModuleList(gates)
        self.merge = nn.ModuleList(blocks[LEVELS:])
        self.output = nd.conv(dims)(base_width, outputs, 1)
        self.multiples = (2 ** (LEVELS - 1),) * dims

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` of any size to logits ``(B, outputs, *spatial)``."""
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiples)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for level, (up, block) in enumerate(zip(self.up, self.merge, strict=True)):
            x, skip = up(x), skips.pop()
            if self.gates:
                skip = self.gates[level](x, skip)
            x = block(torch.cat((skip, x), dim=1))
        return crop_to_size(self.output(x), size)


def _level(
    form: Variant, spec: BlockSpec, steps: int, in_channels: int, width: int, index: int
) -> ResidualChain:
    """A chain of one block: what a rule keeps of earlier ones would not fit behind a pooling."""
    spec = replace(spec, in_channels=in_channels, out_channels=width, index=index)
    if spec.changes_shape:
        spec = replace(spec, history=(in_channels,))
    return ResidualChain([form.block(spec, steps)])


def _upsample(spec: BlockSpec, in_channels: int, width: int) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module](resize=nn.Upsample(scale_factor=2))
    layers.update(conv_norm(spec, in_channels, width, 3, bias=True).named_children())
    return nn.Sequential(layers)
