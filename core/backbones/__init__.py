"""Named residual backbones for signals, images and volumes."""

from __future__ import annotations

from core.backbones import (
    cifar,
    cspnext,
    dpn,
    imagenet,
    mobilenet,
    p3d,
    rdnet,
    replknet,
    res2net,
    resenc,
    tcn,
    unireplknet,
)  # they register their names
from core.backbones.backbone import Backbone, FeatureInfo, FeaturesOnly
from core.backbones.load import load_weights, read_weights
from core.backbones.pretrained import load_timm
from core.backbones.registry import (
    BACKBONES,
    backbone_options,
    create_backbone,
    create_features,
    list_backbones,
    register_backbones,
)
from core.backbones.smp import register_smp_encoders
from core.backbones.spec import Spec
from core.backbones.weights import adapt_input, inflate

__all__ = [
    "BACKBONES",
    "Backbone",
    "FeatureInfo",
    "FeaturesOnly",
    "Spec",
    "adapt_input",
    "backbone_options",
    "cifar",
    "create_backbone",
    "create_features",
    "cspnext",
    "dpn",
    "imagenet",
    "inflate",
    "list_backbones",
    "load_timm",
    "load_weights",
    "mobilenet",
    "p3d",
    "rdnet",
    "read_weights",
    "register_backbones",
    "register_smp_encoders",
    "replknet",
    "res2net",
    "resenc",
    "tcn",
    "unireplknet",
]
