"""The training loop: how it ends, what it keeps, and what it does with the gradient."""

import math
import os
import signal
import time

import pytest
import torch
from torch import nn
from toy_training import PointLearner, Points, point_trainer

from core.config import TrainConfig
from core.errors import Interrupted, TrainingError
from core.train import signals
from core.train.checkpoint import load_checkpoint
from core.train.loop import Observer
from core.train.signals import StopSignals


def config(**changes):
    return TrainConfig(**({"batch_size": 4, "lr": 0.01, "schedule": "constant"} | changes))


class Recorder(Observer):
    """Keeps the weights after each step and everything that is logged."""

    def __init__(self, learner=None, at=None):
        self.learner, self.at = learner, at or {}
        self.weights, self.logs, self.validations = {}, [], []

    def advance(self, done, total):
        if self.learner is not None:
            self.weights[done] = copy_of(self.learner.model)
        if done in self.at:
            self.at[done]()

    def log(self, values, step):
        self.logs.append((step, values))

    def validated(self, value, metrics, step):
        self.validations.append((step, value, metrics))


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def close(a, b, tolerance=1e-6):
    return all(torch.allclose(a[name], b[name], atol=tolerance) for name in a)


def send(number):
    return lambda: os.kill(os.getpid(), number)


# ---------------------------------------------------------------- endings


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_and_the_rest_is_as_if_it_never_came(number, tmp_path):
    before = signal.getsignal(number)
    with (
        StopSignals() as stop,
        pytest.raises(Interrupted, match=rf"{number.name} after step 3 of 12") as caught,
    ):
        point_trainer(tmp_path / "a", config(), stop=stop, observer=Recorder(at={3: send(number)})).fit()
    assert signal.getsignal(number) is before
    assert caught.value.exit_code == 130
    state = load_checkpoint(tmp_path / "a")
    assert (state["step"], state["done"]) == (3, False)

    resumed, whole = point_trainer(tmp_path / "a", config()), point_trainer(tmp_path / "b", config())
    resumed.fit()
    whole.fit()
    assert same(whole.learner.state_dict(), resumed.learner.state_dict())


def test_a_signal_at_a_validation_does_not_lose_it(tmp_path):
    options = config(patience=5, validate_every=3)
    learner = PointLearner()
    observer = Recorder(at={3: send(signal.SIGTERM)})
    with StopSignals() as stop, pytest.raises(Interrupted):
        point_trainer(tmp_path / "a", options, learner=learner, stop=stop, observer=observer).fit()
    assert len(learner.validated) == 1
    resumed, whole = point_trainer(tmp_path / "a", options), point_trainer(tmp_path / "b", options)
    resumed.fit()
    whole.fit()
    assert load_checkpoint(tmp_path / "a")["best"] == load_checkpoint(tmp_path / "b")["best"]
    assert same(whole.learner.state_dict(), resumed.learner.state_dict())


def twice():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_that_a_launcher_passes_on_again_is_the_same_one(tmp_path):
    with StopSignals() as stop, pytest.raises(Interrupted, match="checkpoint written"):
        point_trainer(tmp_path, config(), stop=stop, observer=Recorder(at={2: twice})).fit()


def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "SAME_SECONDS", 0.0)
    with StopSignals() as stop, pytest.raises(KeyboardInterrupt):
        point_trainer(tmp_path, config(), stop=stop, observer=Recorder(at={2: twice})).fit()


def test_the_time_limit_keeps_what_is_trained(tmp_path):
    trainer = point_trainer(tmp_path, config(), deadline=time.monotonic() - 1)
    result = trainer.fit()
    assert (result.steps, result.reason) == (1, "time limit")
    assert load_checkpoint(tmp_path)["done"]
    again = point_trainer(tmp_path, config()).fit()
    assert (again.steps, again.reason) == (1, "time limit"), "a part that ended stays as it is"


def test_early_stopping_keeps_the_best_weights(tmp_path):
    learner = PointLearner(values=[3.0, 1.0, 2.0, math.nan, 0.5])
    recorder = Recorder(learner)
    result = point_trainer(
        tmp_path, config(validate_every=2, patience=2), learner=learner, observer=recorder
    ).fit()
    assert (result.steps, result.reason) == (8, "early stop")
    assert same(recorder.weights[4], learner.model.state_dict())
    assert not same(recorder.weights[8], learner.model.state_dict())
    assert [step for step, values in recorder.logs if "val_loss" in values] == [2, 4, 6, 8]
    assert not learner.training


def test_patience_alone_validates_when_it_logs(tmp_path):
    learner = PointLearner(values=[1.0, 1.0])
    result = point_trainer(tmp_path, config(log_every=3, patience=1), learner=learner).fit()
    assert (result.steps, len(learner.validated)) == (6, 2)


@pytest.mark.parametrize(("accumulate", "saved"), [(1, [5, 10, 12]), (2, [3, 5, 8, 10, 12])])
def test_a_checkpoint_at_the_end_of_each_epoch(accumulate, saved, tmp_path, monkeypatch):
    """Five batches an epoch: with two batches a step the epochs end in the steps 3, 5, 8 and 10."""
    steps = []
    monkeypatch.setattr("core.train.loop.save_checkpoint", lambda state, folder: steps.append(state["step"]))
    point_trainer(tmp_path, config(accumulate=accumulate)).fit()
    assert steps == saved


# ---------------------------------------------------------------- numbers that are not finite


