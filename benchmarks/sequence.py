"""``python -m benchmarks.sequence``: state-space scans, the challenge's score and channels on the CPU.

* the selective scan, forward and backward, with as many tokens as ECG-Mamba makes of a record, and of a smaller
  network, against the loop over slices as Mamba's reference has it, whose gradient is quadratic in the length (once: it
  takes long), the same loop over slices that ``unbind`` cuts, PyTorch's ``associative_scan`` (generic, eager), and
  ``pscan`` of mambapy (``--mambapy FOLDER``). Ours must equal the recurrence in double precision to 1e-5, relative to
  the largest value of the output and of each gradient. Bar: the gradient of 729 tokens is 50 times faster than that of
  the first loop;
* a training step and the inference of a block of ECG-Mamba with our scan, and with the loops in its place;
* the PhysioNet challenge's score of 4000 records and 26 classes, against a loop over records and classes as in the
  official evaluator. Both must agree to 1e-10. Bar: 20 times faster;
* channels with 32 antennas and 300 subcarriers, and with 8 and 64, against Sionna at all symbols and all subcarriers,
  of which every 70th symbol is kept, as CSI-4CAST's released generator does, and against Sionna at the report times.
  For the same seed they must agree to 1e-4, apart from each sample's power, which is not taken over the same symbols.

Contestants take turns; medians, and ratios to the first of a table.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from sionna.phy import config as sionna
from sionna.phy.channel import cir_to_ofdm_channel
from torch import Tensor
from torch._higher_order_ops.associative_scan import associative_scan
from torch.nn import functional

from benchmarks.measure import (
    install_peer,
    interleave,
    print_bar,
    print_comparison,
    print_heading,
    print_text,
)
from core.residual.blocks import mamba
from core.selective_scan import selective_scan
from core.train.hardware import keep_large_allocations
from tasks.csi.config import ChannelConfig
from tasks.csi.data.cdl import BATCH, ChannelSampler
from tasks.csi.data.dataset import Condition
from tasks.csi.data.store import SYMBOLS, antennas, report_interval
from tasks.ecg.challenge import NORMAL, challenge_score
from tasks.ecg.data.codes import challenge_weights

Scan = Callable[..., Tensor]

SCAN_BAR, METRIC_BAR = 50.0, 20.0
LOOP, UNBOUND = "loop over slices", "loop, unbind"
MAMBAPY = ("mambapy==1.2.0",)
LOOPS = """\
The loop over slices, as Mamba's reference has it, has a gradient that is quadratic in the length; cutting the inputs
once with `unbind` mends that, and then a factor of 2 is left.
"""


def sliced_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The recurrence as Mamba's reference writes it: all decays and inputs at once, and a slice of them a step.

    The gradient of each slice is a tensor as large as the whole.
    """
    decay = torch.exp(delta.unsqueeze(-1) * A.unsqueeze(1))
    x = (delta * u).unsqueeze(-1) * B.transpose(1, 2).unsqueeze(1)
    h, outputs = torch.zeros_like(x[:, :, 0]), []
    for t in range(u.shape[-1]):
        h = decay[:, :, t] * h + x[:, :, t]
        outputs.append((h * C[:, None, :, t]).sum(-1))
    return torch.stack(outputs, -1) + D[:, None] * u


def unbound_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The same with all slices cut at once, time first, so that their gradients are joined once."""
    decay, x = _decays_and_inputs(u, delta, A, B)
    h, outputs = torch.zeros_like(x[0]), []
    for link, value, weights in zip(decay.unbind(0), x.unbind(0), C.unbind(-1), strict=True):
        h = torch.addcmul(value, link, h)
        outputs.append((h * weights.unsqueeze(1)).sum(-1))
    return torch.stack(outputs, -1) + D[:, None] * u


def torch_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The recurrence by PyTorch's associative scan over pairs of decay and input."""
    _, states = associative_scan(_combine, _decays_and_inputs(u, delta, A, B), 0, combine_mode="generic")
    return (states * C.permute(2, 0, 1).unsqueeze(2)).sum(-1).permute(1, 2, 0) + D[:, None] * u


