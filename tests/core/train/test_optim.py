"""Optimisers, schedules, gradient noise, precision and seeds."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from toy_training import PointLearner, point_trainer

from core.config import TrainConfig
from core.errors import ConfigError
from core.train import hardware
from core.train.optim import add_gradient_noise, build_optimizer, lr_factor
from core.train.seeds import derive_seed, generator, rng_state, seed_everything, set_rng_state
from core.train.stacked import Stacked


@pytest.mark.parametrize(
    ("schedule", "total", "warmup", "expected"),
    [
        ("constant", 3, 0, [1, 1, 1]),
        ("constant", 6, 4, [0.25, 0.5, 0.75, 1, 1, 1]),
        ("cosine", 4, 0, [1, 0.8535534, 0.5, 0.1464466]),
        ("cosine", 4, 2, [0.5, 0.8535534, 0.5, 0.1464466]),
        ("thirds", 9, 0, [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
        ("thirds", 1, 0, [1]),
        ("poly", 4, 0, [1, 0.7718895, 0.5358867, 0.2871746]),
        ("sawtooth", 10, 0, [0.5, 1, 1, 0.5358867, 0.5, 1, 1, 0.7718895, 0.5358867, 0.2871746]),
        ("milestones", 8, 0, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("milestones", 8, 2, [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        (
            "one_cycle",
            10,
            0,
            [0.28, 0.76, 1, 0.9504844, 0.8117449, 0.6112605, 0.3887395, 0.1882551, 0.0495156, 0],
        ),
        ("flat_cosine", 8, 2, [0.5, 1, 1, 1, 1, 0.8608757, 0.525, 0.1891243]),
    ],
)
def test_schedules(schedule, total, warmup, expected):
    config = TrainConfig(schedule=schedule, warmup_steps=warmup, teeth=[0.2, 0.4, 0.6])
    assert [lr_factor(step, total, config) for step in range(total)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.001), (499, 0.5), (999, 1), (69_300, 1), (103_950, 0.525), (138_599, 0.05), (138_600, 0.05)],
)
def test_flat_cosine_of_rtmdet(step, expected):
    """300 epochs of COCO: warm-up of 1000 steps, flat to epoch 150, a twentieth at the end."""
    config = TrainConfig(schedule="flat_cosine", warmup_steps=1000)
    assert lr_factor(step, 138_600, config) == pytest.approx(expected, abs=1e-7)


def test_flat_cosine_with_other_shares():
    cosine = TrainConfig(schedule="flat_cosine", flat=0.0, final_lr=0.0)
    factors = [lr_factor(step, 7, cosine) for step in range(7)]
    assert factors == pytest.approx([lr_factor(step, 7, TrainConfig(schedule="cosine")) for step in range(7)])
    # Flat to step 7.5, of which 2.5 are left: 0.2, 0.6 of half a cosine from 1 to 0.5.
    late = TrainConfig(schedule="flat_cosine", flat=0.75, final_lr=0.5)
    expected = [1, 0.9522542, 0.6727458]
    assert [lr_factor(step, 10, late) for step in (7, 8, 9)] == pytest.approx(expected)


def test_the_pretrained_part_waits_in_the_first_tooth():
    config = TrainConfig(schedule="sawtooth", teeth=[0.2, 0.4, 0.6])
    late = [lr_factor(step, 10, config, late=True) for step in range(10)]
    assert late[:4] == [0, 0, 0, 0] and late[4:] == [lr_factor(step, 10, config) for step in range(4, 10)]


class TwoParts(PointLearner):
    late = ("0",)

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def test_sawtooth_groups_parameters_by_the_part_they_belong_to():
    learner = TwoParts()
    groups = build_optimizer(learner, TrainConfig(schedule="sawtooth")).param_groups
    late = {id(p) for group in groups if group["late"] for p in group["params"]}
    assert late == {id(p) for p in learner.model[0].parameters()}
    with pytest.raises(ConfigError, match="pre-trained part"):
        build_optimizer(PointLearner(), TrainConfig(schedule="sawtooth"))


class Decaying(nn.Module):
    undecayed = ("rates",)

    def __init__(self):
        super().__init__()
        self.rates = nn.Parameter(torch.ones(2, 3))
        self.weight = nn.Parameter(torch.ones(2, 3))


def test_a_module_names_matrices_without_weight_decay():
    learner = nn.Module()
    learner.model = Decaying()
    groups = build_optimizer(learner, TrainConfig(optimizer="adamw", weight_decay=0.1)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decay == {id(learner.model.rates): 0.0, id(learner.model.weight): 0.1}


def test_momentum_reaches_sgd():
    config = TrainConfig(optimizer="sgd", momentum=0.99)
    assert build_optimizer(PointLearner(), config).param_groups[0]["momentum"] == 0.99


@pytest.mark.parametrize(("step", "std"), [(0, 0.547723), (10, 0.283255), (1000, 0.081930)])
def test_gradient_noise_follows_the_paper(step, std):
    """Standard deviations of eta = 0.3 in equation 1 of arXiv:1511.06807, by hand."""
    layer = nn.Linear(400, 400)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    add_gradient_noise(layer, 0.3, step, seed=1)
    assert layer.weight.grad.std().item() == pytest.approx(std, rel=0.01)
    assert abs(layer.weight.grad.mean().item()) < 4 * std / 400


def test_gradient_noise_of_zero_and_of_parameters_without_gradient():
    layer = nn.Linear(3, 2)
    layer.weight.grad = torch.ones_like(layer.weight)
    add_gradient_noise(layer, 0.0, 0, seed=1)
    assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))
    assert layer.bias.grad is None


def test_gradient_noise_is_named_by_seed_and_step():
    def noise(seed, step):
        layer = nn.Linear(3, 2)
        layer.weight.grad = torch.zeros_like(layer.weight)
        add_gradient_noise(layer, 1.0, step, seed)
        return layer.weight.grad

    assert torch.equal(noise(1, 5), noise(1, 5))
    assert not torch.equal(noise(1, 5), noise(2, 5))
    assert not torch.equal(noise(1, 5), noise(1, 6) * noise(1, 5).std() / noise(1, 6).std())


@pytest.mark.parametrize("stacked", [False, True])
def test_weight_decay_is_for_matrices_alone(stacked):
    """A stack of two biases is a matrix in shape; it is a bias all the same."""
    models = [nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)) for _ in range(2)]
    model = Stacked(models) if stacked else models[0]
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0.1, optimizer="adamw"))
    sizes = {
        group["weight_decay"]: sorted(p.numel() for p in group["params"]) for group in optimizer.param_groups
    }
    times = 2 if stacked else 1
    assert sizes == {0.1: [4 * times, 12 * times], 0.0: sorted(n * times for n in (4, 4, 4, 1))}


class Gain(nn.Module):
    lr_scale = 0.1

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.inner = nn.Linear(4, 4)  # belongs to the layer and not to this module

    def forward(self, x):
        return self.gain * self.inner(x)


@pytest.mark.parametrize("form", ["plain", "stacked", "copied", "loaded"])
def test_modules_say_how_fast_their_parameters_learn(form):
    models = [nn.Sequential(Gain(), nn.Linear(4, 1)) for _ in range(2)]
    model = Stacked(models) if form != "plain" else models[0]
    if form == "copied":
        model = copy.deepcopy(model)
    config = TrainConfig(lr=0.5, weight_decay=0.1, optimizer="sgd")
    optimizer = build_optimizer(model, config)
    if form == "loaded":
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    times = 1 if form == "plain" else 2
    found = [
        (g["lr"], g["lr_scale"], g["weight_decay"], sum(p.numel() for p in g["params"]))
        for g in optimizer.param_groups
    ]
    assert found == [(0.5, 1.0, 0.1, 20 * times), (0.5, 1.0, 0.0, 5 * times), (0.05, 0.1, 0.0, times)]


def test_the_loop_scales_the_schedule_of_each_group(tmp_path):
    learner = PointLearner(dropout=0.0)
    learner.model.append(Bias())
    config = TrainConfig(batch_size=4, lr=0.01, schedule="constant", warmup_steps=4)
    before = learner.model[-1].bias.item()
    trainer = point_trainer(tmp_path, config, steps=2, learner=learner)
    trainer.fit()
    assert [g["lr"] for g in trainer.optimizer.param_groups] == pytest.approx([0.005, 0.005, 0.0005])
    # Adam's first steps are as long as the learning rate, and the target is above the output.
    assert 0 < abs(learner.model[-1].bias.item() - before) <= 0.1 * (0.0025 + 0.005) * 1.01


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lamb"])
def test_the_rate_for_another_batch_reaches_the_optimiser(name, tmp_path):
    learner = PointLearner(dropout=0.0)
    learner.model.append(Bias())
    config = TrainConfig(
        optimizer=name, batch_size=4, accumulate=2, lr=0.04, lr_base_batch=32, schedule="constant"
    )
    trainer = point_trainer(tmp_path, config, steps=2, learner=learner)
    rates = [0.01, 0.01, 0.001]  # 0.04 * 8 / 32
    assert trainer.optimizer.defaults["lr"] == pytest.approx(0.01)
    assert [g["lr"] for g in trainer.optimizer.param_groups] == pytest.approx(rates)
    trainer.fit()
    assert [g["lr"] for g in trainer.optimizer.param_groups] == pytest.approx(rates)


def test_a_rate_for_another_batch_trains_as_the_rate_itself(tmp_path):
    learners = []
    for changes in ({"lr": 0.08, "lr_base_batch": 16}, {"lr": 0.02}, {"lr": 0.08}):
        learners.append(PointLearner(dropout=0.0))
        config = TrainConfig(batch_size=4, optimizer="sgd", **changes)
        point_trainer(tmp_path / str(len(learners)), config, steps=3, learner=learners[-1]).fit()
    scaled, same, other = (learner.model[0].weight for learner in learners)
    assert torch.equal(scaled, same) and not torch.allclose(scaled, other)


class Bias(nn.Module):
    lr_scale = 0.1

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.bias


def test_frozen_parameters_are_not_in_the_optimiser():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    optimizer = build_optimizer(layer, TrainConfig())
    assert [p for group in optimizer.param_groups for p in group["params"]] == [layer.weight]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # One step with gradient 1 from weight 2 at lr 0.1 and decay 0.5.
        ("adam", 2 - 0.1),  # L2 changes the size of the gradient, not its sign
        ("adamw", 2 * (1 - 0.1 * 0.5) - 0.1),
        ("lamb", 2 - 0.1 * 2),  # as far as lr times the weight, whatever the gradient and the decay
        ("sgd", 2 - 0.1 * (1 + 0.5 * 2) * 1.9),  # Nesterov: gradient and 0.9 of the first velocity
    ],
)
def test_first_step_of_each_optimiser(name, expected):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    layer.weight.grad = torch.ones(1, 1)
    build_optimizer(layer, TrainConfig(optimizer=name, lr=0.1, weight_decay=0.5)).step()
    assert layer.weight.item() == pytest.approx(expected, abs=1e-5)


# ---------------------------------------------------------------- hardware


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx512f avx2", False)],
)
def test_instructions_of_the_cpu(flags, expected, monkeypatch):
    text = f"processor : 0\nflags\t\t: {flags}\n"
    monkeypatch.setattr(hardware, "open", lambda *a, **k: io.StringIO(text), raising=False)
    assert hardware.cpu_has_bf16() is expected


def test_precision_is_chosen_from_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    assert hardware.choose_precision("auto", cpu)[0] == torch.float32
    assert hardware.choose_precision("fp32", cpu)[0] == torch.float32
    with pytest.raises(ConfigError, match=r"no bfloat16 instructions.*use fp32 or auto"):
        hardware.choose_precision("bf16", cpu)
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    assert hardware.choose_precision("auto", cpu)[0] == torch.bfloat16
    assert hardware.choose_precision("bf16", cpu)[0] == torch.bfloat16
    assert hardware.choose_precision("fp32", cpu)[0] == torch.float32


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "meta", ""])
def test_unknown_devices(name):
    with pytest.raises(ConfigError, match="is not a device; use auto, cpu, cuda or cuda:0"):
        hardware.choose_device(name)


def test_gpus_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware.choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="sees no GPU here"):
        hardware.choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert hardware.choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=r"2 GPU\(s\)"):
        hardware.choose_device("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert hardware.choose_device("auto") == torch.device("cuda", 1)


def test_the_allocator_can_be_left_alone(monkeypatch):
    monkeypatch.setenv("SKIPWAY_MALLOC", "default")
    assert hardware.keep_large_allocations() is False


# ---------------------------------------------------------------- seeds


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "weights", 12) == 5201219038014535009
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")
    assert derive_seed(1, "a") != derive_seed(0, "a")
    assert 0 <= derive_seed(5) < 2**63


def test_streams_do_not_depend_on_the_global_generator():
    torch.manual_seed(0)
    a = torch.rand(3, generator=generator(1, "x"))
    torch.rand(5)
    assert torch.equal(a, torch.rand(3, generator=generator(1, "x")))


def test_generators_are_restored(tmp_path):
    import random

    import numpy as np

    def draw():
        return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()

    seed_everything(3, "x")
    np.random.randn()  # leaves a second Gaussian in the cache
    torch.save(rng_state(), tmp_path / "rng.pt")
    expected = draw()
    draw()
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draw() == expected
    seed_everything(3, "x")
    np.random.randn()
    assert draw() == expected
    assert math.isfinite(sum(expected))
