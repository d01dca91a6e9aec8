"""Schedules of drop path, the warm-up of the average, and the terms that are added to every loss."""

import math

import pytest
import torch
from torch import nn
from toy_training import PointLearner, TechniqueLearner, point_trainer

from core.config import TrainConfig
from core.errors import ConfigError
from core.residual import DropPath, Residual, create_rule
from core.residual.drop import set_drop_scale
from core.train.ema import build_average, exponential_decay, for_steps, warmed_decay
from core.train.loop import Observer
from core.train.optim import build_optimizer
from core.train.penalties import matrices, orthonormality
from core.train.stacked import Stacked, all_modules


def config(**changes):
    return TrainConfig(**({"batch_size": 4, "lr": 0.01, "schedule": "constant"} | changes))


# ---------------------------------------------------------------- drop path over time


def test_drop_path_is_scaled_in_training_alone():
    torch.manual_seed(0)
    drop, x = DropPath(0.8), torch.ones(4000, 1)
    set_drop_scale([drop, nn.Linear(1, 1)], 0.25)
    out = drop(x)
    assert (out == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert out[out != 0].unique().tolist() == pytest.approx([1.25])
    assert torch.equal(drop.eval()(x), x)
    set_drop_scale([drop.train()], 0.0)
    assert torch.equal(drop(x), x)
    assert drop.state_dict() == {}


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_the_rule_stochastic_depth_is_scaled(mode):
    rule = create_rule("stochastic_depth", index=2, depth=4, survival=0.2, mode=mode, dims=0)
    assert rule.keep == pytest.approx(0.6)
    set_drop_scale(rule.modules(), 0.5)
    assert rule.keep == pytest.approx(0.8)
    rule.eval()
    expected = {"row": 2.0, "batch": 1.8}[mode]
    assert rule(torch.ones(3, 1), torch.ones(3, 1)).unique().item() == pytest.approx(expected)
    assert rule.state_dict() == {}


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [1.0] * 4), ("linear", [0, 0.25, 0.5, 0.75])]
)
def test_the_loop_raises_the_rate_over_the_steps(schedule, expected, tmp_path):
    learner = TechniqueLearner()
    learner.unused = Stacked(
        [nn.Sequential(DropPath(0.1), nn.Linear(2, 2))] * 2
    )  # its template is no submodule
    drops = [m for m in all_modules(learner) if hasattr(m, "drop_scale")]
    assert len(drops) > 2
    seen = []
    observer = Observer(advance=lambda done, total: seen.append({m.drop_scale for m in drops}))
    options = config(drop_path_schedule=schedule)
    point_trainer(tmp_path, options, steps=4, learner=learner, observer=observer).fit()
    assert seen[1:] == [{scale} for scale in expected]
    assert {m.drop_scale for m in drops} == {1.0}, "a batch-wise rule tests at its full rate"


# ---------------------------------------------------------------- warm-up of the average


def test_the_decay_warms_up():
    assert [warmed_decay(0.9, t) for t in (0, 1, 8, 80, 81, 1000)] == pytest.approx(
        [0.1, 2 / 11, 0.5, 0.9, 0.9, 0.9]
    )


def test_ema_with_warm_up_by_hand(tmp_path):
    learner = PointLearner(dropout=0.0)
    weights = []

    def advance(done, total):
        weights.append({name: value.clone() for name, value in learner.model.state_dict().items()})

    options = config(ema=0.3, ema_warmup=True)
    point_trainer(tmp_path, options, steps=6, learner=learner, observer=Observer(advance)).fit()
    average = weights[1]
    for updates in range(1, 6):
        decay = min(0.3, (1 + updates) / (10 + updates))
        average = {n: decay * v + (1 - decay) * weights[updates + 1][n] for n, v in average.items()}
    for name, value in learner.model.state_dict().items():
        torch.testing.assert_close(value, average[name])


@pytest.mark.parametrize(
    ("updates", "momentum"), [(0, 0.99950022), (2000, 0.36782200), (20_000, 0.00024537), (10**6, 0.0002)]
)
def test_the_decay_fades_in_as_in_rtmdet(updates, momentum):
    assert 1 - exponential_decay(0.9998, 2000, updates) == pytest.approx(momentum, abs=1e-8)


@pytest.mark.parametrize(
    ("total", "decay", "gamma"),
    [
        (200_000, 0.9998, 2000),
        (138_600, 0.9998, 2000),
        (69_300, 0.9996, 1000),
        (1386, 0.98, 20),
        (100, 0.9, 1.4430014),  # 1 - decay would be 0.2772
        (10, 0.9, 1),
    ],
)
def test_the_average_covers_the_same_share_of_a_short_training(total, decay, gamma):
    assert for_steps(0.9998, 2000, total, 138_600) == pytest.approx((decay, gamma))
    assert for_steps(0.9998, 2000, total, None) == (0.9998, 2000)


def test_a_short_training_never_averages_longer():
    assert for_steps(0.5, None, 10, 1000) == (0.5, None)


