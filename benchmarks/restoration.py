"""``python -m benchmarks.restoration``: DnCNN and CARN on the CPU against the plain form that other programs have.

* a forward pass of DnCNN-17 (gray) on 512 x 512, of DnCNN-20 without norms (deepinv's) on the same, and of CARN x4
  on 180 x 320. Ours is what ``predict`` runs: folded, in the fastest form of this machine, large freed blocks kept;
* a training step (forward, mean square, backward, Adam) of DnCNN-17 on 32 patches of 40 x 40.

The peer is eager PyTorch with glibc's own allocator (``benchmarks/restoration_peers.py``). The allocator's settings
hold for a whole process, so every contestant is a process of its own. They take turns, in an order that rotates,
together with a product of two square matrices by whose rate the share of the machine is reckoned. Weights and input
are the same, and outputs are compared before anything is timed. A speed-up is the median over the rounds of the
peer's time over ours in the same round, with its quartiles; bars are for wall-clock time. Multiplications are counted
as in the plain convolution: Winograd's method makes do with fewer, so that its share may be above 100 %.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import (
    PROGRESS,
    install_peer,
    print_bar,
    print_heading,
    print_table,
    print_text,
)
from benchmarks.restoration_peers import (
    DEEPINV,
    PlainCARN,
    PlainDnCNN,
    deepinv_dncnn,
    take_weights,
)
from core.config import TrainConfig
from core.infer.restorer import Restorer
from core.train.hardware import cpu_has_bf16, keep_large_allocations
from core.train.optim import build_optimizer
from tasks.denoising.models.dncnn import DnCNN
from tasks.super_resolution.models.carn import CARN

TOLERANCES = {"output": 1e-4, "gradient in float64": 1e-6}
"""Largest absolute differences; of the gradient as a part of its largest value. In float32 rounding moves ReLUs across
zero, so that gradients of the same network differ by some 1e-3."""

BARS = {"inference": 1.5, "training": 1.0}
ABOUT = """\
The plain form is what peers ship: eager, contiguous, norms not folded, glibc's own allocator. Ours is what `predict`
runs: `deploy`, then the fastest equal form, large freed blocks kept. Contestants are processes that take turns;
medians, wall time, float32. Multiplications are counted as in the plain convolution.
"""
WINOGRAD = """\
PyTorch's own Winograd convolution (NNPACK, one thread) is one of the forms that are tried; on the processor of commit
7ba1e35 (Intel Xeon with AVX-512) it was not faster than channels_last, which is at the matmul rate, and never chosen.

**Large images**: `python -m tasks.denoising.predict --input big.png --model dncnn_gray_25` on 7300 x 5500 gray pixels
(40 megapixels), one thread beside a test run, commit 7ba1e35: 359 s, 1.44 GB at the peak.
"""
PAUSE_S = 0.05
"""Before each turn, so that the waiting threads of the turn before have gone to sleep."""


@dataclass(frozen=True)
class Sizes:
    """What is measured, pixels."""

    denoised: int = 512
    enlarged: tuple[int, int] = (180, 320)
    batch: int = 32
    patch: int = 40
    matrix: int = 2048


QUICK = Sizes(denoised=64, enlarged=(24, 32), batch=2, patch=16, matrix=256)


@dataclass(frozen=True)
class Contestant:
    """What a process measures.

    Attributes:
        run: A call that is timed.
        check: Values that must equal the peer's.
        form: How ours runs.
    """

    run: Callable[[], object]
    check: Callable[[], dict[str, Tensor]]
    form: str = ""


@dataclass(frozen=True)
class Ready:
    """What a process says before the first round; ``macs`` are the multiplications of a call."""

    values: dict[str, np.ndarray]
    macs: int
    form: str
    kept: bool


Build = Callable[[], Contestant]


def _dncnn(variant: str, layers: int) -> DnCNN:
    torch.manual_seed(0)
    net = DnCNN(layers=layers, variant=variant)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after a training, so that folding has something to do
            state = module.state_dict()
            for name in ("weight", "running_var"):
                nn.init.uniform_(state[name], 0.5, 1.5)
            for name in ("bias", "running_mean"):
                nn.init.normal_(state[name], 0.0, 0.1)
    return net


def _carn() -> CARN:
    torch.manual_seed(0)
    net = CARN()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):  # torch's own weights let the features fade
            nn.init.kaiming_normal_(module.weight)
    return net


def _image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def _inference(net: nn.Module, x: Tensor, scale: int | None, form: str = "") -> Contestant:
    net.eval()

    def run() -> Tensor:
        with torch.inference_mode():
            return net(x) if scale is None else net(x, scale)

    return Contestant(run, lambda: {"output": run()}, form)


def _tuned(net: nn.Module, x: Tensor, scale: int | None) -> Contestant:
    restorer = Restorer(net)
    name = restorer.tune()
    return _inference(restorer.form, x, scale, name)


def plain_dncnn(sizes: Sizes) -> Contestant:
    """KAIR's form, 17 layers with norms."""
    x = _image(1, 1, sizes.denoised, sizes.denoised)
    return _inference(take_weights(PlainDnCNN(), _dncnn("kair", 17)), x, None)