def mambapy_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The recurrence by mambapy's parallel scan, in its own layout ``(B, L, D, N)``."""
    from mambapy.pscan import pscan

    step, value = delta.transpose(1, 2), u.transpose(1, 2)
    x = (step * value).unsqueeze(-1) * B.transpose(1, 2).unsqueeze(2)
    states = pscan(torch.exp(step.unsqueeze(-1) * A), x)
    y = (states @ C.transpose(1, 2).unsqueeze(-1)).squeeze(-1) + D * value
    return y.transpose(1, 2)


def _decays_and_inputs(u: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both of all steps, ``(L, B, D, N)``."""
    step = delta.permute(2, 0, 1).unsqueeze(-1)
    return torch.exp(step * A), step * u.permute(2, 0, 1).unsqueeze(-1) * B.permute(2, 0, 1).unsqueeze(2)


def _combine(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return left[0] * right[0], right[0] * left[1] + right[1]


def scan_arguments(batch: int, channels: int, length: int, state: int) -> list[Tensor]:
    """Returns ``u, delta, A, B, C, D`` with step sizes and rates as Mamba starts with."""
    torch.manual_seed(0)
    parts = [
        torch.randn(batch, channels, length),
        functional.softplus(torch.randn(batch, channels, length) - 4),
        -torch.arange(1.0, state + 1).repeat(channels, 1),
        torch.randn(batch, state, length),
        torch.randn(batch, state, length),
        torch.ones(channels),
    ]
    return [part.requires_grad_() for part in parts]


def compare_scans(
    batch: int, channels: int, length: int, state: int, rounds: int, peers: dict[str, Scan], once: bool
) -> float:
    """Prints the tables of both passes; returns how many times as fast as the loop's the gradient is.

    Args:
        batch: Samples.
        channels: Channels of a sample.
        length: Steps.
        state: Size of the state of a channel.
        rounds: Measurements.
        peers: Other forms.
        once: Run the loop over slices once alone, without warming up.
    """
    parts = scan_arguments(batch, channels, length, state)
    weights = torch.randn(batch, channels, length)
    scans = {"skipway": selective_scan, **peers, LOOP: sliced_loop}
    outputs: dict[str, Tensor] = {}

    def forward(name: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            outputs[name] = scans[name](*parts)
            return outputs[name]

        return run

    def backward(name: str) -> Callable[[], tuple[Tensor, ...]]:
        def run() -> tuple[Tensor, ...]:
            return torch.autograd.grad(outputs[name], parts, weights, retain_graph=True)

        return run

    taking_turns = [name for name in scans if name != LOOP or not once]
    ahead = interleave({name: forward(name) for name in taking_turns}, rounds)
    back = interleave({name: backward(name) for name in taking_turns}, rounds)
    gradients = {name: backward(name)() for name in taking_turns}
    if once:
        _, ahead[LOOP] = _timed(forward(LOOP))
        gradients[LOOP], back[LOOP] = _timed(backward(LOOP))
    size = f"B {batch}, D {channels}, L {length}, N {state}"
    print_comparison(f"Selective scan, forward, {size}", "pass", 1, ahead)
    print_comparison(f"Selective scan, backward, {size}", "pass", 1, back)

    double = [part.detach().double().requires_grad_() for part in parts]
    exact = unbound_loop(*double)
    wanted = (exact, *torch.autograd.grad(exact, double, weights.double()))
    errors = {name: _error((outputs[name], *gradients[name]), wanted) for name in scans}
    told = ", ".join(f"{name} {error:.0e}" for name, error in errors.items())
    print_text(f"Largest error against the recurrence in double precision: {told}.")
    assert errors["skipway"] < 1e-5
    return back[LOOP][0] / back["skipway"][0]


def compare_blocks(batch: int, width: int, length: int, rounds: int) -> None:
    """Prints the tables of a block of ECG-Mamba, which scans in both directions."""
    torch.manual_seed(0)
    block = mamba.MambaBlock(width)
    optimizer = torch.optim.AdamW(block.parameters(), 1e-4, fused=True)
    signals = torch.randn(batch, width, length)
    scans: dict[str, Scan | None] = {"skipway": None, UNBOUND: unbound_loop, LOOP: sliced_loop}

    def step(scan: Scan | None) -> Callable[[], object]:
        def run() -> None:
            with _replaced(scan):
                block(signals).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    def infer(scan: Scan | None) -> Callable[[], object]:
        def run() -> Tensor:
            with _replaced(scan), torch.inference_mode():
                return block(signals)

        return run

    size = f"Block of ECG-Mamba, width {width}, {batch} x {length} tokens"
    torch.testing.assert_close(infer(None)(), infer(sliced_loop)(), rtol=1e-4, atol=1e-5)
    times = interleave({name: step(scan) for name, scan in scans.items()}, rounds)
    print_comparison(f"{size}, training", "step", 1, times)
    times = interleave({name: infer(scan) for name, scan in scans.items()}, rounds)
    print_comparison(f"{size}, inference", "pass", 1, times)


def _replaced(scan: Scan | None):
    return mock.patch.object(mamba, "selective_scan", scan) if scan else nullcontext()


def loop_score(labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray, normal: int) -> float:
    """The challenge's score record by record and class by class, as the official evaluator goes."""

    def reward(found: np.ndarray) -> float:
        classes = labels.shape[1]
        confusions = np.zeros((classes, classes))
        for i in range(len(labels)):
            share = float(max(np.sum(np.any((labels[i, :], found[i, :]), axis=0)), 1))
            for j in range(classes):
                if labels[i, j]:
                    for k in range(classes):
                        if found[i, k]:
                            confusions[j, k] += 1 / share
        return float(np.nansum(weights * confusions))

    sinus = np.zeros_like(outputs)
    sinus[:, normal] = True
    observed, correct, inactive = reward(outputs), reward(labels), reward(sinus)
    return (observed - inactive) / (correct - inactive)


def compare_scores(records: int, rounds: int) -> bool:
    """Prints the table of the challenge's score; returns whether the bar is met."""
    weights, rng = challenge_weights(), np.random.default_rng(0)
    labels = rng.random((records, len(weights))) < 0.08
    outputs = labels ^ (rng.random(labels.shape) < 0.04)
    ours = challenge_score(labels, outputs, weights)
    difference = abs(ours - loop_score(labels, outputs, weights, NORMAL))
    assert difference < 1e-10
    times = interleave(
        {
            "skipway": lambda: challenge_score(labels, outputs, weights),
            "loop over records": lambda: loop_score(labels, outputs, weights, NORMAL),
        },
        rounds,
    )
    title = f"The PhysioNet 2021 challenge score of {records} records and {len(weights)} classes"
    print_comparison(title, "record", records, times)
    print_text(f"The score is {ours:.4f}, and differs from the loop's by {difference:.0e}.")
    gain = times["loop over records"][0] / times["skipway"][0]
    return _bar(
        "the challenge score, against a loop over the records as in the official evaluator", METRIC_BAR, gain
    )


def dense_channels(sampler: ChannelSampler, samples: int) -> Tensor:
    """Computes all symbols and subcarriers, and keeps the symbols of reports, ``(samples, antennas, reports, F)``."""
    channel = sampler.channel
    every = SYMBOLS * channel.period
    steps = every * (channel.history + channel.horizon)
    paths = sampler.cdl(samples, steps, every / report_interval(channel))
    return cir_to_ofdm_channel(sampler.frequencies, *paths, normalize=True)[:, 0, :, 0, 0, ::every]


def report_channels(sampler: ChannelSampler, samples: int) -> Tensor:
    """Computes all subcarriers of the report times, ``(samples, antennas, reports, F)``."""
    channel = sampler.channel
    reports = channel.history + channel.horizon
    paths = sampler.cdl(samples, reports, 1 / report_interval(channel))
    return cir_to_ofdm_channel(sampler.frequencies, *paths, normalize=True)[:, 0, :, 0, 0]


def compare_channels(channel: ChannelConfig, dense: int, rounds: int) -> None:
    """Prints the table of the generators.

    Args:
        channel: Panel, band and reports.
        dense: Samples that the dense form makes at a time; it needs a few times their whole grid as memory.
        rounds: Measurements.
    """
    sampler = ChannelSampler(channel, Condition("C", 100.0, 10.0))
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "skipway": (lambda: sampler.draw(0), BATCH),
        "Sionna, report times": (lambda: report_channels(sampler, BATCH), BATCH),
        "Sionna, all symbols": (lambda: dense_channels(sampler, dense), dense),
    }
    times = interleave({name: run for name, (run, _) in calls.items()}, rounds)
    times = {name: (cpu / calls[name][1], wall / calls[name][1]) for name, (cpu, wall) in times.items()}
    count, band = antennas(channel), channel.subcarriers
    title = f"Channels of {count} antennas and {band} subcarriers (CDL C), samples of 20 reports, uplink and downlink"
    print_comparison(title, "sample", 1, times)
    rates = ", ".join(f"{name} {1 / cpu:.3g}" for name, (cpu, _) in times.items())
    dense_gain = times["Sionna, all symbols"][0] / times["skipway"][0]
    print_text(
        f"Samples a CPU-second: {rates}. Sionna at all symbols, as the released generator, takes "
        f"{dense_gain:.0f} times our time. There is no bar."
    )


