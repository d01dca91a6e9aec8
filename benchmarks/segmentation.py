"""``python -m benchmarks.segmentation``: planning, export, a training step and sliding windows on the CPU.

* ``planning``: all configurations of a data set from its fingerprint, from file to file, by our closed form and by
  nnU-Net's planner, which builds a network for each patch that it tries. The plans must be equal. Bar: 100 times less
  wall-clock time;
* ``export``: logits of 14 classes brought back to the size of the file: channel by channel with a running maximum
  (ours), all channels and then the largest, by the same interpolation (the plain way), and nnU-Net's own, on float16,
  which is what its networks leave. Each in a process of its own; memory is the largest in use, less what was in use
  before, logits included. Bar: a third of the plain way's;
* ``step``: forward, loss and backward of the residual encoder U-Net that is planned for the hippocampus, with deep
  supervision, against dynamic_network_architectures with equal settings and equal loss. Bar: not slower (1.03, since
  a network against its own copy differs by up to 2 % here);
* ``windows``: overlapping windows around a network that does next to nothing, against MONAI's inferer with as many
  windows.

Peers are installed with ``--nnunet FOLDER``. Contestants take turns; medians, and ratios to the first of a table.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import (
    install_peer,
    interleave,
    print_bar,
    print_comparison,
    print_heading,
    print_text,
)
from benchmarks.segmentation_export import Sizes, compare_export
from benchmarks.segmentation_peers import (
    NNUNET,
    PLANNING,
    nnunet_planner,
    residual_encoder_unet,
    write_dataset,
)
from core.train.hardware import keep_large_allocations
from tasks.segmentation.labels import Labels
from tasks.segmentation.planning.fingerprint import Fingerprint, read_fingerprint
from tasks.segmentation.planning.nnunet_json import write_plans
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.planning.planner import make_plans
from tasks.segmentation.windows import sliding_window, window_starts

PLANNING_BAR, STEP_BAR = 100.0, 1.03
SMALL = (
    "Of small volumes, for which nnU-Net tries few networks, the lead is 37 and 62 times (commit 589e77e)."
)
STATISTICS = {
    "max": 255.0,
    "mean": 100.0,
    "median": 98.0,
    "min": 1.0,
    "std": 30.0,
    "percentile_00_5": 20.0,
    "percentile_99_5": 210.0,
}


QUICK = Sizes((14, 16, 40, 40), (24, 50, 50), 1, 64, ("hippocampus",), 1)


def fingerprints() -> dict[str, Fingerprint]:
    """Returns made fingerprints: small volumes, slices far apart, and CT, which has a coarse one and a cascade."""
    return {
        "hippocampus": Fingerprint([(1.0, 1.0, 1.0)] * 260, [(36, 50, 35)] * 260, 1.0, [STATISTICS]),
        "prostate": Fingerprint([(3.6, 0.625, 0.625)] * 32, [(20, 320, 320)] * 32, 1.0, [STATISTICS]),
        "ct": Fingerprint([(1.0, 0.768, 0.768)] * 131, [(432, 512, 512)] * 131, 1.0, [STATISTICS]),
    }


def hippocampus_plan() -> Plan:
    """Returns nnU-Net's 3d_fullres of a residual encoder: patch 40 x 56 x 40, four stages."""
    plans = make_plans(fingerprints()["hippocampus"], 3, ["MRI"], "resenc_m")
    return plans.configurations["3d_fullres"]


def compare_planning(sizes: Sizes, rounds: int, nnunet: bool) -> bool:
    """Prints how long planning takes; returns whether plans are equal and the bar is met, over all data sets."""
    fine, walls = True, [0.0, 0.0]
    for name in sizes.sets:
        for preset in ("default", "resenc_l"):
            with tempfile.TemporaryDirectory() as folder:
                contestants = planners(Path(folder), fingerprints()[name], preset, nnunet)
                times = interleave(contestants, 1 if name == "ct" else min(rounds, sizes.rounds))
                print_comparison(f"Planning {name}, {preset}, from file to file", "data set", 1, times)
                if nnunet:
                    fine = _same_plans(*(run() for run in contestants.values())) and fine
                    walls = [total + wall for total, (_, wall) in zip(walls, times.values(), strict=True)]
    if not nnunet:
        return True
    ratio = walls[1] / walls[0]
    return print_bar(
        "planning of all configurations over all data sets, wall time, equal plans, against nnU-Net",
        f"{PLANNING_BAR:g} times less",
        f"{ratio:.0f}",
        ratio >= PLANNING_BAR and fine,
        SMALL,
    )


def planners(folder: Path, stored: Fingerprint, preset: str, nnunet: bool) -> dict[str, Callable[[], Any]]:
    """Returns what plans a data set from file to file and returns the plans file, ours first.

    Args:
        folder: Empty folder for the files.
        stored: Fingerprint of the data set.
        preset: Planner.
        nnunet: Whether there is the peer.
    """
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "first": 1, "second": 2},
        "numTraining": len(stored.shapes),
        "file_ending": ".nii.gz",
    }
    written = write_dataset(folder, stored.to_json(), description)

    def ours() -> Path:
        plans = make_plans(read_fingerprint(written), 3, ["MRI"], preset)
        write_plans(plans, folder / "ours.json")
        return folder / "ours.json"

    contestants: dict[str, Callable[[], Any]] = {"skipway": ours}
    if nnunet:
        contestants["nnU-Net 2.8.1"] = nnunet_planner(preset)
    return contestants