def deepinv_20(sizes: Sizes, folder: str) -> Contestant:
    """The class of deepinv; it adds what ours subtracts, so the last layer changes its sign."""
    net = take_weights(deepinv_dncnn(folder), _dncnn("folded", 20))
    with torch.no_grad():
        for values in net.get_submodule("out_conv").parameters():
            values.neg_()
    return _inference(net, _image(1, 1, sizes.denoised, sizes.denoised), None)


def tuned_dncnn(sizes: Sizes, variant: str, layers: int) -> Contestant:
    """Ours."""
    return _tuned(_dncnn(variant, layers), _image(1, 1, sizes.denoised, sizes.denoised), None)


def plain_carn(sizes: Sizes) -> Contestant:
    """The authors' form."""
    return _inference(take_weights(PlainCARN(), _carn()), _image(1, 3, *sizes.enlarged), 4)


def tuned_carn(sizes: Sizes) -> Contestant:
    """Ours."""
    return _tuned(_carn(), _image(1, 3, *sizes.enlarged), 4)


def training(sizes: Sizes, kind: str) -> Contestant:
    """A training step of the ``plain`` form, or of ours in ``float32`` or under ``bfloat16`` autocast."""
    torch.manual_seed(0)
    ours = DnCNN(layers=17, variant="kair")  # as a training starts
    if kind == "plain":
        net = take_weights(PlainDnCNN(), ours).train()
        optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    else:
        net = ours.train().to(memory_format=torch.channels_last)
        optimizer = build_optimizer(net, TrainConfig(lr=1e-4))
    clean = _image(sizes.batch, 1, sizes.patch, sizes.patch)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))

    def backward(net: nn.Module, noisy: Tensor, clean: Tensor) -> Tensor:
        net.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            output = net(noisy)
        nn.functional.mse_loss(output.to(clean.dtype), clean).backward()
        return output.detach().to(clean.dtype)

    def run() -> None:
        backward(net, noisy, clean)
        optimizer.step()

    def check() -> dict[str, Tensor]:
        values = {"output": backward(net, noisy, clean)}
        if kind != "bfloat16":
            exact = copy.deepcopy(net).double()
            backward(exact, noisy[:2].double(), clean[:2].double())
            gradient = torch.cat([p.grad.reshape(-1) for p in exact.parameters()])  # type: ignore[union-attr]
            values["gradient in float64"] = gradient / gradient.abs().max()
        return values

    return Contestant(run, check)


def matmul(sizes: Sizes) -> Contestant:
    """The product by which the share of the machine is reckoned."""
    a, b = _image(2, sizes.matrix, sizes.matrix)
    return Contestant(partial(torch.mm, a, b), dict)


