"""1D-CNN-ECG-Mamba: tokens, both ways of pooling, residual rules, drop path and export."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.compress.folding import deployed
from core.export import write_program
from core.residual import list_rules
from tasks.ecg.models.mamba import EcgMamba


def small(**options):
    torch.manual_seed(0)
    usual = {
        "width": 16,
        "depth": 2,
        "state": 4,
        "stem": 8,
        "kernels": (7, 7),
        "strides": (2, 2),
        "token": "mean",
    }
    return EcgMamba(12, 5, **{**usual, **options})


def signals(length=100, count=2):
    return torch.randn(count, 12, length, generator=torch.Generator().manual_seed(1))


def tokens_of(model, x):
    seen = []
    hook = model.blocks[0].mixer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(x)
    hook.remove()
    return seen[0]


def test_parameters_by_formula():
    with torch.device("meta"):
        model = EcgMamba(12, 26)
    stem = 128 * (12 * 14 + 1) + 2 * 128 + 384 * (128 * 15 + 1) + 2 * 384
    token, norm, output = 384, 384, 26 * 385
    assert sum(p.numel() for p in model.parameters()) == 24 * 1_043_328 + stem + token + norm + output


@pytest.mark.parametrize(("length", "tokens"), [(100, 25), (101, 26), (250, 63)])
def test_a_token_stands_for_as_many_samples_as_the_strides_say(length, tokens):
    assert tokens_of(small(), signals(length)).shape == (2, tokens, 16)
    assert tokens_of(small(token="middle"), signals(length)).shape == (2, tokens + 1, 16)


def test_the_class_token_stands_in_the_middle_and_is_what_the_output_reads():
    model = small(token="middle").eval()
    read = tokens_of(model, signals())
    normalised = model.token[0, :, 0] / (model.token.square().mean() + 1e-5).sqrt()
    torch.testing.assert_close(read[:, 12], normalised.expand(2, -1))
    with torch.no_grad():
        model.blocks = torch.nn.Identity()
    torch.testing.assert_close(model(signals()), model.output(normalised).expand(2, -1))


@pytest.mark.parametrize("token", ["mean", "middle"])
def test_the_output_hears_both_ends(token):
    model, x = small(token=token).eval(), signals().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x)
    assert (gradient[..., :3].abs().sum((1, 2)) > 0).all() and (
        gradient[..., -3:].abs().sum((1, 2)) > 0
    ).all()


@pytest.mark.parametrize("rule", list_rules())
def test_any_rule_joins_the_blocks(rule):
    model = small(rule=rule, depth=3)
    assert [block.rule.spec.index for block in model.blocks] == [1, 2, 3]
    with torch.no_grad():
        for block in model.blocks:
            for parameter in block.rule.parameters():
                parameter.add_(0.1)
    logits = model(signals())
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for block in model.blocks for p in block.mixer.parameters())


def test_drop_path_grows_over_the_depth_and_acts_in_training_alone():
    model = small(depth=3, drop_path=0.4)
    assert [getattr(block.drop_path, "rate", 0.0) for block in model.blocks] == [0.0, 0.2, 0.4]
    x = signals(count=16)
    with torch.no_grad():
        for block in model.blocks:
            block.mixer.out_proj.weight *= 10
    torch.manual_seed(0)
    first = model(x)
    assert not torch.allclose(first, model(x))
    torch.testing.assert_close(model.eval()(x), model(x))


def test_the_last_maps_start_smaller_the_deeper_it_is():
    one, four = (small(depth=depth).blocks[0].mixer.out_proj.weight.std() for depth in (1, 4))
    assert abs(one / four - 2) < 0.2


def test_the_stream_stays_in_float32_under_autocast():
    model = small().eval()
    seen = []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        low = model(signals())
    assert seen == [torch.float32]
    torch.testing.assert_close(low.float(), model(signals()), rtol=0.05, atol=0.02)


def test_records_do_not_depend_on_their_batch():
    model, x = small().eval(), signals(count=3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_the_stems_norms_fold():
    model, x = small(), signals(count=8)
    model(x)  # statistics
    copy, done = deployed(model)
    assert done.folded == 2
    torch.testing.assert_close(copy(x), model.eval()(x))


@pytest.mark.parametrize(("ending", "token"), [("onnx", "middle"), ("pt2", "mean")])
def test_it_can_be_exported_for_any_number_of_windows(ending, token, tmp_path):
    program, path = small(token=token, depth=1).eval(), tmp_path / f"program.{ending}"
    batch = torch.export.Dim("batch")
    x = signals(64)
    (output,) = write_program(
        program,
        (x,),
        path,
        input_names=["signal"],
        output_names=["logits"],
        dynamic_shapes=({0: batch},),
        metadata={},
    )
    np.testing.assert_allclose(output, program(x).detach(), rtol=1e-4, atol=1e-5)
    more = signals(64, 5)
    if ending == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {"signal": more.numpy()})
    else:
        output = torch.export.load(path).module()(more).detach().numpy()
    np.testing.assert_allclose(output, program(more).detach(), rtol=1e-4, atol=1e-5)
