"""Parts of a model that do not learn."""

import pytest
import torch
from torch import nn
from toy_training import PointLearner, point_trainer, technique_trainer, window_trainer

from core.config import TrainConfig
from core.errors import ConfigError
from core.train.freeze import freeze, frozen_modules, train_mode
from core.train.loop import Observer
from core.train.start import start_from


def config(**changes):
    return TrainConfig(**({"batch_size": 4, "lr": 0.01, "schedule": "constant"} | changes))


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, model):
    """Names of the tensors that a training changed."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


NORM = {"3.weight", "3.bias", "3.running_mean", "3.running_var", "3.num_batches_tracked"}
LINEAR = {"0.weight", "0.bias", "4.weight", "4.bias"}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "lamb"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], LINEAR | NORM),
        (["3"], LINEAR),
        (["0", "3"], {"4.weight", "4.bias"}),
        (["4"], NORM | LINEAR - {"4.weight", "4.bias"}),
    ],
)
def test_frozen_modules_keep_weights_and_statistics_and_the_others_learn(
    names, expected, optimizer, tmp_path
):
    """With decay, noise and clipping, which reach all that has a gradient, and with validations in between."""
    learner = PointLearner()
    before = copy_of(learner.model)
    options = config(
        optimizer=optimizer, freeze=names, weight_decay=0.1, grad_noise=0.01, grad_clip=1.0, validate_every=2
    )
    point_trainer(tmp_path, options, steps=6, learner=learner).fit()
    assert changed(before, learner.model) == expected


def test_the_average_of_what_is_frozen_is_what_it_was(tmp_path):
    learner = PointLearner()
    before = copy_of(learner.model)
    options = config(freeze=["0", "3"], ema=0.9, ema_gamma=3.0, validate_every=2, patience=9)
    point_trainer(tmp_path, options, steps=6, learner=learner).fit()
    assert changed(before, learner.model) == {"4.weight", "4.bias"}


def test_frozen_modules_are_in_evaluation_mode_in_every_step(tmp_path):
    class Watched(PointLearner):
        def loss_and_metrics(self, batch):
            modes.append([module.training for module in self.model])
            return super().loss_and_metrics(batch)

    modes = []
    learner = Watched()
    trainer = point_trainer(tmp_path, config(freeze=["2", "3"], validate_every=2), steps=5, learner=learner)
    trainer.fit()
    assert modes == [[True, True, False, False, True]] * 5
    assert len(learner.validated) == 3
    assert not any(module.training for module in learner.modules())


def test_the_optimiser_holds_nothing_of_frozen_modules(tmp_path):
    learner = PointLearner()
    trainer = point_trainer(tmp_path, config(freeze=["0", "3"]), learner=learner)
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in learner.model[4].parameters()}


def test_parts_of_parts_can_be_frozen():
    model = nn.ModuleDict({"stem": nn.Linear(2, 2), "body": nn.Sequential(nn.Linear(2, 2), nn.Dropout())})
    frozen = freeze(model, ["body.0"])
    assert frozen == [model["body"][0]]
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        "body.0.weight",
        "body.0.bias",
    ]
    model.eval()
    train_mode(model, frozen)
    assert [name for name, module in model.named_modules() if not module.training] == ["body.0"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["backbon"],
            "--train.freeze backbon is no module of this model. Did you mean 'backbone'? Its parts are backbone, head",
        ),
        (
            ["backbone", "backbone.O"],
            "--train.freeze backbone.O is no module of this model. Did you mean 'backbone.0'?",
        ),
        (
            ["head", "backbone"],
            "--train.freeze [head, backbone] leaves nothing that learns; name fewer modules",
        ),
        ([""], "leaves nothing that learns"),
    ],
)
def test_names_that_cannot_be_frozen_are_one_line(names, message):
    model = nn.Sequential()
    model.backbone, model.head = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 1)
    with pytest.raises(ConfigError) as caught:
        freeze(model, names)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert all(p.requires_grad for p in model.parameters()), "nothing is frozen by a list that is wrong"


def test_what_never_learned_does_not_count_as_left_over():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ConfigError, match="leaves nothing"):
        frozen_modules(model, ["0"])
    assert frozen_modules(model, []) == []


def test_the_trainer_refuses_a_wrong_name(tmp_path):
    with pytest.raises(ConfigError, match=r"--train\.freeze encoder is no module"):
        point_trainer(tmp_path, config(freeze=["encoder"]))


def test_a_checkpoint_of_other_frozen_modules_is_refused(tmp_path):
    point_trainer(tmp_path, config(freeze=["0"]), steps=6).fit()
    with pytest.raises(ConfigError, match="resume with the run's own configuration"):
        point_trainer(tmp_path, config(freeze=["0", "3"]), steps=6).fit()


def test_what_a_training_starts_from_stays_where_it_is_frozen(tmp_path):
    trained, learner = PointLearner(), PointLearner()
    point_trainer(tmp_path / "a", config(), steps=3, learner=trained).fit()
    start_from(learner.model, trained.model.state_dict(), "a")
    point_trainer(tmp_path / "b", config(freeze=["0", "3"]), steps=3, learner=learner).fit()
    assert changed(trained.model.state_dict(), learner.model) == {"4.weight", "4.bias"}


def test_a_stack_of_members_is_frozen_whole(tmp_path):
    """The gradients of a stack without any are nothing to clip."""
    options = TrainConfig(batch_size=8, grad_clip=1.0, freeze=["groups.0"])
    trainer = window_trainer(tmp_path, options, steps=3)
    model = trainer.learner.model
    before = copy_of(model)
    modes = []
    trainer.observer = Observer(
        lambda done, total: modes.append([next(g.template_modules())[1].training for g in model.groups])
    )
    trainer.fit()
    assert changed(before, model) == {name for name in before if not name.startswith("groups.0.")}
    assert modes[1:] == [[False, True]] * 3


def test_a_student_is_frozen_under_its_teacher_and_in_recomputed_segments(tmp_path):
    options = config(
        teacher="a teacher", teacher_distance="mse", freeze=["0.0.0"], drop_path_schedule="linear"
    )
    trainer = technique_trainer(tmp_path, options, steps=4)
    model = trainer.learner.model
    before = copy_of(model)
    frozen = {name for name in before if name.startswith("0.0.0.")}
    trainer.fit()
    moved = changed(before, model)
    assert frozen and moved and not frozen & moved
