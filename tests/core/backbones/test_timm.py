"""Weights of timm and torchvision load into our ResNets, ours into theirs, and logits and features agree."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision

from core.backbones import create_backbone, create_features

MODELS = [
    "resnet18",
    "resnet50",
    "resnet50d",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "seresnet18",
    "resnetrs50",
]


def trained_statistics(model, x):
    """Gives batch norms random scales and the statistics of a few batches: fresh ones hide most of the network."""
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        for shift in range(3):
            model(x + shift)
    return model.eval()


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("name", MODELS)
def test_timm(name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    theirs, ours = (
        timm.create_model(name, num_classes=7),
        create_backbone(name, num_classes=7, zero_init_last=False),
    )
    with torch.no_grad():
        theirs.load_state_dict(ours.state_dict())
        close(ours.eval()(x), theirs.eval()(x))
        ours.load_state_dict(trained_statistics(theirs, x).state_dict())
        close(ours(x), theirs(x))
        assert theirs(x).std() > 0

        features = create_features(name)
        features.backbone.load_state_dict({k: v for k, v in ours.state_dict().items() if k[:3] != "fc."})
        their_features = timm.create_model(name, features_only=True)
        their_features.load_state_dict(features.backbone.state_dict())
        pairs = zip(features.eval()(x), their_features.eval()(x), strict=True)
        for our_feature, their_feature in pairs:
            close(our_feature, their_feature)
        info = features.feature_info
        assert [f.channels for f in info] == their_features.feature_info.channels()
        assert [f.reduction for f in info] == their_features.feature_info.reduction()


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_torchvision(name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    theirs, ours = (
        torchvision.models.get_model(name, num_classes=7),
        create_backbone(name, num_classes=7, zero_init_last=False),
    )
    with torch.no_grad():
        theirs.load_state_dict(ours.state_dict())
        close(ours.eval()(x), theirs.eval()(x))
        ours.load_state_dict(trained_statistics(theirs, x).state_dict())
        close(ours(x), theirs(x))
        assert theirs(x).std() > 0


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "seresnet18"])
def test_gradients_are_timms(name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    theirs, ours = (
        timm.create_model(name, num_classes=7),
        create_backbone(name, num_classes=7, zero_init_last=False),
    )
    ours.load_state_dict(theirs.state_dict())
    for model in (ours, theirs):
        model.train()(x).square().sum().backward()
    named = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, named[key].grad, rtol=1e-3, atol=1e-4)
