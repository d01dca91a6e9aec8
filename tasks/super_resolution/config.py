"""Configuration of the super-resolution task. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, RuleConfig, RunConfig, TrainConfig
from core.infer.config import PicturePredictConfig, ScoringConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("super-resolution model")


@dataclass
class DataConfig:
    """Which images, how they are made small, and how patches are cut from them.

    Small images are made from yours, bit by bit as MATLAB's imresize does it (bicubic with antialiasing).

    Args:
        name: auto, photographs, folder or pairs. auto is photographs when no path is given, else folder.
        path: Your folder of large images, where a subfolder HR is used if there is one. For pairs the folder
            that holds LR and HR, or LR_X2 and HR, with equal names.
        test_path: Folders of test images (pairs for pairs); by default test_share of the images is held out.
        test_share: Share of the images, or of the scenes, that is held out.
        scene: Regular expression on the names of the images; what it finds names the scene. Images of one scene
            are never on both sides of the split.
        scales: Factors by which height and width grow, of 2, 3, 4 and 8. CARN and CARN-M take several. By default
            [2] in training, and those of the model afterwards.
        channels: 3 for colour or 1 for gray, files are converted; or the channels of your TIFF and NPY files, which
            are scored with --scoring.channel rgb (all values).
        patch: Side of a training patch of the small image, pixels.
        patches: Patches of each image and scale in an epoch.
        augment: Turn and flip patches at random.
        jpeg: Compress the small training patches as JPEG of a quality from [low, high].
        test_jpeg: JPEG quality of the small test images; by default the middle of jpeg.
        memory: Most memory that loaded images take, GB; what is beyond lies in a file in $SKIPWAY_CACHE or
            ~/.cache/skipway, which is slower. By default a quarter of the machine's.
    """

    name: Literal["auto", "photographs", "folder", "pairs"] = "auto"
    path: str | None = None
    test_path: list[str] | None = None
    test_share: float = 0.1
    scene: str | None = None
    scales: list[int] | None = None
    channels: int = 3
    patch: int = 48
    patches: int = 16
    augment: bool = True
    jpeg: list[int] | None = None
    test_jpeg: int | None = None
    memory: float | None = None


@dataclass
class WidthConfig(RuleConfig):
    """What all models share.

    Args:
        width: Channels of the features.
    """

    name: str = "carn_m"
    width: int = 64


@MODELS.register("carn_m")
@dataclass
class CARNMConfig(WidthConfig):
    """CARN-M, the small one (arXiv:1803.08664, section 3.3): grouped convolutions, blocks used three times.

    Args:
        groups: Groups of the 3x3 convolutions.
        recursive: Use one residual block three times.
    """

    groups: int = 4
    recursive: bool = True


@MODELS.register("carn")
@dataclass
class CARNConfig(CARNMConfig):
    """CARN (arXiv:1803.08664, section 3.2).

    Args:
        groups: Groups of the 3x3 convolutions.
        recursive: Use one residual block three times.
    """

    name: str = "carn"
    groups: int = 1
    recursive: bool = False


@MODELS.register("rcan")
@dataclass
class RCANConfig(WidthConfig):
    """RCAN (arXiv:1807.02758, section 3): more than 400 convolutions.

    Args:
        groups: Residual groups.
        blocks: Blocks of a group.
        reduction: Factor by which channel attention squeezes.
    """

    name: str = "rcan"
    groups: int = 10
    blocks: int = 20
    reduction: int = 16


@MODELS.register("rcan_small")
@dataclass
class SmallRCANConfig(RCANConfig):
    """RCAN of a size that a CPU can train.

    Args:
        groups: Residual groups.
        blocks: Blocks of a group.
        reduction: Factor by which channel attention squeezes.
    """

    name: str = "rcan_small"
    width: int = 48
    groups: int = 3
    blocks: int = 4


@dataclass
class SuperResolutionTrainConfig(TrainConfig):
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        loss: l1 (the papers'), or l2; mean over all values.
    """

    batch_size: int = 16
    channels_last: bool = True
    loss: Literal["l1", "l2"] = "l1"


@dataclass
class SuperResolutionScoringConfig(ScoringConfig):
    """How enlarged images are scored: luma, the scale as border, rounded to 8 bit, as in RCAN's evaluation.

    Args:
        shave: Border in pixels that is left out; by default the scale.
        baselines: bicubic (MATLAB's imresize), bilinear or nearest; the first decides about promotion.
    """

    channel: Literal["rgb", "y"] = "y"
    shave: int | None = None  # type: ignore[assignment]
    baselines: list[Literal["bicubic", "bilinear", "nearest"]] = field(  # type: ignore[assignment]
        default_factory=lambda: ["bicubic"]
    )


@dataclass
class SuperResolutionConfig(RunConfig):
    """Trains a network that enlarges images.

    Args:
        data: Images and how they are made small.
        scoring: How enlarged images are scored.
    """

    train: SuperResolutionTrainConfig = field(default_factory=SuperResolutionTrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=CARNMConfig)
    scoring: SuperResolutionScoringConfig = field(default_factory=SuperResolutionScoringConfig)


@dataclass
class SuperResolutionEvaluateConfig(EvaluateConfig):
    """Scores a trained network on the held-out images of its data set, or on other images.

    Args:
        data: Images and how they are made small. With test_path alone, nothing else is read.
        scoring: How enlarged images are scored.
        ensemble: Average over the eight flips and quarter turns (RCAN+), for 8 times the work.
        all_protocols: Also print what other choices of protocol and of making small images would have given.
    """

    data: DataConfig = field(default_factory=DataConfig)
    scoring: SuperResolutionScoringConfig = field(default_factory=SuperResolutionScoringConfig)
    ensemble: bool = False
    all_protocols: bool = False


@dataclass
class SuperResolutionPredictConfig(PicturePredictConfig):
    """Enlarges images.

    Args:
        scale: Factor, for models of several; by default the model's first.
    """

    scale: int | None = None
