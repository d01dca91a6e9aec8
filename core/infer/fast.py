"""The fastest form of a network on the CPU at hand, chosen by measurement among forms that compute the same."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5
"""Largest difference from the plain network's output, as a part of its largest value, that counts as rounding."""

TARGET_S = 0.1
"""The example is cut so that one forward pass takes about so long, seconds."""

ROUNDS = 4
GAIN = 1.03
"""A form that is less than 3 % faster than the plain network is not worth a change."""

WIDE = 16
"""With fewer channels Winograd's transforms take longer than what they save."""


class Winograd3x3(nn.Conv2d):
    """A 3x3 convolution by Winograd's method, with 2.25 multiplications for each output value and not 9.

    "Fast Algorithms for Convolutional Neural Networks", Lavin and Gray, arXiv:1509.09308, in the form of PyTorch's
    NNPACK. It works on one thread; with several, in training, on other devices and in exported programs this is
    the plain convolution.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Winograd3x3:
        """Returns the layer with the weights of ``conv``, for which :func:`suits_winograd` holds."""
        result = cls(conv.in_channels, conv.out_channels, 3, device="meta")
        result.padding = conv.padding
        result.weight, result.bias = conv.weight, conv.bias
        return result.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, H, W)`` to ``(B, out_channels, H', W')``."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or not self._may_use_nnpack(x):
            return super().forward(x)
        padding = self.padding
        assert isinstance(padding, tuple)
        return torch._nnpack_spatial_convolution(x.contiguous(), self.weight, self.bias, padding)

    @staticmethod
    def _may_use_nnpack(x: Tensor) -> bool:
        return (
            torch.get_num_threads() == 1
            and not torch.is_grad_enabled()
            and x.device.type == "cpu"
            and x.dtype == torch.float32
        )


def suits_winograd(module: nn.Module) -> bool:
    """Tells whether a layer is a plain 3x3 convolution that :class:`Winograd3x3` can do, and wide enough to gain."""
    return (
        type(module) is nn.Conv2d
        and (module.kernel_size, module.stride, module.dilation) == ((3, 3), (1, 1), (1, 1))
        and module.groups == 1
        and module.padding_mode == "zeros"
        and isinstance(module.padding, tuple)
        and min(module.in_channels, module.out_channels) >= WIDE
    )


def with_winograd(model: nn.Module) -> nn.Module:
    """Returns a copy of the model whose suitable convolutions are :class:`Winograd3x3`."""
    result = copy.deepcopy(model)
    done: dict[nn.Module, nn.Module] = {}
    for module in list(result.modules()):
        # Not named_children, which leaves out the second name of a layer.
        for name, child in list(module._modules.items()):
            if isinstance(child, nn.Conv2d) and suits_winograd(child):
                # A layer that is used twice stays one.
                setattr(module, name, done.setdefault(child, Winograd3x3.of(child)))
    return result


def with_channels_last(model: nn.Module) -> nn.Module:
    """Returns a copy of the model with weights in channels-last order, in which its convolutions then work."""
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def fastest(model: nn.Module, example: Tensor, scale: int | None = None) -> tuple[nn.Module, str]:
    """Returns the fastest form of a network on this CPU and number of threads.

    The forms are timed in turn on a random image, the shortest time of each counts. One whose output differs from
    the plain network's by more than rounding is left out, as is one that fails on this machine.

    Args:
        model: A network in its form for inference (:func:`core.compress.folding.deploy`); it is not changed.
        example: ``(1, C, h, w)``, of which only shape, dtype and device count. It is cut where a forward pass would
            take long.
        scale: For networks that are called as ``model(x, scale)``.

    Returns:
        The form and its name, ``"channels_last, 1.3x"``; the model itself and ``"plain"`` if nothing is faster or
        the example is not on a CPU.
    """
    forms = {"plain": model}
    if example.device.type != "cpu":
        return model, "plain"
    builders: dict[str, Callable[[nn.Module], nn.Module]] = {"channels_last": with_channels_last}
    # The question also initialises NNPACK, without which its convolution fails.
    if torch.get_num_threads() == 1 and torch._nnpack_available():
        builders["winograd"] = with_winograd
    try:
        x = _affordable(model, example, scale)
        expected, seconds = _timed(model, x, scale)
    except Exception:  # what is wrong with the model is told where it is used
        return model, "plain"
    best = {"plain": seconds}
    for name, build in builders.items():
        try:
            form = build(model)
            output, best[name] = _timed(form, x, scale)
        except Exception:  # a form is only an offer
            continue
        if (output - expected).abs().max() <= TOLERANCE * expected.abs().max():
            forms[name] = form
    # In turn, so that other work on the machine slows all of them.
    for _ in range(ROUNDS - 1):
        for name, form in forms.items():
            best[name] = min(best[name], _timed(form, x, scale)[1])
    name = min(forms, key=best.__getitem__)
    gain = best["plain"] / best[name]
    return (forms[name], f"{name}, {gain:.1f}x") if gain >= GAIN else (model, "plain")


def _affordable(model: nn.Module, example: Tensor, scale: int | None) -> Tensor:
    """Returns a random image of the example's kind, cut so that a forward pass takes about ``TARGET_S``."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(example.shape, generator=generator).to(example.dtype)
    probe = x[..., :48, :48]
    _timed(model, probe, scale)
    seconds = _timed(model, probe, scale)[1]
    side = max(48, int(48 * math.sqrt(TARGET_S / seconds)))
    return x[..., :side, :side].contiguous()


@torch.inference_mode()
def _timed(model: nn.Module, x: Tensor, scale: int | None) -> tuple[Tensor, float]:
    """Returns the output and the seconds of one forward pass."""
    start = time.perf_counter()
    y = model(x) if scale is None else model(x, scale)
    return y, time.perf_counter() - start