def test_a_bad_sample_is_named_and_the_last_checkpoint_is_whole(tmp_path):
    trainer = point_trainer(tmp_path, config(checkpoint_minutes=0.0), bad=7)
    with pytest.raises(TrainingError, match=r"the loss is nan at step \d+\. Samples: .*point-7\b") as caught:
        trainer.fit()
    assert "\n" not in str(caught.value)
    state = load_checkpoint(tmp_path)
    assert state["step"] == trainer.step > 0
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    class Steep(PointLearner):
        def loss_and_metrics(self, batch):
            weight = self.model[0].weight
            return (weight * 0).abs().sum().sqrt(), {}  # a finite loss with an infinite slope

    with pytest.raises(TrainingError, match="weights are not finite after step 1"):
        point_trainer(tmp_path, config(checkpoint_minutes=0.0), learner=Steep()).fit()
    assert load_checkpoint(tmp_path) is None


# ---------------------------------------------------------------- steps


def test_accumulated_batches_equal_one_big_batch(tmp_path):
    """Of 22 samples in one order, two steps of two batches of four are two batches of eight."""
    learners = []
    # Plain gradient descent: Adam would hide a gradient of twice the size.
    sgd = {"optimizer": "sgd", "lr": 0.05}
    for options in (config(batch_size=8, **sgd), config(batch_size=4, accumulate=2, **sgd)):
        learners.append(PointLearner(dropout=0.0))
        point_trainer(tmp_path / str(len(learners)), options, steps=2, learner=learners[-1]).fit()
    assert close(learners[0].state_dict(), learners[1].state_dict())
    assert not close(learners[0].state_dict(), PointLearner(dropout=0.0).state_dict(), 1e-3)


def test_gradients_are_clipped_to_the_limit(tmp_path):
    learner = PointLearner(dropout=0.0)
    recorder = Recorder()
    point_trainer(
        tmp_path, config(grad_clip=0.01, log_every=1), steps=1, learner=learner, observer=recorder
    ).fit()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in learner.parameters()))
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert recorder.logs[0][1]["grad_norm"] > 0.1, "the norm before clipping is what is logged"


def test_ema_by_hand_and_it_is_what_is_validated_and_kept(tmp_path):
    learner = PointLearner(dropout=0.0)
    recorder = Recorder(learner)
    point_trainer(
        tmp_path, config(ema=0.75, validate_every=6), steps=6, learner=learner, observer=recorder
    ).fit()
    average = recorder.weights[1]
    for step in range(2, 7):
        average = {n: 0.75 * value + 0.25 * recorder.weights[step][n] for n, value in average.items()}
    assert close(average, learner.model.state_dict())
    assert not close(recorder.weights[6], learner.model.state_dict(), 1e-4)
    kept = PointLearner(dropout=0.0)
    kept.model.load_state_dict(average)
    assert learner.validated == [pytest.approx(kept.validate()[0], rel=1e-5)]
    assert [(step, value) for step, value, _ in recorder.validations] == [(6, learner.validated[0])]


def test_validating_the_average_does_not_disturb_the_training(tmp_path):
    learners = []
    for every in (0, 2):
        learners.append(PointLearner())
        folder = tmp_path / str(every)
        point_trainer(folder, config(ema=0.9, validate_every=every), learner=learners[-1]).fit()
    assert same(learners[0].state_dict(), learners[1].state_dict())


def test_curves_are_means_between_two_entries(tmp_path):
    each, fourth = Recorder(), Recorder()
    for every, recorder in ((1, each), (4, fourth)):
        point_trainer(tmp_path / str(every), config(log_every=every), steps=6, observer=recorder).fit()
    assert [step for step, _ in fourth.logs] == [4, 6]
    losses = [values["loss"] for _, values in each.logs]
    assert fourth.logs[0][1]["loss"] == pytest.approx(sum(losses[:4]) / 4, rel=1e-5)
    assert fourth.logs[1][1]["loss"] == pytest.approx(sum(losses[4:]) / 2, rel=1e-5)
    assert fourth.logs[0][1].keys() == {"loss", "mae", "lr"}


def test_the_same_seed_gives_the_same_weights(tmp_path):
    def train(name, seed):
        trainer = point_trainer(tmp_path / name, config())
        trainer.seed = seed
        trainer.fit()
        return trainer.learner.state_dict()

    assert same(train("a", 1), train("b", 1))
    assert not same(train("c", 2), train("b", 1))


def test_bfloat16_trains(tmp_path):
    """Autocast is on for the forward pass alone: weights and gradients stay float32."""
    dtypes = []

    class Watched(PointLearner):
        def loss_and_metrics(self, batch):
            dtypes.append(self.model(batch["x"]).dtype)
            return super().loss_and_metrics(batch)

    learner = Watched()
    point_trainer(tmp_path, config(), steps=2, learner=learner, dtype=torch.bfloat16).fit()
    assert set(dtypes) == {torch.bfloat16}
    assert {p.dtype for p in learner.parameters()} == {torch.float32}


def test_training_lowers_the_loss(tmp_path):
    learner = PointLearner(dropout=0.0)
    before = learner.validate()[0]
    point_trainer(tmp_path, config(lr=0.05), steps=60, learner=learner).fit()
    assert learner.validate()[0] < 0.1 * before


def test_points_are_what_the_tests_say():
    assert len(Points()) == 22
    assert torch.isnan(Points(bad=7).y[7])
    assert isinstance(PointLearner().model[3], nn.BatchNorm1d)
