"""Published recipes for training on ImageNet, as data.

A1, A2 and A3: "ResNet strikes back", Wightman et al., arXiv:2110.00476, table 2; values agree with the
configurations of open-mmlab/mmpretrain (``configs/resnet/resnet50_8xb256-rsb-*``) and Westlake-AI/openmixup.
``clip_norm`` is the default of timm's LAMB, with which the authors trained.

ResNet-RS: "Revisiting ResNets", Bello et al., arXiv:2103.07579; values are those of the authors'
configurations in tensorflow/tpu (``models/official/resnet/resnet_rs/configs``) and tensorflow/models
(``official/vision/configs/experiments/image_classification/imagenet_resnetrs*``, for learning rate and warm-up).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from core.config import TrainConfig
from core.registry import Registry


@dataclass(frozen=True)
class Recipe:
    """How a network was trained.

    Attributes:
        source: Paper.
        epochs: Passes over the training set.
        batch_size: Samples a step.
        optimizer: ``lamb``, or ``sgd`` with momentum 0.9.
        lr: Peak learning rate at this batch size.
        weight_decay: Not on norms and biases.
        warmup_epochs: Epochs of linear warm-up, within ``epochs``; then the cosine goes to zero.
        clip_norm: Largest gradient norm.
        ema: Decay of the average of the weights that is evaluated.
        loss: ``bce`` on mixed one-hot targets, or ``cross_entropy``.
        label_smoothing: Share of the target that is spread over all classes.
        drop_path: Rate of the last residual block.
        dropout: Rate before the classifier.
        repeated_augmentation: Views of each sample in a batch; 1 is off.
        mixup: alpha of mixup; 0 is off.
        cutmix: alpha of CutMix; 0 is off.
        randaugment_layers: Operations of RandAugment for a sample.
        randaugment_magnitude: Their magnitude; 10 is the strongest of AutoAugment.
        randaugment_std: Standard deviation of the magnitude.
        train_size: Pixels a side in training.
        test_size: Pixels a side in testing.
        test_crop: Share of the image that is kept in testing.
        top1: Published ImageNet accuracy in percent, of ResNet-50 for A1 to A3.
    """

    source: str
    epochs: int
    batch_size: int
    optimizer: Literal["lamb", "sgd"]
    lr: float
    weight_decay: float
    warmup_epochs: int
    clip_norm: float | None
    ema: float | None
    loss: Literal["bce", "cross_entropy"]
    label_smoothing: float
    drop_path: float
    dropout: float
    repeated_augmentation: int
    mixup: float
    cutmix: float
    randaugment_layers: int
    randaugment_magnitude: int
    randaugment_std: float
    train_size: int
    test_size: int
    test_crop: float
    top1: float


TRAINED_ELSEWHERE = (
    "loss",
    "label_smoothing",
    "drop_path",
    "dropout",
    "repeated_augmentation",
    "mixup",
    "cutmix",
    "randaugment_layers",
    "randaugment_magnitude",
    "randaugment_std",
    "train_size",
    "test_size",
    "test_crop",
)
"""Fields that the training loop does not know: they belong to the model, its loss and the data of a task."""

RECIPES: Registry[Recipe] = Registry("training recipe")

_A1 = Recipe(
    source="arXiv:2110.00476",
    epochs=600,
    batch_size=2048,
    optimizer="lamb",
    lr=5e-3,
    weight_decay=0.01,
    warmup_epochs=5,
    clip_norm=1.0,
    ema=None,
    loss="bce",
    label_smoothing=0.1,
    drop_path=0.05,
    dropout=0.0,
    repeated_augmentation=3,
    mixup=0.2,
    cutmix=1.0,
    randaugment_layers=2,
    randaugment_magnitude=7,
    randaugment_std=0.5,
    train_size=224,
    test_size=224,
    test_crop=0.95,
    top1=80.4,
)
_A2 = replace(_A1, epochs=300, weight_decay=0.02, label_smoothing=0.0, mixup=0.1, top1=79.8)
_A3 = replace(
    _A2,
    epochs=100,
    lr=8e-3,
    drop_path=0.0,
    repeated_augmentation=1,
    randaugment_magnitude=6,
    train_size=160,
    top1=78.1,
)
for _name, _recipe in (("a1", _A1), ("a2", _A2), ("a3", _A3)):
    RECIPES.register(_name)(_recipe)

_RS = Recipe(
    source="arXiv:2103.07579",
    epochs=350,
    batch_size=4096,
    optimizer="sgd",
    lr=1.6,  # 0.1 for 256 samples
    weight_decay=4e-5,
    warmup_epochs=5,
    clip_norm=None,
    ema=0.9999,
    loss="cross_entropy",
    label_smoothing=0.1,
    drop_path=0.0,
    dropout=0.25,
    repeated_augmentation=1,
    mixup=0.0,
    cutmix=0.0,
    randaugment_layers=2,
    randaugment_magnitude=15,
    randaugment_std=0.0,
    train_size=160,
    test_size=160,
    test_crop=160 / 192,
    top1=0.0,
)
# Depth, pixels, magnitude, drop path, dropout, top-1: deeper and larger networks are regularised more.
for _depth, _size, _magnitude, _drop_path, _dropout, _top1 in (
    (50, 160, 10, 0.0, 0.25, 78.8),
    (101, 160, 10, 0.0, 0.25, 80.3),
    (101, 192, 15, 0.0, 0.25, 81.2),
    (152, 192, 15, 0.0, 0.25, 82.0),
    (152, 224, 15, 0.0, 0.25, 82.2),
    (152, 256, 15, 0.0, 0.25, 83.0),
    (200, 256, 15, 0.1, 0.25, 83.4),
    (270, 256, 15, 0.1, 0.25, 83.8),
    (350, 256, 15, 0.1, 0.25, 84.0),
    (350, 320, 15, 0.1, 0.4, 84.2),
    (420, 320, 15, 0.1, 0.4, 84.4),
):
    RECIPES.register(f"resnet_rs_{_depth}_{_size}")(
        replace(
            _RS,
            randaugment_magnitude=_magnitude,
            drop_path=_drop_path,
            dropout=_dropout,
            train_size=_size,
            test_size=_size,
            test_crop=_size / (_size + 32),
            top1=_top1,
        )
    )


def train_config(recipe: Recipe, samples: int, batch_size: int | None = None) -> TrainConfig:
    """Returns what the loop knows of a recipe; :data:`TRAINED_ELSEWHERE` names what it does not.

    The loop differs from the authors' in two points: the cosine runs over all steps, also during the warm-up,
    and its SGD has Nesterov momentum.

    Args:
        recipe: One of :data:`RECIPES`, or your own.
        samples: Samples in the training set, from which epochs of warm-up become steps.
        batch_size: Samples a step; the recipe's own if not given. The learning rate follows it: in proportion
            for SGD, as the authors of ResNet-RS do, and with its root for LAMB (arXiv:1904.00962, section 4).

    Raises:
        ConfigError: A number is out of range.
    """
    size = batch_size or recipe.batch_size
    share = size / recipe.batch_size
    return TrainConfig(
        epochs=recipe.epochs,
        batch_size=size,
        lr=recipe.lr * (math.sqrt(share) if recipe.optimizer == "lamb" else share),
        optimizer=recipe.optimizer,
        weight_decay=recipe.weight_decay,
        schedule="cosine",
        warmup_steps=recipe.warmup_epochs * (samples // size),
        grad_clip=recipe.clip_norm,
        ema=recipe.ema,
    )


def smooth(target: Tensor, amount: float) -> Tensor:
    """Returns ``(1 - a) y + a / K`` for targets ``(B, K)`` (Szegedy et al., arXiv:1512.00567, section 7)."""
    return (1 - amount) * target + amount / target.shape[1]


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the binary cross entropy of each class, mean over samples and classes (scalar).

    Classification as K questions of yes or no, so that a mixed image may be of two classes (arXiv:2110.00476).

    Args:
        logits: ``(B, K)``.
        target: ``(B, K)``, from 0 to 1: one-hot rows, or their mixture ``r y_1 + (1 - r) y_2`` after mixup.
    """
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