def check_channels(channel: ChannelConfig) -> None:
    """Prints how far our channels are from the dense ones of the same seed, whose power is made equal."""
    sampler = ChannelSampler(channel, Condition("C", 100.0, 10.0))
    uplink, downlink = sampler.draw(3)
    with torch.random.fork_rng(devices=[]):
        sionna.seed = 3
        grid = dense_channels(sampler, BATCH)
    band = channel.subcarriers
    theirs = (grid[..., :band].numpy(), grid[:, :, channel.history :, -band:].numpy())
    scale = np.sqrt((np.abs(uplink) ** 2).sum((1, 2, 3)) / (np.abs(theirs[0]) ** 2).sum((1, 2, 3)))
    error = max(
        float(np.abs(ours - scale[:, None, None, None] * other).max())
        for ours, other in zip((uplink, downlink), theirs, strict=True)
    )
    power = f"{scale.min() ** 2:.3f} to {scale.max() ** 2:.3f}"
    print_text(
        f"For the same seed the channels agree with dense ones to {error:.0e}, up to the power of a sample, which the "
        f"dense form averages over all symbols: {power} of it."
    )
    assert error < 1e-4


def _timed(run: Callable[[], object]) -> tuple[object, tuple[float, float]]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    return result, (time.process_time() - cpu, time.perf_counter() - wall)


