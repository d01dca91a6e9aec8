"""The rule and the block of the tutorials, as they stand there, in what their pages do not try."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from core import create_backbone, nd
from core.compress import deploy
from core.residual import ResidualChain, create_rule
from core.residual.blocks import BLOCKS, BlockSpec, create_block
from core.residual.rules import RULES

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"


def written(page, path):
    """The names that a file of a page defines."""
    text = (TUTORIALS / page).read_text(encoding="utf-8")
    names = {}
    exec(re.search(rf"^`{path}`:\n```python\n(.*?)^```", text, re.S | re.M)[1], names)
    return names


@pytest.fixture(scope="module", autouse=True)
def examples():
    """Enters the classes of the pages, and takes them out of the registries afterwards."""
    before = dict(RULES._entries), dict(BLOCKS._entries)
    RULES.register("damped")(written("add_a_rule.md", "core/residual/rules/damped.py")["Damped"])
    BLOCKS.register("single")(written("add_a_model.md", "core/residual/blocks/single.py")["SingleBlock"])
    yield
    for registry, entries in zip((RULES, BLOCKS), before, strict=True):
        registry._entries = entries


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_rule_of_one_file_works_in_a_backbone(dims):
    torch.manual_seed(0)
    model, plain = (
        create_backbone("resnet18", dims=dims, layers=(1, 1), zero_init_last=False, rule=rule)
        for rule in ("damped", "add")
    )
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    x = torch.randn(2, 3, *(16,) * dims)
    assert torch.equal(model.eval()(x), plain.eval()(x)), "it begins as the plain sum"
    model.layer1[0].rule.b.data.fill_(2.0)
    assert not torch.allclose(model(x), plain(x)), "its weight has no effect"


def test_a_rule_of_one_file_keeps_its_formula():
    rule = create_rule("damped")
    rule.b.data.fill_(math.log(3))
    assert rule(torch.tensor([[1.0]]), torch.tensor([[5.0]])).item() == pytest.approx(1 + 5 / 2)
    assert rule.parameter_formula() == sum(p.numel() for p in rule.parameters())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("rule", ["damped", "hires", "orthogonal"])
def test_a_block_of_one_file_works_with_every_rule(dims, rule):
    torch.manual_seed(0)
    model = create_backbone(
        "resnet18", dims=dims, block="single", layers=(1, 1), rule=rule, norm="group", num_classes=3
    )
    x = torch.randn(2, 3, *(16,) * dims)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.layer2.parameters())
    assert sum(isinstance(m, type(nd.norm("group", dims, 4))) for m in model.layer1.modules()) == 1


def test_a_block_of_one_file_is_folded():
    chain = ResidualChain([create_block("single", BlockSpec(4, 4))])
    x = torch.randn(2, 4, 8, 8)
    chain(x)
    torch.testing.assert_close(deploy(chain)(x), chain.eval()(x))
