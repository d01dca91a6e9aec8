"""resnet1d_wang and xresnet1d: the residual networks of the PTB-XL benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from torch import Tensor, nn

from core.backbones.load import load_weights, plain_weights, rename_layers
from core.backbones.spec import Spec, Stage, stage_specs
from core.errors import DataError
from core.residual import ResidualChain, Rule
from core.residual.blocks import Block, BlockSpec, create_block
from core.residual.blocks.basic import BasicBlock
from core.residual.blocks.bottleneck import EXPANSION
from core.residual.init import initialise
from tasks.ecg.models.head import concat_head

WANG_STEM, WANG_KERNELS, WANG_STRIDES = 7, (5, 3), (1, 2, 2)
XRESNET_STEM = (32, 32)
"""Channels of the first two of three convolutions; the third has the width of the stages."""
SHIFT = 1e-3
"""First shift of xresnet1d's norms, fastai's."""


class ResNet1dWang(nn.Module):
    """Conv 7, norm, ReLU; three blocks of convolutions 5 and 3; the head of largest values and means.

    "Deep Learning for ECG Analysis: Benchmarking and Insights from PTB-XL", Strodthoff et al., arXiv:2004.13701, after
    "Time Series Classification from Scratch with Deep Neural Networks", Wang et al., arXiv:1611.06455, section 2.3. As
    in the benchmark's released weights the three stages are equally wide, and the second and third halve the length.

    Args:
        leads: Leads of the input.
        classes: Classes.
        width: Channels.
        dropout: Before the last layer; half of it before the head's first.
        rule: Residual rule of every block.
        rule_options: Options of the rule.

    Raises:
        ConfigError: The rule or an option of it is wrong.
    """

    def __init__(
        self,
        leads: int,
        classes: int,
        width: int = 128,
        dropout: float = 0.5,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        spec = Spec(dims=1, in_channels=leads, rule=rule, rule_options=rule_options or {})
        stages = [Stage((width,), stride) for stride in WANG_STRIDES]
        self.stem = nn.Sequential(*_conv_norm(spec.block_spec(leads, width), leads, width, WANG_STEM))
        self.blocks = ResidualChain(
            WangBlock(block) for blocks in stage_specs(spec, width, stages) for block in blocks
        )
        self.head = concat_head(width, classes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps signals ``(B, leads, L)`` to logits ``(B, classes)``."""
        return self.head(self.blocks(self.stem(x)))


class WangBlock(BasicBlock):
    """A basic block with kernels of 5 and 3 samples.

    Args:
        spec: Geometry, materials and place.
    """

    def __init__(self, spec: BlockSpec) -> None:
        first, second = WANG_KERNELS
        super().__init__(spec, kernel=(first,))
        self.conv2 = spec.conv(spec.out_channels, spec.out_channels, second)


class XResNet1d(nn.Module):
    """Three convolutions, max pooling, stages of blocks that are all equally wide, the head of the benchmark.

    xresnet1d18, 50 and 101 of arXiv:2004.13701: the network of "Bag of Tricks for Image Classification", He et al.,
    arXiv:1812.01187, section 4 (ResNet-D), in one dimension, without wider stages. Weights start from N(0, 2 / fan_in),
    shifts of norms at 0.001, and the last norm of a branch at zero unless the rule itself begins as the identity.

    Args:
        leads: Leads of the input.
        classes: Classes.
        width: Channels of every stage; bottleneck blocks leave four times as many.
        kernel: Length of the convolutions, samples, odd.
        layers: Blocks of the stages; all but the first halve the length.
        bottleneck: Bottleneck blocks in place of basic ones.
        dropout: Before the last layer; half of it before the head's first.
        rule: Residual rule of every block.
        rule_options: Options of the rule.

    Raises:
        ConfigError: The rule or an option of it is wrong.
    """

    def __init__(
        self,
        leads: int,
        classes: int,
        width: int = 64,
        kernel: int = 5,
        layers: Sequence[int] = (2, 2, 2, 2),
        bottleneck: bool = False,
        dropout: float = 0.5,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        spec = Spec(dims=1, in_channels=leads, rule=rule, rule_options=rule_options or {})
        make, widths = spec.block_spec(leads, width), (leads, *XRESNET_STEM, width)
        stem = [
            _conv_norm(make, widths[i], widths[i + 1], kernel, stride=2 if i == 0 else 1) for i in range(3)
        ]
        self.stem = nn.Sequential(*(layer for row in stem for layer in row), nn.MaxPool1d(3, 2, 1))
        out = width * EXPANSION if bottleneck else width
        stages = [Stage((out,) * count, 1 if i == 0 else 2) for i, count in enumerate(layers)]
        self.blocks = ResidualChain(
            _xresnet_block(block, kernel, bottleneck)
            for blocks in stage_specs(spec, width, stages)
            for block in blocks
        )
        self.head = concat_head(out, classes, dropout)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Maps signals ``(B, leads, L)`` to logits ``(B, classes)``."""
        return self.head(self.blocks(self.stem(x)))

    def _initialise(self) -> None:
        rules = [part for rule in self.modules() if isinstance(rule, Rule) for part in rule.modules()]
        for layer in chain(self.stem.modules(), self.blocks.modules()):
            if layer in rules:  # whose first weights are part of their definition
                continue
            if isinstance(layer, nn.Conv1d):
                nn.init.kaiming_normal_(layer.weight)
            elif isinstance(layer, nn.BatchNorm1d):
                nn.init.constant_(layer.bias, SHIFT)
        initialise(self, "default", zero_init_last=True)


def from_benchmark(state: Mapping[str, Tensor], source: str = "the state_dict") -> ResNet1dWang:
    """Builds the resnet1d_wang that weights in the layout of the benchmark's code are of.

    Args:
        state: ``0.weight``, ``1.running_mean``, ..., ``3.0.conv1.weight``, ..., ``6.8.bias``.
        source: Where they are from, for messages.

    Returns:
        The network in evaluation mode.

    Raises:
        DataError: They are of another network.
    """
    weights = plain_weights(state, source)
    if not {"0.weight", "5.0.conv2.weight", "6.8.weight"} <= weights.keys():
        raise DataError(
            f"{source} is no resnet1d_wang of the PTB-XL benchmark: it needs 0.weight, 5.0.conv2.weight and 6.8.weight"
        )
    width, leads, _ = weights["0.weight"].shape
    names = {"0": "stem.0", "1": "stem.1"}
    names |= {"6.2": "head.norm1", "6.4": "head.linear", "6.6": "head.norm2", "6.8": "head.output"}
    for i in range(len(WANG_STRIDES)):
        for layer in ("conv1", "bn1", "conv2", "bn2", "downsample.0", "downsample.1"):
            names[f"{3 + i}.0.{layer}"] = f"blocks.{i}.{layer}"
    network = ResNet1dWang(leads, len(weights["6.8.weight"]), width)
    return load_weights(network, rename_layers(weights, names), source=source).eval()


def _xresnet_block(spec: BlockSpec, kernel: int, bottleneck: bool) -> Block:
    # The shortcut of nnU-Net's encoders is that of xresnet: the mean of two, then conv 1 where the width changes.
    name = "bottleneck" if bottleneck else "basic"
    return create_block(name, replace(spec, shortcut="resenc"), kernel=(kernel,))


def _conv_norm(
    make: BlockSpec, inputs: int, outputs: int, kernel: int, stride: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    return (
        make.conv(inputs, outputs, kernel, stride=stride),
        make.norm_layer(outputs),
        make.act_layer(),
    )