def _error(values: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    pairs = zip(values, wanted, strict=True)
    return max(((value - exact).abs().max() / exact.abs().max()).item() for value, exact in pairs)


def _bar(what: str, bar: float, gain: float) -> bool:
    return print_bar(what, f"{bar:g} times faster", f"{gain:.0f}", gain >= bar)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of most contestants")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, no figures")
    parser.add_argument(
        "--mambapy", type=Path, help="folder with mambapy; pip installs it there if it is not"
    )
    options = parser.parse_args()
    peers, wrong = {UNBOUND: unbound_loop, "torch's associative_scan, generic, eager": torch_scan}, ""
    if options.mambapy:
        wrong = install_peer(options.mambapy, MAMBAPY, "mambapy.pscan")
        if not wrong:
            sys.path.append(str(options.mambapy))  # after the environment, whose PyTorch counts
            peers["mambapy 1.2.0, `pscan`"] = mambapy_scan
    # As in trainings and in predict.
    keep_large_allocations()
    torch.set_num_threads(options.threads)
    print_heading("State-space scan, challenge score, channels")
    if wrong:
        print_text(f"mambapy is left out: {wrong}")
    small = ChannelConfig(rows=2, columns=2, subcarriers=64, gap=32)
    quick, rounds = options.quick, 1 if options.quick else options.rounds
    few = min(rounds, 3)  # where a round takes seconds
    gain = compare_scans(*((1, 8, 40, 4) if quick else (1, 768, 729, 16)), rounds, peers, True)
    _bar("the gradient of a selective scan, against the loop over slices", SCAN_BAR, gain)
    gain = compare_scans(*((2, 8, 30, 4) if quick else (2, 384, 250, 16)), few, peers, False)
    print_text(f"The gradient of the loop over slices takes {gain:.0f} times our time. {LOOPS}")
    compare_scores(100 if quick else 4000, few)
    compare_blocks(*((2, 16, 30) if quick else (2, 192, 250)), few)
    check_channels(small)
    if not quick:
        compare_channels(ChannelConfig(), 1, few)
    compare_channels(small, 2 if quick else 8, few)


if __name__ == "__main__":
    main()
