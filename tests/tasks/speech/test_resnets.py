"""The residual networks of the paper: parameters, reference numbers, rules."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.residual import list_rules
from tasks.speech.build import build_network
from tasks.speech.config import MODELS, ResConfig
from tasks.speech.models.reference import load_state
from tasks.speech.models.resnets import ResNet

FIXTURES = Path(__file__).parent / "fixtures"
PARAMETERS = {  # of arXiv:1710.10361, table 2: 110K, 19.9K, 238K, 42.6K, 438K, 78.4K
    "res8": 110_307,
    "res8_narrow": 19_905,
    "res15": 237_882,
    "res15_narrow": 42_648,
    "res26": 438_357,
    "res26_narrow": 78_387,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_papers(name):
    network = build_network(MODELS[name](), 101, 40, 12)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    assert network(torch.zeros(2, 101, 40)).shape == (2, 12)


def test_res15_narrow_reproduces_the_reference():
    known = load_file(FIXTURES / "honk_res15_narrow.safetensors")
    state = {k.removeprefix("state."): v for k, v in known.items() if k.startswith("state.")}
    network = load_state(state).eval()
    with torch.no_grad():
        assert (network(known["input"]) - known["output"]).abs().max() < 1e-6


def test_learned_scales_change_what_the_second_convolution_reads():
    network = ResNet(3, scales=True).eval()
    assert (
        sum(p.numel() for p in network.parameters())
        == sum(p.numel() for p in ResNet(3).parameters()) + 3 * 19
    )
    x = torch.randn(1, 101, 40)
    before = network(x)
    with torch.no_grad():
        network.blocks[0].scale.zero_()
    after = network(x)
    assert not torch.allclose(before, after)


def test_a_clip_is_classified_alone():
    network = ResNet(4).eval()
    x = torch.randn(3, 101, 40)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    network = build_network(ResConfig(width=8, layers=7, rule=rule), 25, 10, 3)
    network(torch.randn(2, 25, 10)).sum().backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert not missing
