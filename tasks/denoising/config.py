"""Configuration of the denoising task. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, RuleConfig, RunConfig, TrainConfig
from core.infer.config import PicturePredictConfig, ScoringConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("denoising model")

Kind = Literal["gaussian", "clipped", "poisson_gaussian", "super_resolution", "jpeg"]


@dataclass
class DegradationConfig:
    """What is wrong with the images, where it is not in the data already (name pairs).

    Args:
        kinds: What happens to a patch, one of them at random: gaussian (added in float, not clipped), clipped (the
            same, clipped and rounded to 8 bit), poisson_gaussian, super_resolution (bicubic smaller and larger
            again) or jpeg.
        sigma: Standard deviation of the noise in levels of 255: one number, or [low, high] for a level of its own in
            each patch (a blind model).
        photons: Photons of a white pixel for poisson_gaussian, one number or [low, high].
        scales: Factors for super_resolution.
        quality: JPEG quality, [low, high].
        test_sigma: Noise levels of the test; by default sigma, or 15, 25 and 50 of a range.
        test_quality: JPEG qualities of the test.
        test_seed: Seed of the noise of each test image.
    """

    kinds: list[Kind] = field(default_factory=lambda: ["gaussian"])
    sigma: float | list[float] = 25.0
    photons: float | list[float] = 100.0
    scales: list[int] = field(default_factory=lambda: [2, 3, 4])
    quality: list[int] = field(default_factory=lambda: [5, 99])
    test_sigma: list[float] | None = None
    test_quality: list[int] = field(default_factory=lambda: [10, 20, 30, 40])
    test_seed: int = 0


@dataclass
class DataConfig(DegradationConfig):
    """Which images, and how patches are cut from them.

    Args:
        name: auto, photographs, folder or pairs. auto is photographs when no path is given, pairs for a folder with
            noisy and clean images, else folder.
        path: Your folder of clean images, or of pairs: noisy/ and clean/ with equal names, or *_noisy and *_clean
            (*_real and *_mean) in one folder.
        test_path: Folders of test images (pairs for pairs); by default test_share of the images is held out.
        test_share: Share of the images, or of the scenes, that is held out.
        scene: Regular expression on the names of the images; what it finds names the scene. Images of one scene
            are never on both sides of the split.
        channels: 1 makes gray images of colour files, 3 colour of gray ones; by default as in most files. Other
            numbers are for TIFF and NPY files of so many channels.
        patch: Side of a training patch, pixels.
        patches: Patches of each image in an epoch.
        resize: Sizes at which the training images are used, such as [1, 0.9, 0.8, 0.7].
        augment: Turn and flip patches at random.
        memory: Most memory that loaded images take, GB; what is beyond lies in a file in $SKIPWAY_CACHE or
            ~/.cache/skipway, which is slower. By default a quarter of the machine's.
    """

    name: Literal["auto", "photographs", "folder", "pairs"] = "auto"
    path: str | None = None
    test_path: list[str] | None = None
    test_share: float = 0.1
    scene: str | None = None
    channels: int | None = None
    patch: int = 40
    patches: int = 512
    resize: list[float] = field(default_factory=lambda: [1.0])
    augment: bool = True
    memory: float | None = None


@MODELS.register("dncnn")
@dataclass
class DnCNNConfig(RuleConfig):
    """DnCNN (arXiv:1608.03981, section III): 17 layers for one noise level, 20 for a range and for colour.

    Args:
        layers: Convolutions.
        width: Channels between them.
        variant: Biases and norms: matconvnet (the authors' training), kair, folded, pytorch or plain.
        momentum: Share of a batch in the running statistics of the norms.
    """

    name: str = "dncnn"
    layers: int = 17
    width: int = 64
    variant: str = "matconvnet"
    momentum: float = 0.1


@MODELS.register("ridnet")
@dataclass
class RIDNetConfig(RuleConfig):
    """RIDNet (arXiv:1904.07396, section 3).

    Args:
        width: Channels.
        blocks: Enhancement attention modules.
        reduction: Factor by which channel attention squeezes.
        paper_skips: The short and long skips of the paper's figure, which the released code lacks.
    """

    name: str = "ridnet"
    width: int = 64
    blocks: int = 4
    reduction: int = 16
    paper_skips: bool = False


@dataclass
class DenoisingTrainConfig(TrainConfig):
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        loss: l2 (mean over all values), l2_sum (half the sum over pixels, mean over images: DnCNN's), or l1.
    """

    batch_size: int = 32
    channels_last: bool = True
    loss: Literal["l2", "l2_sum", "l1"] = "l2"


@dataclass
class DenoisingScoringConfig(ScoringConfig):
    """How denoised images are scored: all values, rounded to 8 bit, no border left out.

    For super_resolution as DnCNN-3: a border of the scale or more is left out, and round means not rounded.

    Args:
        baselines: noisy, nlm (non-local means) and bm3d; the first decides about promotion. bm3d needs the package
            of that name, whose licence is for non-commercial use.
    """

    baselines: list[Literal["noisy", "nlm", "bm3d"]] = field(  # type: ignore[assignment]
        default_factory=lambda: ["nlm", "noisy"]
    )


@dataclass
class DenoisingConfig(RunConfig):
    """Trains a denoiser.

    Args:
        data: Images and what is wrong with them.
        scoring: How restored images are scored.
    """

    train: DenoisingTrainConfig = field(default_factory=DenoisingTrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=DnCNNConfig)
    scoring: DenoisingScoringConfig = field(default_factory=DenoisingScoringConfig)


@dataclass
class DenoisingEvaluateConfig(EvaluateConfig):
    """Scores a trained denoiser on the held-out images of its data set, or on other images.

    Args:
        data: Images and what is wrong with them. With test_path alone, nothing else is read.
        scoring: How restored images are scored.
        all_protocols: Also print what other choices of protocol would have given.
    """

    data: DataConfig = field(default_factory=DataConfig)
    scoring: DenoisingScoringConfig = field(default_factory=DenoisingScoringConfig)
    all_protocols: bool = False


@dataclass
class DenoisingPredictConfig(PicturePredictConfig):
    """Removes the noise of images.

    Args:
        sigma: Noise level of the input in levels of 255; estimated when not given. Models of one noise level say
            when they do not fit.
    """

    sigma: float | None = None
