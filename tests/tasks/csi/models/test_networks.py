"""The other networks, what they share, refusals, and export."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.compress.folding import deployed
from core.errors import ConfigError
from core.export import check_outputs, write_program
from core.residual import list_rules
from tasks.csi.config import (
    MODELS,
    BackboneConfig,
    CnnConfig,
    Csi4CastSmallConfig,
    RnnConfig,
    TransformerConfig,
)
from tasks.csi.models.build import build_network

K, T, H = 32, 6, 3
CONFIGS = {
    "gru": RnnConfig(width=16),
    "lstm": RnnConfig(width=16, cell="lstm", layers=1),
    "cnn": CnnConfig(width=4, blocks=2),
    "transformer": TransformerConfig(width=16, layers=2, heads=2, feedforward=16),
    "backbone": BackboneConfig(backbone="resnet20_cifar"),
}


def network(config, subcarriers=K):
    torch.manual_seed(0)
    return build_network(config, subcarriers, T, H)


def moved(model):
    """A network whose last layers are not zero."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def test_every_registered_model_has_a_network():
    for name in MODELS:
        with torch.device("meta"):
            model = network(MODELS[name](), 40)
            assert model.eval()(torch.empty(2, T, 80)).shape == (2, H, 80), name


@pytest.mark.parametrize("name", CONFIGS)
def test_a_new_network_repeats_the_last_report(name):
    x = torch.randn(2, T, 2 * K)
    torch.testing.assert_close(network(CONFIGS[name]).eval()(x), x[:, -1:].expand(-1, H, -1))


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_are_apart_steps_differ_and_all_reports_count(name):
    model, x = moved(network(CONFIGS[name])), torch.randn(2, T, 2 * K)
    y = model(x)
    torch.testing.assert_close(model(x[:1]), y[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(1e-3 * x), 1e-3 * y, rtol=1e-3, atol=1e-6)
    assert (y[:, 0] - y[:, 1]).abs().max() > 1e-3
    x.requires_grad_()
    model(x).sum().backward()
    assert (x.grad.abs().amax((0, 2)) > 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_trains(name):
    model = moved(network(CONFIGS[name])).train()
    model(torch.randn(3, T, 2 * K)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("rule", list_rules())
@pytest.mark.parametrize("name", ["gru", "cnn", "transformer"])
def test_every_rule_reaches_every_sum(name, rule):
    model = moved(network(replace(CONFIGS[name], rule=rule)))
    x = torch.randn(2, T, 2 * K)
    assert model(x).isfinite().all()
    rules = {"gru": 2, "cnn": 2, "transformer": 4}[name]
    assert [m.rule.spec.index for m in model.modules() if hasattr(m, "rule")] == [*range(1, rules + 1)]


def test_options_of_the_backbone_reach_it():
    model = network(BackboneConfig(backbone="resnet20_cifar", rule="scaled", options={"norm": "group"}))
    spec = model.backbone.spec
    assert (spec.rule, spec.norm, spec.dims, spec.in_channels) == ("scaled", "group", 1, 2 * T)
    # Every stage and the history itself have a part in the prediction.
    assert [layer.in_channels for layer in model.outputs] == [2 * T, 16, 32, 64]


def test_convolutions_take_an_odd_number_of_subcarriers_and_backbones_too():
    for name in ("cnn", "backbone"):
        assert network(CONFIGS[name], 37).eval()(torch.randn(1, T, 74)).shape == (1, H, 74)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Csi4CastSmallConfig(heads=5), "model.heads 5 must divide --model.width 96"),
        (Csi4CastSmallConfig(groups=3), "model.groups 3 must divide --model.channels 8"),
        (Csi4CastSmallConfig(reduction=9), "model.reduction 9 leaves none"),
        (Csi4CastSmallConfig(width=9, heads=3), "model.width 9 must be even"),
        (Csi4CastSmallConfig(denoiser=0), "model.denoiser 0 must be 1 or more"),
        (Csi4CastSmallConfig(band_layers=-1), "model.band_layers -1 must be 0 or more"),
        (Csi4CastSmallConfig(input_dropout=1.0), "model.input_dropout 1.0"),
        (Csi4CastSmallConfig(rule="sum"), "sum"),
        (TransformerConfig(dropout=-0.1), "model.dropout -0.1"),
        (TransformerConfig(heads=0), "model.heads 0 must be 1 or more"),
        (RnnConfig(layers=0), "model.layers 0 must be 1 or more"),
        (CnnConfig(width=0), "model.width 0 must be 1 or more"),
        (BackboneConfig(backbone="resnet19"), "resnet19"),
        (BackboneConfig(options={"in_channels": 3}), "which --data.history decides"),
        (BackboneConfig(backbone="p3d63"), "dims=3 alone"),
    ],
)
def test_what_cannot_be_built_is_named(config, message):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        network(config)


def test_too_few_subcarriers_for_the_strides_of_a_backbone_are_named():
    config = BackboneConfig(backbone="rdnet_tiny")
    with torch.device("meta"), pytest.raises(ConfigError, match="cannot take 4 subcarriers"):
        network(config, 4)


def test_norms_of_the_convolutional_network_fold():
    model = moved(network(CONFIGS["cnn"]))
    folded, how = deployed(model)
    x = torch.randn(1, T, 2 * K)
    assert how.folded == 4
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)


SMALL = Csi4CastSmallConfig(time_hidden=8, width=16, feedforward=16)


@pytest.mark.parametrize("format", ["onnx", "pt2"])
@pytest.mark.parametrize("config", [SMALL, *(CONFIGS[n] for n in ("gru", "transformer", "backbone"))])
def test_programs_give_what_the_networks_give_for_any_number_of_rows(config, format, tmp_path):
    if format == "onnx":
        pytest.importorskip("onnxscript")
    model, x = deployed(moved(network(config)))[0], torch.randn(3, T, 2 * K)
    path = tmp_path / f"program.{format}"
    shapes = ({0: torch.export.Dim("rows")},)
    (output,) = write_program(
        model, (x,), path, input_names=["history"], output_names=["y"], dynamic_shapes=shapes, metadata={}
    )
    check_outputs(path, output, model(x).detach().numpy())
    assert path.exists()