def serve(pipe: Connection, build: Build, threads: int, kept: bool) -> None:
    """The life of a contestant's process: says ``Ready``, then CPU and wall-clock seconds at each request."""
    torch.set_num_threads(threads)
    kept = kept and keep_large_allocations()
    contestant = build()
    values = {name: value.numpy() for name, value in contestant.check().items()}
    with FlopCounterMode(display=False) as counter:
        contestant.run()
    contestant.run()
    pipe.send(Ready(values, counter.get_total_flops() // 2, contestant.form, kept))
    while pipe.recv() == "run":
        cpu, wall = time.process_time(), time.perf_counter()
        contestant.run()
        pipe.send((time.process_time() - cpu, time.perf_counter() - wall))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class Worker:
    """A contestant in a process of its own.

    Attributes:
        ready: What it said before the first round.
        times: CPU and wall-clock seconds of each turn.
        memory: Its largest, MB; known at the end.
    """

    def __init__(self, build: Build, threads: int, kept: bool) -> None:
        context = multiprocessing.get_context(
            "spawn"
        )  # a fork would inherit this process' memory and threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, build, threads, kept), daemon=True)
        self.process.start()
        theirs.close()  # so that a process that dies ends the waiting here
        self.ready: Ready = self.pipe.recv()
        self.times: list[tuple[float, float]] = []
        self.memory = 0.0

    def turn(self) -> None:
        """Makes one call there."""
        time.sleep(PAUSE_S)
        self.pipe.send("run")
        self.times.append(self.pipe.recv())

    def finish(self) -> None:
        """Ends the process."""
        self.pipe.send("end")
        self.memory = self.pipe.recv()
        self.process.join()


@dataclass(frozen=True)
class Case:
    """One table.

    Attributes:
        title: What is measured.
        bar: Which of ``BARS`` holds.
        peer: Its name and how it is built.
        ours: The rows of ours. Only the first must equal the peer.
    """

    title: str
    bar: str
    peer: tuple[str, Build]
    ours: dict[str, Build] = field(default_factory=dict)


def measure(case: Case, sizes: Sizes, threads: int, rounds: int, progress: Progress) -> dict[str, Worker]:
    """Runs all contestants in turn; the peer comes first, then ours, then the matrices."""
    plan: dict[str, Build] = {case.peer[0]: case.peer[1], **case.ours, "matmul": partial(matmul, sizes)}
    with ExitStack() as stack:
        workers = {}
        bar = progress.add_task(f"{case.title}, threads: {threads}", total=len(plan) * (rounds + 1))
        for name, build in plan.items():
            workers[name] = Worker(build, threads, kept=name != case.peer[0])
            stack.callback(workers[name].process.kill)  # does nothing to one that has ended
            progress.advance(bar)
        names = list(workers)
        for i in range(rounds):
            for name in names[i % len(names) :] + names[: i % len(names)]:
                workers[name].turn()
                progress.advance(bar)
        for worker in workers.values():
            worker.finish()
        progress.remove_task(bar)
    return workers


def quartiles(above: Worker, below: Worker, clock: int) -> tuple[float, float, float]:
    """Returns the lower quartile, median and upper quartile of the ratios of times in each round."""
    ratios = [a[clock] / b[clock] for a, b in zip(above.times, below.times, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high


def largest_differences(ours: Ready, peer: Ready) -> dict[str, float]:
    """Returns the largest absolute difference of each value."""
    return {name: float(np.abs(value - peer.values[name]).max()) for name, value in ours.values.items()}


def show(case: Case, sizes: Sizes, threads: int, workers: dict[str, Worker]) -> bool:
    """Prints the table and its lines; returns whether the bar is met and the outputs are equal."""
    title = f"{case.title}, {threads} thread{'s' if threads > 1 else ''}"
    columns = ("", "wall ms", "CPU ms", "wall speed-up", "CPU speed-up", "of matmul: wall, CPU", "MB")
    rows = []
    peer, yardstick = workers[case.peer[0]], workers["matmul"]
    work = peer.ready.macs / sizes.matrix**3
    for name, worker in workers.items():
        cpu, wall = (1e3 * statistics.median(seen) for seen in zip(*worker.times, strict=True))
        cells = [name, f"{wall:.1f}", f"{cpu:.1f}"]
        if worker is not yardstick:
            for clock in (1, 0):
                low, middle, high = quartiles(peer, worker, clock)
                cells.append(f"{middle:.2f} ({low:.2f}-{high:.2f})" if worker is not peer else "1")
            wall_share, cpu_share = (work * quartiles(yardstick, worker, clock)[1] for clock in (1, 0))
            cells += [f"{wall_share:.0%}, {cpu_share:.0%}", f"{worker.memory:.0f}"]
        rows.append(cells + [""] * (len(columns) - len(cells)))
    print_table(title, columns, rows)
    spread = np.std(peer.ready.values["output"])
    lines = [f"standard deviation of the output {spread:.2g}"]
    fine = True
    for i, name in enumerate(case.ours):
        ready = workers[name].ready
        differences = largest_differences(ready, peer.ready)
        words = ", ".join(f"{what} {value:.1e}" for what, value in differences.items())
        verdict = "not equal arithmetic"
        if i == 0:
            equal = all(value <= TOLERANCES[what] for what, value in differences.items())
            verdict = "equal to rounding" if equal else "NOT EQUAL"
            fine = fine and equal
        form = f"form {ready.form}; " if ready.form else ""
        blocks = "kept" if ready.kept else "as glibc has them"
        lines.append(f"{name}: {form}large freed blocks {blocks}; largest difference: {words} ({verdict})")
    print_text("\n".join(f"- {line}" for line in lines))
    ratio, bar = quartiles(peer, workers[next(iter(case.ours))], 1)[1], BARS[case.bar]
    what = f"{title}, wall time, equal outputs, against {case.peer[0]}"
    return print_bar(what, f"{bar:g} times faster", f"{ratio:.2f}", fine and ratio >= bar)


def cases(sizes: Sizes, deepinv: Path | None) -> dict[str, Case]:
    """Returns what is measured."""
    side, (height, width) = sizes.denoised, sizes.enlarged
    found = {
        "dncnn": Case(
            f"DnCNN-17 forward, 1 x 1 x {side} x {side}",
            "inference",
            ("plain, norms not folded", partial(plain_dncnn, sizes)),
            {"skipway": partial(tuned_dncnn, sizes, "kair", 17)},
        ),
        "deepinv": Case(
            f"DnCNN-20 without norms forward, 1 x 1 x {side} x {side}",
            "inference",
            ("deepinv 0.5.0", partial(deepinv_20, sizes, str(deepinv))),
            {"skipway": partial(tuned_dncnn, sizes, "folded", 20)},
        ),
        "carn": Case(
            f"CARN x4 forward, 1 x 3 x {height} x {width}",
            "inference",
            ("plain", partial(plain_carn, sizes)),
            {"skipway": partial(tuned_carn, sizes)},
        ),
        "training": Case(
            f"DnCNN-17 training step, {sizes.batch} x 1 x {sizes.patch} x {sizes.patch}",
            "training",
            ("plain", partial(training, sizes, "plain")),
            {"skipway": partial(training, sizes, "float32")},
        ),
    }
    if cpu_has_bf16():
        found["training"].ours["skipway, bfloat16"] = partial(training, sizes, "bfloat16")
    return found


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=list(cases(QUICK, None)), help="all by default")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="one number after the other")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each contestant, 2 or more")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, no figures")
    parser.add_argument(
        "--deepinv", type=Path, help="folder with deepinv; pip installs it there if it is not"
    )
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    print_heading("Image restoration")
    print_text(f"{ABOUT}Threads of the contestants are as their tables say.")
    chosen = cases(sizes, options.deepinv)
    if options.cases:
        chosen = {name: chosen[name] for name in options.cases}
    if "deepinv" in chosen:
        wrong = (
            install_peer(options.deepinv, DEEPINV, "deepinv.models")
            if options.deepinv
            else "no --deepinv FOLDER is given"
        )
        if wrong:
            del chosen["deepinv"]
            print_text(f"deepinv is left out: {wrong}")
    if not cpu_has_bf16():
        print_text("bfloat16 is left out: this CPU has no instructions for it.")
    with Progress(console=PROGRESS, transient=True) as progress:
        for case in chosen.values():
            for threads in options.threads:
                workers = measure(case, sizes, threads, options.rounds, progress)
                show(case, sizes, threads, workers)
    print_text(WINOGRAD)


if __name__ == "__main__":
    main()
