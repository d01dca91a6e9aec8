"""Students learn what the teacher says of the very same inputs."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import PointLearner, point_trainer, window_trainer

from core.config import TrainConfig
from core.errors import ConfigError
from core.train.distill import DISTANCES, Distilled, distilled, kl, mse, outermost_calls, relative
from core.train.learner import Learner
from core.train.stacked import Stacked

LOG3 = math.log(3.0)


def test_kl_by_hand():
    """Teacher (3/4, 1/4), student (1/2, 1/2), then logits of twice the size at temperature 2."""
    teacher, student = torch.tensor([[LOG3, 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-5)
    assert kl(student, 2 * teacher, 2.0).item() == pytest.approx(4 * expected, rel=1e-5)
    maps = [x[:, :, None, None].expand(1, 2, 3, 5) for x in (student, teacher)]
    assert kl(*maps, 1.0).item() == pytest.approx(expected, rel=1e-5)
    assert kl(teacher, teacher, 1.0).item() == pytest.approx(0, abs=1e-7)


def test_squared_distances_by_hand():
    student, teacher = torch.tensor([[1.0, 3.0], [100.0, 100.0]]), torch.tensor([[1.0, 1.0], [200.0, 200.0]])
    assert mse(student, teacher, 1.0).item() == pytest.approx((4 + 2e4) / 4)
    assert relative(student, teacher, 1.0).item() == pytest.approx((4 + 2 * 0.25) / 4)


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "kl"])
def test_the_gradient_of_an_equal_student_is_zero(name):
    student = torch.randn(3, 4, requires_grad=True)
    DISTANCES[name](student, student.detach().clone(), 1.0).backward()
    assert student.grad.abs().max() == 0


def test_one_class_has_no_probabilities():
    with pytest.raises(ConfigError, match="use mse"):
        kl(torch.zeros(3, 1), torch.zeros(3, 1), 1.0)


class Noisy(Learner):
    """Sees a random view of its batch; two outputs, one of them in a list."""

    def __init__(self, model):
        super().__init__(model)
        self.views = []

    def loss_and_metrics(self, batch):
        self.views.append(batch["x"] + torch.randn_like(batch["x"]))
        return self.model(self.views[-1]).square().mean(), {}


def test_the_mixture_and_the_same_view():
    torch.manual_seed(0)
    student, teacher = nn.Linear(5, 3), nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    learner = Noisy(student)
    both = Distilled(learner, teacher, weight=0.3, temperature=2.0)
    loss, curves = both({"x": torch.zeros(8, 5)})
    view = learner.views[0]
    task = student(view).square().mean()
    distance = kl(student(view), teacher.eval()(view), 2.0)
    torch.testing.assert_close(loss, 0.7 * task + 0.3 * distance)
    assert curves["task_loss"] == task
    torch.testing.assert_close(curves["teacher_distance"], distance.detach())
    loss.backward()
    assert student.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert not student._forward_hooks
    assert not student._forward_pre_hooks


def test_the_teacher_is_in_no_checkpoint_and_stays_in_evaluation():
    teacher = nn.Sequential(nn.Linear(5, 1), nn.BatchNorm1d(1))
    both = Distilled(PointLearner(), teacher, distance="mse").train()
    assert not teacher.training
    assert both.state_dict().keys() == {f"learner.{name}" for name in both.learner.state_dict()}
    assert len(list(both.parameters())) == len(list(both.learner.parameters()))
    both({"x": torch.randn(4, 5), "y": torch.zeros(4, 1)})
    assert teacher[1].num_batches_tracked == 0
    both.double()
    assert teacher[0].weight.dtype == torch.float64


def test_a_student_with_a_teacher_alone_becomes_the_teacher(tmp_path):
    student = PointLearner(dropout=0.0)
    torch.manual_seed(5)
    teacher = nn.Linear(5, 1)
    config = TrainConfig(
        batch_size=4,
        lr=0.03,
        teacher_weight=1.0,
        teacher_distance="mse",
        ema=0.5,
        validate_every=50,
        patience=9,
    )
    x = torch.randn(50, 5)
    before = mse(student.model(x), teacher(x), 1.0)
    both = distilled(student, teacher, config)
    point_trainer(tmp_path, config, steps=200, learner=both).fit()
    assert mse(student.model(x), teacher(x), 1.0) < 0.1 * before
    assert len(student.validated) == 4, "the student is validated"
    assert both.suspects({"ids": ["a"]}) == ["a"]


class Parts(Learner):
    """Calls parts of its model and never the model, as ensembles do."""

    def loss_and_metrics(self, batch):
        outputs = [part(batch["x"]) for part in self.model.parts]
        return sum(out.mean() for out in outputs), {}


def test_parts_that_are_called_in_place_of_the_model():
    model, teacher = nn.Module(), nn.Module()
    model.parts = nn.ModuleList([nn.Sequential(nn.Linear(5, 2), nn.ReLU()), nn.Linear(5, 4)])
    teacher.parts = nn.ModuleList([nn.Linear(5, 2), nn.Linear(5, 4)])
    x = torch.randn(6, 5)
    loss, _ = Distilled(Parts(model), teacher, 1.0, distance="mse")({"x": x})
    expected = [mse(s(x), t(x), 1.0) for s, t in zip(model.parts, teacher.parts, strict=True)]
    torch.testing.assert_close(loss, sum(expected) / 2)
    with pytest.raises(ConfigError, match=r"no part 'parts\.0'"):
        Distilled(Parts(model), nn.Linear(5, 2))({"x": x})


def test_a_teacher_of_other_inputs_is_refused():
    with pytest.raises(ConfigError, match=r"takes no inputs of shapes \[\(4, 5\)\].*choose a teacher"):
        Distilled(Parts(parts_of(nn.Linear(5, 2))), parts_of(nn.Linear(6, 2)))({"x": torch.ones(4, 5)})


def parts_of(*parts):
    model = nn.Module()
    model.parts = nn.ModuleList(parts)
    return model


def test_calls_from_within_are_not_collected():
    model = nn.Sequential(nn.Linear(5, 2), nn.ReLU())
    with outermost_calls(model) as calls:
        model(torch.zeros(1, 5))
        model[0](torch.ones(1, 5))
    assert [call.path for call in calls] == ["", "0"]


def test_stacked_members_add_up():
    torch.manual_seed(0)
    members, teachers = ([nn.Linear(5, 3) for _ in range(2)] for _ in range(2))
    model, teacher = Stacked(members), Stacked(teachers)
    x = torch.randn(2, 6, 5)

    class Sum(Learner):
        def loss_and_metrics(self, batch):
            return self.model(batch["x"]).sum(), {}

    loss, _ = Distilled(Sum(model), teacher, weight=1.0)({"x": x})
    expected = [kl(members[e](x[e]), teachers[e](x[e]), 1.0) for e in range(2)]
    torch.testing.assert_close(loss, sum(expected))


@pytest.mark.parametrize(
    "options", [{"weight": -0.1}, {"weight": 1.1}, {"temperature": 0.0}, {"distance": "kll"}]
)
def test_wrong_options(options):
    with pytest.raises(ConfigError) as caught:
        Distilled(PointLearner(), nn.Linear(5, 1), **options)
    assert "\n" not in str(caught.value)


def test_a_teacher_of_another_size():
    both = Distilled(PointLearner(), nn.Linear(5, 2), distance="mse")
    with pytest.raises(ConfigError, match=r"shapes \[\(4, 2\)\] and this model's \[\(4, 1\)\]"):
        both({"x": torch.randn(4, 5), "y": torch.zeros(4, 1)})


def test_a_teacher_is_not_forgotten(tmp_path):
    with pytest.raises(ConfigError, match=r"use core\.train\.distill"):
        point_trainer(tmp_path, TrainConfig(batch_size=4, teacher="runs/x"))


# ---------------------------------------------------------------- forecasting


def ensemble(lookbacks=(1, 2), seed=0, repeats=1):
    from tasks.forecasting.config import GenericConfig
    from tasks.forecasting.ensemble import Ensemble

    model = GenericConfig(
        lookbacks=list(lookbacks), losses=["smape", "mase"], repeats=repeats, blocks=2, width=6, layers=2
    )
    return Ensemble(model, horizon=3, seed=seed)


@pytest.fixture
def package(tmp_path):
    from core.track.package import load_package, save_package
    from tasks.forecasting.build import build_package
    from tasks.forecasting.config import ForecastingConfig
    from tasks.forecasting.data.series import Group, SeriesData
    from tasks.forecasting.ensemble import EnsembleLearner

    history = [20 + np.arange(12.0)]
    group = Group("Yearly", "Y", 1, 3, ["a"], history, None)
    learner = EnsembleLearner(ensemble(seed=9, repeats=2), 1)
    data = SeriesData("toy", [group])
    packaged = build_package(ForecastingConfig(), data, {"Yearly": learner}, "mase")
    assert asdict(packaged)
    return load_package(save_package(tmp_path / "package", packaged, "forecasting"))


def test_an_ensemble_learns_the_median_of_another(package, tmp_path):
    from tasks.forecasting.task import TASK

    teacher = TASK.modules(package)["Yearly"]
    config = TrainConfig(
        batch_size=8, lr=0.01, teacher_weight=0.5, teacher_distance="relative", grad_clip=1.0
    )
    trainer = window_trainer(tmp_path, config, steps=3)
    student = trainer.learner
    trainer = type(trainer)(
        distilled(student, teacher, config), trainer.source, config, folder=tmp_path, total_steps=3, seed=1
    )
    batch = next(trainer.source.batches(0, torch.device("cpu")))
    _, curves = trainer.learner(batch)
    stacks = zip(student.model.groups, ensemble(seed=9, repeats=2).groups, batch["windows"], strict=True)
    expected = 0.0
    for stack, members, (x, mask, *_) in stacks:
        for e in range(2):
            answers = [members.member(i)(x[e], mask[e]) for i in range(4)]
            median = torch.from_numpy(np.median(torch.stack(answers).detach().numpy(), axis=0))
            expected += relative(stack.member(e)(x[e], mask[e]), median, 1.0).item()
    assert curves["teacher_distance"].item() == pytest.approx(expected, rel=1e-3)
    assert trainer.fit().steps == 3


def test_a_teacher_of_other_lookbacks_is_one_line(tmp_path):
    from tasks.forecasting.ensemble import MedianTeacher

    student = window_trainer(tmp_path, TrainConfig(batch_size=8))
    batch = next(student.source.batches(0, torch.device("cpu")))
    both = Distilled(student.learner, MedianTeacher(ensemble((2, 1))), distance="mse")
    with pytest.raises(ConfigError, match=r"reads windows of 6 steps and this model of 3; give both"):
        both(batch)
    short = Distilled(student.learner, MedianTeacher(ensemble((1,))), distance="mse")
    with pytest.raises(ConfigError, match=r"no part 'groups\.1'"):
        short(batch)


def test_tasks_without_teachers_say_so():
    from core.task import Task

    class Other(Task):
        name = "other"

    Other.__abstractmethods__ = frozenset()
    with pytest.raises(ConfigError, match=r"--train\.teacher: the task other cannot learn from a teacher"):
        Other().modules(None)
