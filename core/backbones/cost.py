"""What a backbone costs: parameters, multiply-accumulates, and processor time of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from core.backbones.registry import backbone_options, create_backbone

SIZES = {1: 1024, 2: 224, 3: 64}
SMALL_SIZES = {1: 1024, 2: 32, 3: 32}
"""For backbones that are made for the images of CIFAR, 32 x 32, and reduce by 4 only."""

BATCH = {1: 1, 2: 1, 3: 2}
"""Samples in a timed pass. PyTorch's 3-D convolutions take a slow path on CPUs for one sample alone."""


@dataclass(frozen=True)
class Cost:
    """What a backbone without a classifier costs for one sample.

    Attributes:
        parameters: Learned values.
        macs: Multiply-accumulates of the convolutions and matrix products; norms, activations, sums and pooling
            are not counted, as is usual.
        features: Channels and reduction of each stage.
    """

    parameters: int
    macs: int
    features: tuple[tuple[int, int | tuple[int, ...]], ...]


def default_size(name: str, dims: int) -> int:
    """Returns the edge of the input that a backbone is quoted for: 1024 in 1-D, 224 or 32 in 2-D, 64 or 32 in 3-D.

    Raises:
        ConfigError: There is no such backbone.
    """
    small = str(backbone_options(name).get("stem", "")).startswith("cifar")
    return (SMALL_SIZES if small else SIZES)[dims]


def count_macs(run: Callable[[], object]) -> int:
    """Returns the multiply-accumulates of the convolutions and matrix products in a call.

    Backward passes are included, but PyTorch (2.14) counts the gradient of a grouped convolution's weights as if it
    had one group.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2  # an addition and a multiplication each


def count_cost(name: str, dims: int, size: int, in_channels: int = 3) -> Cost:
    """Counts on the meta device: nothing is computed and no weight is allocated.

    Args:
        name: One of :func:`core.backbones.list_backbones`.
        dims: Spatial axes, 1 to 3.
        size: Edge of the input ``(1, in_channels, *(size,) * dims)``.
        in_channels: Channels of the input.

    Raises:
        ConfigError: There is no such backbone, or not for these ``dims``.
    """
    with torch.device("meta"):
        model = create_backbone(name, dims=dims, in_channels=in_channels).eval()
        x = torch.empty(1, in_channels, *(size,) * dims)
    with torch.no_grad():
        macs = count_macs(lambda: model(x))
    features = tuple((info.channels, info.reduction) for info in model.feature_info)
    return Cost(sum(p.numel() for p in model.parameters()), macs, features)


def forward_seconds(
    name: str, dims: int, size: int, *, repeats: int = 5, seconds: float = 10.0, seed: int = 0
) -> float:
    """Returns the median CPU-seconds of a forward pass for each sample, in float32 on one thread.

    Random weights, evaluation mode, inference mode, contiguous layout, 3 channels; one pass warms up.

    Args:
        name: One of :func:`core.backbones.list_backbones`.
        dims: Spatial axes, 1 to 3.
        size: Edge of the input; ``BATCH[dims]`` samples.
        repeats: Timed passes at most.
        seconds: No further pass begins after so many CPU-seconds; the first always runs.
        seed: Of weights and input.

    Raises:
        ConfigError: There is no such backbone, or not for these ``dims``.
    """
    batch = BATCH[dims]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other use CPU time, too
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(seed)
            model = create_backbone(name, dims=dims).eval()
            x = torch.randn(batch, 3, *(size,) * dims)
            model(x)
            times: list[float] = []
            while len(times) < repeats and sum(times) < seconds:
                start = time.process_time()
                model(x)
                times.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times) / batch
