"""What is filled in by a masked autoencoder: parts, predictor, scores beside simple fillings, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.progress import track
from scipy import ndimage
from torch import Tensor, nn

from core.errors import ConfigError
from core.task import Evaluation, Part
from core.track.package import Package
from core.train.hardware import choose_device
from core.train.seeds import derive_seed, seed_everything
from tasks.segmentation.build import (
    check_options,
    load_networks,
    make_part,
    parameters,
    patch_samples,
    prepare_for,
    resolve_plan,
)
from tasks.segmentation.config import AugmentConfig, MaskedConfig, SegmentationConfig, SegTrainConfig
from tasks.segmentation.data.cases import Fold, SegmentationData
from tasks.segmentation.inputs import read_rows
from tasks.segmentation.labels import Labels
from tasks.segmentation.masked import (
    MaskedLearner,
    MaskedSamples,
    block_mask,
    explained_variance,
    masked_batch,
)
from tasks.segmentation.models.build import build_network
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.preprocess import Prepared, preprocess
from tasks.segmentation.samples import PatchSamples

PATCHES = 4
"""Patches of a case that are scored."""
SHOWN = 3
"""Cases in the picture."""

Fill = Callable[[Tensor, Tensor], Tensor]
"""Maps masked patches ``(B, C, *patch)`` and masks ``(B, *patch)`` to filled patches."""


def build_parts(config: SegmentationConfig, data: SegmentationData) -> list[Part]:
    """Returns a part for each fold.

    Raises:
        ConfigError: Options are wrong or contradict each other.
    """
    check_options(config)
    if config.plan.previous:
        raise ConfigError("--plan.previous is for segmentation; leave it off in pre-training")
    if getattr(config.model, "deep_supervision", False):
        config = replace(config, model=replace(config.model, deep_supervision=False))
    plan = resolve_plan(config, data, None)
    prepared = prepare_for(config, data, plan)
    return [_build_part(config, data, fold, plan, prepared) for fold in data.folds]


def _build_part(
    config: SegmentationConfig, data: SegmentationData, fold: Fold, plan: Plan, prepared: dict[int, Prepared]
) -> Part:
    seed_everything(config.seed, "weights")
    channels = len(data.channels)
    network = build_network(config.model, plan, channels, channels)
    patches = patch_samples(config, data, plan, prepared, fold.train)
    held_out = None
    if fold.validation:
        unchanged = patch_samples(config, data, plan, prepared, fold.validation).unchanged()
        held_out = MaskedSamples(unchanged, plan.patch_size, config.masked)
    learner = MaskedLearner(
        network,
        validation=held_out,
        batches=config.train.validation_batches,
        batch_size=plan.batch_size,
        seed=config.seed,
    )
    samples = MaskedSamples(patches, plan.patch_size, config.masked)
    note = (
        f"{config.model.name} as a masked autoencoder: {parameters(network):,} parameters, blocks of "
        f"{config.masked.block} voxels, {config.masked.ratio:.0%} masked, {len(fold.train)} cases to learn from"
    )
    return make_part(config, fold, plan, samples, learner, note)


class Filler:
    """A trained masked autoencoder.

    Args:
        package: Its package.

    Attributes:
        plan: Its pipeline.
        channels: Names of the channels.
    """

    def __init__(self, package: Package) -> None:
        self.plan = Plan.from_dict(package.config["plan"])
        self.channels: list[str] = package.config["channels"]
        self.labels = Labels.from_dict(package.config["labels"])
        self.device = choose_device("auto")
        self.networks: dict[str, nn.Module] = {
            name: network.to(self.device) for name, network in load_networks(package).items()
        }

    @torch.inference_mode()
    def fill(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Fills in masked patches ``(B, C, *patch)`` of zeros by the mean of the networks."""
        x = hidden.to(self.device)
        return torch.stack([network(x).float().cpu() for network in self.networks.values()]).mean(0)


@dataclass
class Shown:
    """Patches of a case for the picture, each ``(C, *patch)``; the mask is ``(*patch)``."""

    name: str
    image: np.ndarray
    mask: np.ndarray
    filled: np.ndarray


def _patches_of(prepared: Prepared, name: str, plan: Plan, labels: Labels) -> PatchSamples:
    """Returns patches from anywhere in a case, as they are."""
    train = SegTrainConfig(batches_per_epoch=1, foreground=0.0)
    return PatchSamples([prepared], [name], plan, labels, train, AugmentConfig("none"))


