"""``python -m docs.backbones_table > docs/backbones_table.md``: what every backbone costs, as Markdown.

The counts take about a minute, the times several.
"""

from __future__ import annotations

import subprocess
import sys


def section(title: str, text: str, *options: str) -> str:
    """Returns a heading, a sentence, the command and its table."""
    words = ["core.backbones", *options, "--markdown"]
    done = subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.PIPE, text=True)
    return f"## {title}\n{text}\n\n`python -m {' '.join(words)}`\n\n{done.stdout.strip()}\n"


def main() -> None:
    """Prints the page."""
    print(
        "# What the backbones cost\n"
        "Made by `python -m docs.backbones_table > docs/backbones_table.md`.\n\n"
        "Parameters and multiply-accumulates (MACs) of one sample with 3 channels, without a classifier. `input` is "
        "the edge in 1-D, 2-D and 3-D: 224 x 224 pixels, 64 x 64 x 64 voxels, 1024 samples of a signal; 32 x 32 and "
        "32 x 32 x 32 for backbones that are made for CIFAR. MACs are those of convolutions and matrix products. "
        "A dash: the backbone does not exist for this number of axes.\n"
    )
    text = (
        "CPU is the processor time of a forward pass for each sample, in seconds: one thread, float32, evaluation "
        "mode, contiguous layout, random weights, median of up to 5 passes after one that warms up."
    )
    print(section("Time, a selection", text, "--time"))
    print(section("All", "Counts and geometry of every name.", "--all", "--features"))


if __name__ == "__main__":
    main()
