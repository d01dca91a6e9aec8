"""The selective scan against its definition, step by step, and its gradient against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core import selective_scan as module
from core.selective_scan import blockwise, parallel_scan, selective_scan, stepwise


def definition(u, delta, A, B, C, D=None):
    h = u.new_zeros(*u.shape[:2], A.shape[1])
    outputs = []
    for t in range(u.shape[-1]):
        step = delta[:, :, t, None]
        h = torch.exp(step * A) * h + step * B[:, None, :, t] * u[:, :, t, None]
        outputs.append((h * C[:, None, :, t]).sum(-1))
    y = torch.stack(outputs, -1)
    return y if D is None else y + D[:, None] * u


def arguments(batch=2, channels=3, length=11, state=4, dtype=torch.float64, spread=1.0):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    parts = [
        normal(batch, channels, length),
        functional.softplus(spread * normal(batch, channels, length)),
        -torch.exp(normal(channels, state)),
        normal(batch, state, length),
        normal(batch, state, length),
        normal(channels),
    ]
    return [part.to(dtype).requires_grad_() for part in parts]


def gradients(scan, parts):
    y = scan(*parts)
    return y, torch.autograd.grad(
        y.square().sum() + y.sum(), parts, allow_unused=True, materialize_grads=True
    )


@pytest.fixture(params=["whole", "short stretches", "one sample at a time"])
def stretches(request, monkeypatch):
    if request.param != "whole":
        monkeypatch.setitem(module.CACHED, "cpu", 1 if request.param == "one sample at a time" else 48)
        monkeypatch.setattr(module, "SHORTEST", 2)


@pytest.mark.parametrize("length", [1, 2, 11, 16])
@pytest.mark.parametrize("batch", [1, 3])
def test_values_and_gradients_are_those_of_the_definition(batch, length, stretches):
    parts = arguments(batch, length=length)
    torch.testing.assert_close(gradients(selective_scan, parts), gradients(definition, parts))


def test_the_gradient_agrees_with_finite_differences(stretches):
    assert torch.autograd.gradcheck(selective_scan, arguments(length=5))


def test_without_D_nothing_is_added():
    parts = arguments()[:-1]
    torch.testing.assert_close(selective_scan(*parts), definition(*parts))


def check_in_float32(parts):
    exact, theirs = gradients(definition, parts)
    y, ours = gradients(selective_scan, [part.detach().float().requires_grad_() for part in parts])
    for single, double in zip((y, *ours), (exact, *theirs), strict=True):
        assert (single - double).abs().max() < 1e-5 * double.abs().max()


def test_long_sequences_are_exact_in_float32():
    check_in_float32(arguments(1, 24, 729, 16))


@pytest.mark.parametrize("compiling", [False, True])
def test_decays_that_vanish_are_no_trouble(compiling, monkeypatch):
    # Sums of logarithms over the sequence give infinities here.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    check_in_float32(arguments(length=200, spread=50.0))


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9])
def test_the_parallel_form_is_the_same_with_its_own_gradient(length, monkeypatch):
    parts = arguments(length=length)
    expected = gradients(selective_scan, parts)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    calls = []
    monkeypatch.setattr(module, "parallel_scan", lambda *given: calls.append(1) or parallel_scan(*given))
    torch.testing.assert_close(gradients(selective_scan, parts), expected)
    assert calls


def test_other_devices_run_blocks_of_steps_with_the_same_hand_written_gradient(monkeypatch):
    parts = arguments(length=13)
    expected = gradients(selective_scan, parts)
    calls = []
    monkeypatch.setattr(module, "stepwise", lambda *given: calls.append(1) or blockwise(*given))
    torch.testing.assert_close(gradients(selective_scan, parts), expected)
    assert calls


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 6, 8, 9, 16, 23])
def test_both_recurrences_agree(length, reverse):
    generator = torch.Generator().manual_seed(0)
    decay = torch.rand(length - 1, 2, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(length, 2, 3, generator=generator, dtype=torch.float64)
    expected = [x[-1] if reverse else x[0]]
    for t in range(1, length):
        here, link = (-1 - t, -t) if reverse else (t, t - 1)
        expected.append(x[here] + decay[link] * expected[-1])
    expected = torch.stack(expected[::-1] if reverse else expected)
    torch.testing.assert_close(blockwise(decay, x, reverse), expected)
    torch.testing.assert_close(stepwise(decay, x.clone(), reverse), expected)


def test_arguments_are_left_as_they_are():
    parts = arguments()
    before = [part.detach().clone() for part in parts]
    gradients(selective_scan, parts)
    torch.testing.assert_close([part.detach() for part in parts], before)


class Written(TorchDispatchMode):
    """Counts the numbers that operations write."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            self.numbers += sum(
                part.numel() for part in tree_leaves(result) if isinstance(part, torch.Tensor)
            )
        return result


def test_the_gradient_is_linear_in_the_length():
    written = []
    for length in (64, 256):
        loss = selective_scan(*arguments(length=length)).sum()
        with Written() as counter:
            loss.backward()
        written.append(counter.numbers)
    assert written[1] < 4.1 * written[0]


def test_states_are_not_kept_for_the_gradient():
    kept = []
    parts = arguments(32, 24, 125, 16, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda part: kept.append(part.numel()) or part, lambda part: part
    ):
        selective_scan(*parts)
    assert sum(kept) < 32 * 24 * 125 * 16 / 2


def test_autocast_changes_the_dtype_of_the_output_alone():
    parts = arguments(dtype=torch.float32)
    low = [part.detach().bfloat16().requires_grad_() for part in parts]
    expected, theirs = gradients(selective_scan, [part.detach().float().requires_grad_() for part in low])
    with torch.autocast("cpu", torch.bfloat16):
        y = selective_scan(*low)
        assert y.dtype == torch.bfloat16
        grads = torch.autograd.grad((y.float().square() + y.float()).sum(), low)
    torch.testing.assert_close(y, expected.bfloat16())
    assert all(part.dtype == torch.bfloat16 for part in grads)
    for ours, theirs_ in zip(grads, theirs, strict=True):
        assert (ours - theirs_).abs().max() < 0.05 * theirs_.abs().max()


class Scan(torch.nn.Module):
    def forward(self, *parts):
        return selective_scan(*parts)


def test_an_exported_program_has_no_loop_over_time():
    parts = tuple(part.detach() for part in arguments(length=250))
    program = torch.export.export(Scan(), parts)
    assert len(program.graph.nodes) < 250  # not 250 steps of several operations
    torch.testing.assert_close(program.module()(*parts), selective_scan(*parts))


def test_it_compiles_without_a_break():
    parts = arguments()
    compiled = torch.compile(selective_scan, backend="eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled, parts), gradients(selective_scan, parts))


def test_shapes_are_known_without_computing():
    parts = [part.detach().to("meta") for part in arguments()]
    assert selective_scan(*parts).shape == parts[0].shape