def test_ema_with_gamma_by_hand(tmp_path):
    """Half of the steps that the options are for: 1 - 0.96 doubles, and gamma 6 becomes 3."""
    learner = PointLearner(dropout=0.0)
    weights = []

    def advance(done, total):
        weights.append({name: value.clone() for name, value in learner.model.state_dict().items()})

    options = config(ema=0.96, ema_gamma=6.0, ema_steps=12)
    point_trainer(tmp_path, options, steps=6, learner=learner, observer=Observer(advance)).fit()
    average = weights[1]
    for updates in range(1, 6):
        momentum = 0.08 + 0.92 * math.exp(-(1 + updates) / 3)
        average = {n: (1 - momentum) * v + momentum * weights[updates + 1][n] for n, v in average.items()}
    for name, value in learner.model.state_dict().items():
        torch.testing.assert_close(value, average[name])


def test_buffers_are_copied_into_the_average():
    model = nn.BatchNorm1d(2)
    average = build_average(model, TrainConfig(ema=0.9, ema_gamma=10.0), total=5)
    for value in (1.0, 2.0, 3.0):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(value)
        average.update_parameters(model)
    assert torch.equal(average.module.running_mean, model.running_mean)
    assert torch.all((average.module.weight > 1) & (average.module.weight < 3))


# ---------------------------------------------------------------- penalties


def test_orthonormal_weights_cost_nothing():
    model = nn.Sequential(nn.Linear(9, 4), nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Conv2d(2, 5, 3))
    for weight in (model[0].weight, model[1].weight, model[3].weight):
        nn.init.orthogonal_(weight)
    assert orthonormality(model).item() == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        model[3].weight.mul_(2)  # W W^T = 4 I of size 5
    assert orthonormality(model).item() == pytest.approx(0.5 * 9 * 5, rel=1e-5)


def test_the_penalty_by_hand_and_its_gradient():
    layer = nn.Linear(2, 3, bias=False).double()
    weight = torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    layer.weight = nn.Parameter(weight)
    # Three filters of two inputs: W^T W = [[2, 2], [2, 5]].
    value = orthonormality(layer)
    assert value.item() == pytest.approx(0.5 * (1 + 4 + 4 + 16))
    value.backward()
    gram = weight.T @ weight - torch.eye(2)
    torch.testing.assert_close(layer.weight.grad, 2 * weight @ gram, rtol=1e-5, atol=1e-5)


def test_members_of_a_stack_add_up():
    members = [nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)) for _ in range(3)]
    expected = sum(orthonormality(member).item() for member in members)
    stack = nn.Sequential(Stacked(members))
    assert orthonormality(stack).item() == pytest.approx(expected, rel=1e-5)
    assert [tuple(m.shape) for m in matrices(stack)] == [(3, 6, 4), (3, 2, 6)]


def test_a_model_without_matrices_is_one_line():
    with pytest.raises(ConfigError, match=r"--train\.orthonormal: this model has no convolution"):
        orthonormality(nn.BatchNorm1d(3))
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ConfigError):
        orthonormality(frozen)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loop_adds_the_penalty(accumulate, tmp_path):
    """Without data, a step of gradient descent is a step down the penalty."""

    class Silent(PointLearner):
        def loss_and_metrics(self, batch):
            return 0.0 * self.model(batch["x"]).sum(), {}

    learner, logs = Silent(dropout=0.0), []
    before = orthonormality(learner)
    before.backward()
    expected = [p.detach() - 0.01 * 1.9 * 0.3 * p.grad for p in learner.parameters() if p.ndim > 1]
    options = config(optimizer="sgd", orthonormal=0.3, log_every=1, accumulate=accumulate)
    observer = Observer(log=lambda values, step: logs.append(values))
    point_trainer(tmp_path, options, steps=1, learner=learner, observer=observer).fit()
    for weight, target in zip([p for p in learner.parameters() if p.ndim > 1], expected, strict=True):
        torch.testing.assert_close(weight, target)
    assert logs[0]["orthonormal"] == pytest.approx(0.3 * before.item(), rel=1e-5)
    assert logs[0]["loss"] == pytest.approx(logs[0]["orthonormal"], rel=1e-5)


def test_open_gates_cost(tmp_path):
    """A cost far above the loss closes the gates; the curves say what it was."""

    def run(cost):
        torch.manual_seed(0)
        learner = PointLearner(dropout=0.0)
        learner.model = nn.Sequential(Residual(nn.Linear(5, 5), "gated", channels=5, dims=0), nn.Linear(5, 1))
        logs = []
        observer = Observer(log=lambda values, step: logs.append(values))
        options = config(gate_cost=cost, log_every=1, lr=0.05)
        point_trainer(tmp_path / str(cost), options, steps=30, learner=learner, observer=observer).fit()
        return [values.get("gate_cost") for values in logs]

    costs = run(100.0)
    assert 0 < costs[0] < 100
    assert costs[-1] < 0.5 * costs[0]
    assert run(0.0) == [None] * 30


def test_gates_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no gates"):
        point_trainer(tmp_path, config(gate_cost=1.0)).fit()


def test_nothing_is_added_by_default(tmp_path):
    learner = PointLearner(dropout=0.0)
    logs = []
    observer = Observer(log=lambda values, step: logs.append(values))
    trainer = point_trainer(tmp_path, config(log_every=1), steps=1, learner=learner, observer=observer)
    assert trainer.average is None
    trainer.fit()
    assert logs[0].keys() == {"loss", "mae", "lr"}
    assert math.isfinite(logs[0]["loss"])
    assert [g["lr_scale"] for g in build_optimizer(learner, config()).param_groups] == [1.0, 1.0]