def _same_plans(ours: Path, theirs: Path) -> bool:
    """Says whether two plans files have the same configurations."""
    own, other = (json.loads(path.read_text())["configurations"] for path in (ours, theirs))
    different = [
        f"{name}.{key} {own.get(name, {}).get(key)} is not {value}"
        for name, configuration in other.items()
        for key, value in configuration.items()
        if own.get(name, {}).get(key) != value
    ]
    print_text(f"The plans are {'NOT EQUAL: ' + '; '.join(different) if different else 'equal'}.")
    return not different


def compare_steps(sizes: Sizes, rounds: int) -> bool:
    """Prints how long a training step takes; returns whether the networks are of one size and the bar is met."""
    from tasks.segmentation.losses import DeepSupervisionLoss, DiceCE
    from tasks.segmentation.models.planned import PlannedUNet

    plan = hippocampus_plan()
    labels = Labels(("background", "anterior", "posterior"), (0, 1, 2))
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {
        "skipway": PlannedUNet(plan, 1, 3, deep_supervision=True),
        "dynamic_network_architectures 0.4.4": residual_encoder_unet(plan, 1, 3),
    }
    x = torch.randn(sizes.batch, 1, *plan.patch_size)
    target = torch.randint(0, 3, (sizes.batch, *plan.patch_size))
    loss = DeepSupervisionLoss(DiceCE(labels, plan.batch_dice))

    def step(network: nn.Module) -> None:
        network.zero_grad(set_to_none=True)
        loss(network(x), target).backward()

    counts = {
        name: sum(p.numel() for p in network.train().parameters()) for name, network in networks.items()
    }
    times = interleave(
        {name: partial(step, network) for name, network in networks.items()}, min(rounds, sizes.rounds)
    )
    patch = " x ".join(map(str, plan.patch_size))
    print_comparison(
        f"Training step of the ResEnc U-Net, {sizes.batch} x 1 x {patch}", "patch", sizes.batch, times
    )
    ours, theirs = times.values()
    ratio = ours[0] / theirs[0]
    print_text(f"Parameters: {', '.join(f'{count:,}' for count in counts.values())}.")
    met = ratio <= STEP_BAR and len(set(counts.values())) == 1
    what = "training step of the ResEnc U-Net, CPU time over that of dynamic-network-architectures"
    return print_bar(what, f"at most {STEP_BAR:g}", f"{ratio:.2f}", met)


class Trivial(nn.Module):
    """Repeats the input as logits, and counts the windows.

    Args:
        outputs: Channels of the result.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs, self.windows = outputs, 0

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, 1, *patch)`` to ``(B, outputs, *patch)``."""
        self.windows += len(x)
        return x.repeat(1, self.outputs, *(1 for _ in x.shape[2:]))


def compare_windows(sizes: Sizes, rounds: int) -> bool:
    """Prints how long the windows of a volume take around a trivial network; returns whether they are as many."""
    from monai.inferers import sliding_window_inference

    patch, side = (40, 56, 40), sizes.volume
    image = torch.randn(1, side, side, side)
    expected = math.prod(len(window_starts(side, size, 0.5)) for size in patch)
    same = True
    for outputs in (3, 25):
        ours, theirs = Trivial(outputs), Trivial(outputs)

        def skipway(network: nn.Module = ours, outputs: int = outputs) -> Tensor:
            return sliding_window(
                network,
                image,
                patch,
                step=0.5,
                mirror_axes=(),
                batch=2,
                outputs=outputs,
                device=torch.device("cpu"),
            )

        @torch.inference_mode()
        def monai(network: nn.Module = theirs) -> Any:
            return sliding_window_inference(image[None], patch, 2, network, overlap=0.5, mode="gaussian")

        skipway(), monai()
        same = same and ours.windows == theirs.windows == expected
        counted = ours.windows, theirs.windows
        times = interleave({"skipway": skipway, "MONAI's sliding_window_inference": monai}, rounds)
        title = f"Sliding window over {side}^3, {outputs} classes, windows: {counted[0]} and {counted[1]}"
        print_comparison(title, "window", expected, times)
    return same


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("planning", "export", "step", "windows")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each contestant")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, no figures")
    parser.add_argument("--nnunet", type=Path, help="folder with nnU-Net; pip installs it there if it is not")
    options = parser.parse_args()
    nnunet, wrong = False, "no --nnunet FOLDER is given"
    if options.nnunet:
        wrong = install_peer(options.nnunet, NNUNET, f"{PLANNING}.default_experiment_planner")
        nnunet = not wrong
        sys.path.append(str(options.nnunet))  # after the environment, whose torch counts
    # As in trainings and in predict; both of a pair have it.
    keep_large_allocations()
    torch.set_num_threads(options.threads)
    print_heading("Segmentation")
    if wrong:
        print_text(f"nnU-Net is left out, and so is the step: {wrong}")
    sizes, rounds = (QUICK, 1) if options.quick else (Sizes(), options.rounds)
    if "planning" in options.parts:
        compare_planning(sizes, rounds, nnunet)
    if "export" in options.parts:
        compare_export(sizes, rounds, options.threads, nnunet)
    if "windows" in options.parts and not compare_windows(sizes, rounds):
        print_text("The windows are NOT as many as they should be.")
    # Last, since the memory that it leaves behind decides about windows more than the windows do.
    if "step" in options.parts and nnunet:
        compare_steps(sizes, rounds)


if __name__ == "__main__":
    main()
