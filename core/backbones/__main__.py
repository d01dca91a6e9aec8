"""``python -m core.backbones``: parameters, multiply-accumulates and processor time of the backbones."""

from __future__ import annotations

import argparse
import platform
import sys
from datetime import UTC, datetime

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from core.backbones.cost import BATCH, Cost, count_cost, default_size, forward_seconds
from core.backbones.registry import BACKBONES, list_backbones
from core.cli import argument_parser, with_one_line_errors
from core.errors import ConfigError
from core.registry import nearest
from core.track.environment import git_tags

# One or two of a family, small enough to be timed in three dimensions within minutes.
SELECTION = (
    "resnet20_cifar",
    "fixup_resnet20_cifar",
    "preact_resnet164",
    "wrn40_2",
    "pyramidnet110_a48",
    "resnet18",
    "resnet50",
    "resnet50d",
    "seresnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "resnetrs50",
    "res2net50_26w_4s",
    "resnest50d",
    "dpn68",
    "mobilenetv2_100",
    "cspnext_s",
    "rdnet_tiny",
    "replknet_31b",
    "unireplknet_n",
    "p3d63",
    "resenc6",
    "plainconv6",
    "tcn",
)

SEED = 0

_EXAMPLES = """\
  python -m core.backbones                             a selection, one or two of a family
  python -m core.backbones --pattern 'resnet*' --dims 2 --features
  python -m core.backbones --dims 3 --size 96 --time   measures as well
  python -m core.backbones --all --markdown > table.md
"""


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(
        "core.backbones",
        "Prints what the backbones cost: learned parameters (M = millions), and multiply-accumulates "
        "(G = 10^9) of one sample with 3 channels, without a classifier. The edge of the input is 1024 in 1-D, 224 in "
        "2-D and 64 in 3-D; 32 in 2-D and 3-D for backbones that are made for CIFAR.",
        _EXAMPLES,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pattern", metavar="GLOB", help="backbones whose names match, such as 'resnet*'")
    which.add_argument("--all", action="store_true", help="every backbone")
    parser.add_argument(
        "--dims", type=int, nargs="+", choices=(1, 2, 3), default=[1, 2, 3], help="spatial axes"
    )
    parser.add_argument("--size", type=_edge, metavar="N", help="edge of the input for every backbone")
    parser.add_argument(
        "--time",
        action="store_true",
        help="measure CPU-seconds of a forward pass for each sample: one thread, float32, evaluation mode, median "
        "of up to 5 passes; batches of one sample, in 3-D of two",
    )
    parser.add_argument("--features", action="store_true", help="show channels and reduction of every stage")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    return parser


def _edge(text: str) -> int:
    if not text.isdecimal() or int(text) < 32:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number of 32 or more, by which backbones reduce"
        )
    return int(text)


def choose(pattern: str | None, everything: bool) -> list[str]:
    """Returns the names to show.

    Raises:
        ConfigError: No name matches the pattern.
    """
    names = list_backbones(pattern or "*")
    if pattern is None:
        return names if everything else list(SELECTION)
    if not names:
        raise ConfigError(f"--pattern {pattern!r} matches no backbone.{nearest(pattern, list_backbones())}")
    return names


def table(
    names: list[str], dims: list[int], *, size: int | None = None, timed: bool = False, features: bool = False
) -> list[list[str]]:
    """Returns the heading and a row a backbone, as text; ``-`` where it does not exist in a dimension.

    Args:
        names: Backbones.
        dims: Numbers of axes, in the order of the columns.
        size: Edge of the input; ``None`` is each backbone's default.
        timed: Measure the forward pass.
        features: Show channels and reductions.
    """
    dims = list(dict.fromkeys(dims))
    if not any(set(dims) & set(BACKBONES[name].spec.allowed_dims) for name in names):
        raise ConfigError(f"none of {', '.join(names)} exists for --dims {' '.join(map(str, dims))}")
    columns = [f"params {d}-D, M" for d in dims] + [f"MACs {d}-D, G" for d in dims]
    columns += [f"CPU {d}-D, s" for d in dims] if timed else []
    rows = [["backbone", "input", *columns, *(["channels / reduction"] if features else [])]]
    for name in track(names, description="measuring", console=Console(stderr=True), transient=True):
        costs: list[Cost | None] = []
        edges = [size or default_size(name, d) for d in dims]
        times = []
        for d, edge in zip(dims, edges, strict=True):
            if d not in BACKBONES[name].spec.allowed_dims:
                costs.append(None)
                times.append("-")
                continue
            costs.append(count_cost(name, d, edge))
            times += [f"{forward_seconds(name, d, edge, seed=SEED):.3g}"] if timed else []
        shown = [str(edge) for edge, cost in zip(edges, costs, strict=True) if cost]
        row = [name, ", ".join(dict.fromkeys(shown) if size else shown)]
        row += [_scaled(cost.parameters if cost else None, 1e6) for cost in costs]
        row += [_scaled(cost.macs if cost else None, 1e9) for cost in costs]
        row += times if timed else []
        if features:
            found = next((cost.features for cost in costs if cost), ())
            row.append(" ".join(f"{channels}/{reduction}" for channels, reduction in found))
        if any(costs):
            rows.append(row)
    return rows


def _scaled(value: int | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.3f}" if value < 100 * unit else f"{value / unit:.1f}"


def machine() -> str:
    """Returns commit, date, seed, processor and release of torch: what a time must be quoted with."""
    tags = git_tags()
    commit = tags.get("git.commit", "unknown")[:7] + ("-dirty" if tags.get("git.dirty") == "true" else "")
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            processor = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"commit {commit}, {datetime.now(UTC):%Y-%m-%d}, {processor}, torch {torch.__version__}, seed {SEED}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Prints the table and returns the exit code."""
    return with_one_line_errors(_work, arguments)


def _work(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    names = choose(options.pattern, options.all)
    rows = table(names, options.dims, size=options.size, timed=options.time, features=options.features)
    if options.markdown:
        print(markdown(rows))
    else:
        view = Table()
        for i, column in enumerate(rows[0]):
            view.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
        for row in rows[1:]:
            view.add_row(*row)
        console = Console()
        Console(width=max(console.width, 120)).print(view)
    if options.time:
        batches = ", ".join(f"{BATCH[d]} in {d}-D" for d in options.dims)
        print(f"\n{machine()}; samples in a pass: {batches}")
    return 0


def markdown(rows: list[list[str]]) -> str:
    """Returns a table as Markdown; the numbers stand at the right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]])


if __name__ == "__main__":
    sys.exit(main())
