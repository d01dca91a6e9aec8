"""``python -m benchmarks.backbones``: ResNets of core against timm's and torchvision's, with identical weights.

Forward passes (evaluation and inference mode) and training steps (forward, cross-entropy, backward, SGD with
momentum) in float32, both memory layouts. Each round runs every contestant once, in an order that rotates, and a
product of two 2048 x 2048 matrices beside them, by whose rate the share of the machine is reckoned.

A ratio is the median over the rounds of core's time over the peer's in the same round, with its quartiles; this
holds on a loaded machine where medians of times do not. The peer is the one with the lower median. The allocator
is set as in every training of Skipway (``core/train/hardware.py``), for all alike; ``--malloc default`` leaves it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from rich.progress import Progress
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import PROGRESS, print_bar, print_heading, print_table, print_text
from core.backbones import create_backbone
from core.train.hardware import keep_large_allocations

CLASSES = 1000
EDGE = 2048
FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
BAR = 1.03
WHY = (
    "The one costly operation that differs is the sum: the peers write it over the branch's output, Skipway into a new "
    "tensor, since rules read both. Writing over it was measured to win 2 % in the cell that missed first (ResNet-50, "
    "forward, channels_last: 1.053); where the rest goes is not known."
)
"""Why a cell misses the bar."""
ABOUT = """\
{setup}, float32, identical weights. Read the CPU columns where other programs run: the median over the rounds of core's
time over that of the faster peer in the same round, with quartiles. The same network against its own copy differs by
up to 2 % here.

Of ResNet-50, forward, channels_last, the cell that missed first, with other settings: 1.095 (1.08-1.10) with glibc's
own (`--malloc default`, working tree after c42c6f7), where the others were at most 1.016; 1.060 with two threads
(commit 7a15e73), where the others were at most 1.025.
"""

Times = dict[str, list[tuple[float, float]]]


def networks(name: str) -> dict[str, nn.Module]:
    """Returns the three networks with the same weights."""
    import timm
    import torchvision

    torch.manual_seed(0)
    nets = {
        "core": create_backbone(name, num_classes=CLASSES),
        "timm": timm.create_model(name, num_classes=CLASSES),
        "torchvision": torchvision.models.get_model(name, num_classes=CLASSES),
    }
    for net in nets.values():
        net.load_state_dict(nets["torchvision"].state_dict())
    return nets


def forward(net: nn.Module, x: torch.Tensor, _: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Returns a forward pass."""
    net.eval()

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return net(x)

    return run


def train_step(net: nn.Module, x: torch.Tensor, target: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Returns a training step; it gives the loss."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def run() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(net(x), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


KINDS = {"forward": forward, "train step": train_step}


def rotate(contestants: dict[str, Callable[[], object]], rounds: int, progress: Progress) -> Times:
    """Returns CPU and wall-clock seconds of every call; each round begins with another contestant."""
    times: Times = {name: [] for name in contestants}
    names = list(contestants)
    task = progress.add_task("measuring", total=rounds)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            cpu, wall = time.process_time(), time.perf_counter()
            contestants[name]()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
        progress.advance(task)
    progress.remove_task(task)
    return times


def paired(times: Times, name: str, peer: str, clock: int) -> tuple[float, float, float]:
    """Returns the lower quartile, median and upper quartile of the ratios ``name / peer`` in each round."""
    ratios = [a[clock] / b[clock] for a, b in zip(times[name], times[peer], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high


def row(times: Times, macs: int) -> list[str]:
    """Returns the cells of one measurement: wall ms, share of the matmul rate in CPU time, ratio on each clock."""
    medians = {
        name: [statistics.median(seen) for seen in zip(*pairs, strict=True)] for name, pairs in times.items()
    }
    peers = [name for name in medians if name not in ("core", "matmul")]
    share = macs / EDGE**3 * paired(times, "matmul", "core", 0)[1]
    cells = [f"{1e3 * medians[name][1]:.1f}" for name in ("core", *peers)] + [f"{share:.0%}"]
    for clock in (0, 1):
        peer = min(peers, key=lambda name: medians[name][clock])
        low, ratio, high = paired(times, "core", peer, clock)
        cells.append(f"{ratio:.3f} ({low:.2f}-{high:.2f}) {peer}")
    return cells


def check_alike(runs: dict[str, Callable[[], torch.Tensor]]) -> int:
    """Returns the multiply-accumulates of a call; the first call of each contestant is made here and warms up.

    Raises:
        AssertionError: The contestants do not compute the same, or not with as many multiplications.
    """
    macs, results = {}, {}
    for name, run in runs.items():
        with FlopCounterMode(display=False) as counter:
            results[name] = run()
        macs[name] = counter.get_total_flops() // 2
        torch.testing.assert_close(results[name], results["core"], rtol=1e-3, atol=1e-3)
        run()
    assert len(set(macs.values())) == 1, macs
    return macs["core"]


def compare(
    name: str, kinds: list[str], batch: int, size: int, rounds: int, progress: Progress
) -> list[list[str]]:
    """Returns a network's rows of the table.

    Raises:
        AssertionError: The networks do not compute the same.
    """
    a, b = torch.randn(2, EDGE, EDGE)
    rows = []
    for kind, (layout, memory_format) in product(kinds, FORMATS.items()):
        x = torch.randn(batch, 3, size, size).contiguous(memory_format=memory_format)
        target = torch.randint(CLASSES, (batch,))
        runs = {
            peer: KINDS[kind](net.to(memory_format=memory_format), x, target)
            for peer, net in networks(name).items()
        }
        macs = check_alike(runs)
        times = rotate({**runs, "matmul": partial(torch.mm, a, b)}, rounds, progress)
        rows.append([name, kind, layout, *row(times, macs)])
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=["resnet18", "resnet50"], help="names that all three know"
    )
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12, help="measurements of each contestant")
    parser.add_argument("--threads", type=int, help="threads of torch; its own choice by default")
    parser.add_argument("--malloc", choices=("kept", "default"), default="kept", help="large freed blocks")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    kept = options.malloc == "kept" and keep_large_allocations()
    print_heading("Backbones")
    blocks = "large freed blocks kept, as in trainings" if kept else "large freed blocks as glibc has them"
    setup = f"Batch {options.batch} at {options.size} px, {options.rounds} rounds, {blocks}"
    print_text(ABOUT.format(setup=setup))
    rows = []
    with Progress(transient=True, console=PROGRESS) as progress:
        for name in options.models:
            rows += compare(name, options.kinds, options.batch, options.size, options.rounds, progress)
    columns = [
        *("", "", "layout", "core ms", "timm ms", "torchvision ms"),
        *("share of the matmul rate", "CPU ratio to the faster peer", "wall ratio"),
    ]
    print_table("", columns, rows)
    for cells in rows:
        ratio = float(cells[-2].split()[0])
        what = f"{', '.join(cells[:3])}, CPU time over the faster peer's"
        why = WHY if cells[1] == "forward" else "Not looked into: no training step missed it so far."
        print_bar(what, f"at most {BAR:g}", cells[-2], ratio <= BAR, why)


if __name__ == "__main__":
    main()
