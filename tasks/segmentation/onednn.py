"""3-D convolutions of a single window on a CPU."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class OneDNNConv3d(nn.Conv3d):
    """A 3-D convolution by oneDNN at every size.

    PyTorch 2.14 takes a general matrix product where one input has at most 20,480 values along channels, depth and
    height, as in narrow networks; eight times slower for 8 channels of 40 x 56 x 40 voxels. In training, on other
    devices and in exported programs this is the plain convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, D, H, W)`` to ``(B, out_channels, D', H', W')``."""
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if tracing or torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        assert isinstance(self.padding, tuple)
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def with_onednn(model: nn.Module) -> nn.Module:
    """Returns a copy of the model whose plain 3-D convolutions are :class:`OneDNNConv3d`, where torch has oneDNN."""
    result = copy.deepcopy(model)
    if torch.backends.mkldnn.is_available():
        for module in result.modules():
            if (
                type(module) is nn.Conv3d
                and module.padding_mode == "zeros"
                and isinstance(module.padding, tuple)
            ):
                # The same layer, with another forward.
                module.__class__ = OneDNNConv3d
    return result