def _patches(
    config: SegmentationConfig, data: SegmentationData, plan: Plan
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yields the name, patches ``(B, C, *patch)`` and masks ``(B, *patch)`` of each test case; always the same."""
    for position in sorted({i for fold in data.folds for i in fold.test}):
        case = data.cases[position]
        prepared = preprocess(data.read(case), plan, case.name)
        samples = _patches_of(prepared, case.name, plan, data.labels)
        images, masks = [], []
        for number in range(PATCHES):
            rng = np.random.default_rng(derive_seed(0, "masked test", position, number))
            images.append(samples.draw(0, rng)["image"])
            masks.append(block_mask(plan.patch_size, config.masked, rng))
        yield case.name, torch.stack(images), torch.stack(masks)


def score(
    fill: Fill, config: SegmentationConfig, data: SegmentationData, plan: Plan, channels: list[str]
) -> Evaluation:
    """Scores a way to fill in: the share of the variance of masked voxels that it explains, mean over test cases."""
    rows: list[dict[str, Any]] = []
    shown: list[Shown] = []
    total = len({i for fold in data.folds for i in fold.test})
    for name, image, mask in track(_patches(config, data, plan), "Filling in", total=total, transient=True):
        filled = fill(masked_batch(image, mask), mask)
        where = mask[:, None].expand_as(image)
        error = (filled[where].double() - image[where].double()).square().mean().item()
        rows.append({"case": name, "mse": error, "explained": explained_variance(filled, image, mask)})
        if len(shown) < SHOWN:
            shown.append(Shown(name, image[0].numpy(), mask[0].numpy(), filled[0].numpy()))
    frame = pd.DataFrame(rows)
    metrics = {name: float(frame[name].mean()) for name in ("mse", "explained")}
    return Evaluation(metrics, frame, shown)


def score_baselines(config: SegmentationConfig, data: SegmentationData) -> dict[str, Evaluation]:
    """Scores the nearest visible voxel, and the mean of the visible voxels of a patch."""
    plan = resolve_plan(config, data, None)
    return {
        "nearest": score(nearest_visible, config, data, plan, data.channels),
        "mean": score(mean_visible, config, data, plan, data.channels),
    }


def nearest_visible(hidden: Tensor, mask: Tensor) -> Tensor:
    """Gives each masked voxel the value of the nearest one that is not masked."""
    filled = []
    for image, where in zip(hidden.numpy(), mask.numpy(), strict=True):
        nearest = ndimage.distance_transform_edt(where, return_distances=False, return_indices=True)
        filled.append(torch.from_numpy(image[(slice(None), *nearest)]))
    return torch.stack(filled)


def mean_visible(hidden: Tensor, mask: Tensor) -> Tensor:
    """Gives all voxels of a channel the mean of those that are not masked."""
    seen = ~mask[:, None]
    axes = tuple(range(2, hidden.ndim))
    mean = (hidden * seen).sum(axes, keepdim=True) / seen.sum(axes, keepdim=True).clamp(min=1)
    return mean.expand_as(hidden)


def draw(results: dict[str, Evaluation]) -> Figure:
    """Draws a slice of a few patches: as they are, masked, and filled in."""
    shown: list[Shown] = results["model"].outputs
    figure = Figure(figsize=(7.5, 2.5 * len(shown) + 0.3), layout="constrained")
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for row, case in zip(axes, shown, strict=True):
        middle = () if case.mask.ndim == 2 else (case.mask.shape[0] // 2,)
        image, filled, mask = case.image[0][middle], case.filled[0][middle], case.mask[middle]
        low, high = np.percentile(image, (0.5, 99.5))
        hidden = np.ma.masked_array(image, mask)
        pictures = {
            case.name: image,
            "what the network sees": hidden,
            "filled in": np.where(mask, filled, image),
        }
        for axis, (title, picture) in zip(row, pictures.items(), strict=True):
            axis.set_facecolor("tab:blue")
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high)
            axis.set_title(title, fontsize="small")
            axis.set_xticks([])
            axis.set_yticks([])
    return figure


def serve_frame(filler: Filler, frame: pd.DataFrame) -> pd.DataFrame:
    """Answers a request: how much of each image is explained when blocks of it are masked.

    Raises:
        DataError: A row is not an image that the model reads.
    """
    explained = []
    for name, voxels in read_rows(frame, filler.channels):
        prepared = preprocess(voxels, filler.plan, name)
        rng = np.random.default_rng(0)
        image = _patches_of(prepared, name, filler.plan, filler.labels).draw(0, rng)["image"][None]
        block = min(MaskedConfig().block, *filler.plan.patch_size)
        mask = block_mask(filler.plan.patch_size, MaskedConfig(block=max(1, block // 2)), rng)[None]
        explained.append(explained_variance(filler.fill(masked_batch(image, mask), mask), image, mask))
    return pd.DataFrame({"explained": explained})
