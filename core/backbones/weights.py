"""Weights of images for signals and volumes, and for other numbers of input channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from core.errors import ConfigError
from core.nd import check_dims
from core.registry import Registry

ONE_A_DIMENSION = (".conv_h.", ".conv_w.")
"""Layers of coordinate attention, of which there are as many as axes."""

DEPTH_KERNELS: Registry[Callable[[Tensor, int], Tensor]] = Registry("mode of inflation")


@DEPTH_KERNELS.register("center")
def _center(weight: Tensor, size: int) -> Tensor:
    volume = weight.new_zeros(*weight.shape[:2], size, *weight.shape[2:])
    volume[:, :, size // 2] = weight
    return volume


@DEPTH_KERNELS.register("mean")
def _mean(weight: Tensor, size: int) -> Tensor:
    return weight.unsqueeze(2).repeat(1, 1, size, 1, 1) / size


def inflate(
    state_dict: Mapping[str, Tensor], dims: int, mode: Literal["center", "mean"] = "center"
) -> dict[str, Tensor]:
    """Turns the weights of a network for images into those of the same network for signals or volumes.

    Kernels ``(O, I, k, k)`` change, everything else is copied.

    To volumes a kernel becomes ``(O, I, k, k, k)``; the new axis is the first spatial one, depth D.

    * ``center``: the 2-D kernel is the slice ``k // 2``, the others are zero. A volume that is constant along D
      gives the 2-D response at every depth, the borders included, for kernels of odd size with the usual padding
      ``k // 2`` and for kernels of any size without padding. An even kernel with padding ``k // 2`` does so
      everywhere but at the last depth.
    * ``mean``: every slice is the 2-D kernel over k ("Quo Vadis, Action Recognition?", Carreira and Zisserman,
      arXiv:1705.07750, section 2.4.1). The response is the 2-D one where the kernel stays inside the volume.

    A whole network keeps this property unless it averages over its zero padding, as the 3x3 poolings of Res2Net
    and ResNeSt do: there the first and last depths differ, and with them every mean over the whole volume.

    To signals a kernel is summed over its first spatial axis, the height: the 1-D response is the 2-D one to an
    image that is constant along its height, where the kernel stays inside.

    Args:
        state_dict: Weights of a 2-D network.
        dims: 1 for signals, 2 for images (a copy), 3 for volumes.
        mode: How the kernels grow, for ``dims=3`` alone.

    Raises:
        ConfigError: ``dims`` or ``mode`` is unknown, the weights are those of volumes, a kernel is not square, or
            the network has coordinate attention, whose layers belong to one axis each.
    """
    check_dims(dims)
    grow = DEPTH_KERNELS[mode]
    if dims == 2:
        return dict(state_dict)
    changed = {}
    for key, weight in state_dict.items():
        if weight.ndim > 4:
            raise ConfigError(
                f"inflate takes the weights of a 2-D network, but {key} is {tuple(weight.shape)}"
            )
        if any(layer in key for layer in ONE_A_DIMENSION):
            raise ConfigError(f"{key} belongs to one axis of images: coordinate attention cannot be inflated")
        if weight.ndim < 4:
            changed[key] = weight
        elif dims == 1:
            changed[key] = weight.sum(2)
        elif weight.shape[2] == weight.shape[3]:
            changed[key] = grow(weight, weight.shape[2])
        else:
            raise ConfigError(f"{key} is {tuple(weight.shape)}: only square kernels have a depth")
    return changed


def adapt_input(
    state_dict: Mapping[str, Tensor], in_channels: int, key: str | None = None
) -> dict[str, Tensor]:
    """Changes the first convolution's weight ``(O, I, *kernel)`` to another number of input channels.

    One channel gets the sum over I; n channels get the I in turns, times ``I / n``, so that inputs with equal
    channels give the response they gave before. The numbers are those of timm's ``adapt_input_conv``.

    Args:
        state_dict: Weights of a backbone.
        in_channels: Channels n of the input.
        key: Name of the weight; the first with a spatial axis by default, which it is in every backbone but
            ``tcn``, where the shortcut reads the input too: that one takes a second call with the other's name.

    Raises:
        ConfigError: There is no such weight, or ``in_channels`` is below 1.
    """
    if in_channels < 1:
        raise ConfigError(f"in_channels must be 1 or more, not {in_channels}")
    if key is None:
        key = next((name for name, weight in state_dict.items() if weight.ndim > 2), "")
    if key not in state_dict:
        raise ConfigError(f"the weights have no convolution {key!r} to change for {in_channels} channels")
    weight = state_dict[key]
    before = weight.shape[1]
    if in_channels == before:
        return dict(state_dict)
    full = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    if in_channels == 1:
        adapted = full.sum(1, keepdim=True)
    else:
        turns = torch.arange(in_channels, device=weight.device) % before
        adapted = full[:, turns] * (before / in_channels)
    return {**state_dict, key: adapted.to(weight.dtype)}
