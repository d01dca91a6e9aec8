"""A trained segmenter as a program for other runtimes: a patch in, probabilities out."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from core.export import check_outputs, check_packages, write_program
from tasks.segmentation.segmenter import Segmenter

WINDOWS = (
    "Normalise and resample the case as the plan says and pad it by zeros to the size of a patch. Move the patch over "
    "it in steps of at most half of its size, evenly spread. Average the probabilities of overlapping patches, weighted"
    " by a Gaussian around the middle of the patch with a deviation of an eighth of its size. Resample the result "
    "linearly to the case."
)
SOFTMAX = "The class of a voxel is the one with the highest probability."
SIGMOID = "Each region is where its probability is above 0.5; later regions take voxels from earlier ones."


class Probabilities(nn.Module):
    """Networks and softmax or sigmoid as one module.

    Args:
        networks: Networks whose logits are averaged.
        regions: Whether outputs are regions that may overlap, and not classes.
    """

    def __init__(self, networks: Iterable[nn.Module], regions: bool) -> None:
        super().__init__()
        self.networks, self.regions = nn.ModuleList(networks), regions

    def forward(self, x: Tensor) -> Tensor:
        """Maps patches ``(B, C, *patch)`` to probabilities ``(B, outputs, *patch)``."""
        logits = torch.stack([network(x) for network in self.networks]).mean(0)
        return logits.sigmoid() if self.regions else logits.softmax(1)


def export_segmenter(segmenter: Segmenter, folder: Path, format: str, task: str) -> list[Path]:
    """Writes ``<task>.onnx`` or ``.pt2`` and checks its output; the number of patches is dynamic, their size is not.

    The networks of all folds are averaged inside. What a cascade reads first, and the members of an ensemble, are
    programs of their own: ``<task>_previous``, ``<task>_<configuration>``.

    Raises:
        ConfigError: The packages that ONNX needs are not installed.
        PackageError: A program does not reproduce the model.
    """
    check_packages(format)
    if segmenter.members:
        names = [member.plan.configuration for member in segmenter.members]
        # Two members may be of the same configuration.
        names = [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
        parts = zip(segmenter.members, names, strict=True)
        return [
            path
            for member, name in parts
            for path in export_segmenter(member, folder, format, f"{task}_{name}")
        ]
    paths = []
    if segmenter.previous is not None:
        paths = export_segmenter(segmenter.previous, folder, format, f"{task}_previous")
    return [*paths, _export(segmenter, folder / f"{task}.{format}", task)]


def _export(segmenter: Segmenter, path: Path, task: str) -> Path:
    plan, labels = segmenter.plan, segmenter.labels
    networks = [copy.deepcopy(network).cpu() for network in segmenter.networks.values()]
    program = Probabilities(networks, bool(labels.regions)).eval()
    channels = len(segmenter.channels) + plan.previous_classes
    # torch takes a size of 1 for a constant.
    patches = torch.randn(2, channels, *plan.patch_size, generator=torch.Generator().manual_seed(0))
    size = " x ".join(map(str, plan.patch_size))
    coarse = ", then one for each class of the coarser model, 1 where it is" if plan.previous_classes else ""
    outputs = [name for name, _ in labels.regions] or list(labels.names)
    metadata = {
        "task": task,
        "input": f"image (batch, {channels}, {size}), patches of {', '.join(segmenter.channels)}{coarse}",
        "output": f"probabilities (batch, {len(outputs)}, {size}) of {', '.join(outputs)}",
        "plan": json.dumps(plan.to_dict()),
        "labels": json.dumps(labels.to_dict()),
        "channels": json.dumps(segmenter.channels),
        "normalisation": json.dumps(dict(zip(segmenter.channels, plan.normalisation, strict=True))),
        "how_to_apply": f"{WINDOWS} {SIGMOID if labels.regions else SOFTMAX}",
        "trained_on": json.dumps(segmenter.metadata.get("data", {}).get("name", "")),
    }
    (output,) = write_program(
        program,
        (patches,),
        path,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        metadata=metadata,
    )
    with torch.inference_mode():
        check_outputs(path, output, program(patches).numpy())
    return path
