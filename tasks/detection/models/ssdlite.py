"""torchvision's SSDLite behind the interface of this task's networks."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList

from core.backbones import read_weights
from core.errors import DataError

SPLIT = 13
"""Block of MobileNetV3-Large whose first layer ends the first part of the backbone, at stride 16."""
_NAME = re.compile(r"features\.(\d+)\.(.+)")
_LAYER = re.compile(r"block\.(\d+)\.(.+)")


class SSDLite(nn.Module):
    """SSDLite on MobileNetV3-Large ("MobileNetV3", Howard et al., arXiv:1905.02244, section 6.3).

    Nothing is downloaded, and the first weights are random. Class 0 of torchvision's network is the background.

    Args:
        classes: Number of classes, without the background.

    Attributes:
        ssd: torchvision's network, which has the loss too; its own resizing and NMS are not used.
        size_multiple: What height and width of the input are multiples of.
        pixels: Order of the colours of the input.
        mean: What the input's values, 0 to 255, have been reduced by.
        std: What they have then been divided by.
    """

    size_multiple = 32
    pixels = "rgb"
    mean = (127.5, 127.5, 127.5)
    std = (127.5, 127.5, 127.5)

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.ssd = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps normalised images ``(B, 3, H, W)`` to raw outputs.

        Returns:
            ``bbox_regression`` ``(B, P, 4)`` and ``cls_logits`` ``(B, P, classes + 1)``, as torchvision's loss reads
            them, and ``anchors`` ``(P, 4)``: left, top, right and bottom, pixels of the input.
        """
        features = self._features(x)
        size = (x.shape[2], x.shape[3])
        outputs: dict[str, Tensor] = self.ssd.head(features)
        # The generator computes in the type of the features, and bfloat16 would move anchors by half a pixel.
        exact = [x.float() for x in features]
        anchors = self.ssd.anchor_generator(ImageList(x[:1], [size]), exact)[0]
        return {**outputs, "anchors": anchors}

    def _features(self, x: Tensor) -> list[Tensor]:
        """Maps images to the features of all levels, as torchvision's backbone does."""
        features = []
        for block in self.ssd.backbone.features:
            x = block(x)
            features.append(x)
        # oneDNN leaves garbage in the bfloat16 gradients of depthwise weights with stride 2 where a map is one place.
        device = x.device.type
        # An exported program would keep the switch where there is nothing to switch off.
        exact = torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
        with exact:
            x = x.float()
            for block in self.ssd.backbone.extra:
                x = block(x)
                features.append(x)
        return features

    def decode(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns boxes ``(B, P, 4)`` in pixels of the input, not clipped to it, and scores ``(B, P, classes)``."""
        codes, anchors = outputs["bbox_regression"].float(), outputs["anchors"]
        every = anchors.expand(codes.shape).flatten(0, 1)
        boxes = self.ssd.box_coder.decode_single(codes.flatten(0, 1), every)
        return boxes.reshape(codes.shape), outputs["cls_logits"].float().softmax(-1)[..., 1:]


def load_mobilenet(network: SSDLite, path: str) -> None:
    """Gives the backbone the weights of torchvision's MobileNetV3-Large, as trained on ImageNet.

    Its last blocks are twice as wide as SSDLite's; their weights stay random, and the classifier's are left out.

    Args:
        network: Its backbone is changed.
        path: File of weights.

    Raises:
        DataError: The file cannot be read, or holds another network.
    """
    state = read_weights(path)
    with torch.device("meta"):
        theirs: dict[str, Any] = mobilenet_v3_large(weights=None).state_dict()
    wrong = sorted(state.keys() ^ theirs.keys()) or [k for k in theirs if state[k].shape != theirs[k].shape]
    if wrong:
        raise DataError(
            f"{path} holds no weights of torchvision's mobilenet_v3_large: {wrong[0]} does not fit, the first of "
            f"{len(wrong)}"
        )
    mine = network.ssd.backbone.state_dict()
    renamed = {_place(key): weight for key, weight in state.items() if key.startswith("features.")}
    fitting = {key: w for key, w in renamed.items() if key in mine and mine[key].shape == w.shape}
    network.ssd.backbone.load_state_dict(fitting, strict=False)


def _place(key: str) -> str:
    """Returns the name in SSDLite's backbone, which has two parts, of a weight of MobileNetV3-Large."""
    found = _NAME.fullmatch(key)
    assert found is not None, key
    block, rest = int(found[1]), found[2]
    if block < SPLIT:
        return f"features.0.{block}.{rest}"
    if block > SPLIT:
        return f"features.1.{block - SPLIT}.{rest}"
    layer = _LAYER.fullmatch(rest)
    assert layer is not None, key
    return f"features.0.{SPLIT}.{layer[2]}" if layer[1] == "0" else f"features.1.0.{layer[1]}.{layer[2]}"
