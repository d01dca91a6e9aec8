"""Extending a trained network with new words: imprinting, distillation, a second network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.compress.folding import deploy
from core.data.split import Fold
from core.errors import ConfigError
from core.residual import list_rules
from core.train.learner import Learner
from tasks.speech.config import ExtendConfig, FeatureConfig
from tasks.speech.data.clips import Clips, SpeechData
from tasks.speech.extend import (
    BATCH,
    Boosted,
    ExtendedLearner,
    extend_network,
    grow,
    new_clips,
    rebuild,
    stages,
)
from tasks.speech.frontend import FrontEnd
from tasks.speech.models.resnets import ResNet

OLD, ALL = 3, 5


def net(classes, **options):
    return ResNet(classes, width=8, layers=2, **options)


def clips(label, count, seed):
    """Features of made-up words: a bump at a place of the plane that depends on the word."""
    noise = torch.randn(count, 20, 12, generator=torch.Generator().manual_seed(seed))
    t, f = torch.arange(20)[:, None], torch.arange(12)
    bump = torch.exp(-((t - 10) ** 2) / 20 - (f - 1 - 2.5 * label) ** 2 / 2)
    return 0.7 * noise + 4 * bump


def batch_of(labels, count, seed):
    features = torch.cat([clips(label, count, 100 * seed + label) for label in labels])
    return {"features": features, "label": torch.tensor(labels).repeat_interleave(count)}


class CrossEntropy(Learner):
    def loss_and_metrics(self, batch):
        return F.cross_entropy(self.model(batch["features"]), batch["label"]), {}


def fit(learner, labels, count, steps, lr):
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr)
    for step in range(steps):
        learner.train()
        loss, _ = learner(batch_of(labels, count, 1 + step % 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return learner.eval()


@torch.no_grad()
def recall(network, labels):
    batch = batch_of(labels, 40, 99)
    return (network.eval()(batch["features"]).argmax(1) == batch["label"]).float().mean().item()


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    learner = fit(CrossEntropy(net(OLD)), [0, 1, 2], 12, 80, 1e-2)
    assert recall(learner.model, [0, 1, 2]) > 0.95
    return learner.model


@pytest.fixture
def old(trained):
    return copy.deepcopy(trained)


def extended(old, method, classes=ALL, **options):
    new = batch_of([3, 4], 5, 7)
    return extend_network(old, ExtendConfig(method=method), classes, new["features"], new["label"], **options)


# ---------------------------------------------------------------- imprinting


def test_new_rows_are_the_mean_directions_of_their_clips(old):
    new = batch_of([3, 4, 1], 5, 7)
    with torch.no_grad():
        embedded = old.embed(new["features"]).double().numpy()
    grown = copy.deepcopy(old)
    grow(grown, OLD, ALL, new["features"], new["label"])
    rows, bias = old.output.weight.detach().numpy(), old.output.bias.detach().numpy()
    embedded /= np.sqrt((embedded**2).sum(1, keepdims=True))
    for label, part in ((3, embedded[:5]), (4, embedded[5:10])):
        mean = part.mean(0)
        expected = mean / np.sqrt((mean**2).sum()) * np.mean(np.sqrt((rows**2).sum(1)))
        np.testing.assert_allclose(grown.output.weight[label].detach().numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(grown.output.weight[:OLD].detach().numpy(), rows)
    np.testing.assert_allclose(
        grown.output.bias.detach().numpy(), [*bias, bias.mean(), bias.mean()], rtol=1e-6
    )
    with torch.no_grad():
        torch.testing.assert_close(grown(new["features"])[:, :OLD], old(new["features"]))


def test_a_class_without_clips_has_a_random_row_and_the_mode_stays(old):
    new = batch_of([3], 4, 7)
    old.train()
    before = {name: value.clone() for name, value in old.named_buffers()}
    grow(old, OLD, ALL, new["features"], new["label"])
    assert old.training
    assert all(torch.equal(value, before[name]) for name, value in old.named_buffers())
    assert torch.isfinite(old.output.weight).all() and 0 < old.output.weight[4].norm() < 1
    assert old.output.weight.requires_grad and old.output.bias.requires_grad
    grow(old, ALL, 6, new["features"][:0], new["label"][:0])
    assert old.output.out_features == 6


def test_new_clips_go_through_the_front_end_in_parts():
    rng = np.random.default_rng(0)
    count = 2 * BATCH + 9
    labels = rng.integers(0, ALL, count)
    waves = rng.integers(-9000, 9000, (count, 800)).astype(np.int16)
    clips = Clips([str(i) for i in range(count)], waves, labels, [""] * count, labels < OLD)
    fold = Fold("model", np.arange(3, count), np.array([0]), np.array([1, 2]))
    data = SpeechData("made", list("abcde"), 8000, clips, [fold], [], [], extends=1)
    front = FrontEnd(FeatureConfig(window=160, hop=80, mels=12, coefficients=10), 8000)
    sizes = []
    front.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    features, classes = new_clips(data, fold, front)
    chosen = [i for i in range(3, count) if labels[i] >= 1]
    assert max(sizes) == BATCH == 64 and sum(sizes) == len(chosen)
    np.testing.assert_array_equal(classes, labels[chosen])
    expected = front(torch.from_numpy(np.stack([clips.wave(i) for i in chosen])))
    torch.testing.assert_close(features, expected)


# ---------------------------------------------------------------- the loss


def test_the_loss_is_that_of_learning_without_forgetting(old):
    config = ExtendConfig(method="distill", weight=0.3, temperature=2.0)
    student = extended(old, "distill")
    with torch.no_grad():
        student.conv.weight.mul_(1.1)
    learner = ExtendedLearner(CrossEntropy(student), old, config).eval()
    batch = batch_of([0, 3, 4], 4, 5)
    loss, curves = learner(batch)
    with torch.no_grad():
        s, t = student(batch["features"]).double().numpy(), old(batch["features"]).double().numpy()
    entropy = np.mean([np.log(np.exp(row).sum()) - row[k] for row, k in zip(s, batch["label"], strict=True)])
    p = np.exp(t / 2) / np.exp(t / 2).sum(1, keepdims=True)
    q = np.exp(s[:, :OLD] / 2) / np.exp(s[:, :OLD] / 2).sum(1, keepdims=True)
    distance = 4 * (p * np.log(p / q)).sum(1).mean()
    assert distance > 1e-4
    np.testing.assert_allclose(loss.item(), 0.7 * entropy + 0.3 * distance, rtol=1e-4)
    np.testing.assert_allclose(curves["teacher_distance"].item(), distance, rtol=1e-3)


@pytest.mark.parametrize("method", ["tune", "boost"])
def test_the_other_ways_have_the_loss_of_the_learner(old, method):
    teacher = copy.deepcopy(old)
    student = extended(old, method)
    learner = ExtendedLearner(CrossEntropy(student), teacher, ExtendConfig(method=method))
    teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    batch = batch_of([3, 4], 4, 5)
    loss, _ = learner.eval()(batch)
    torch.testing.assert_close(loss, F.cross_entropy(student(batch["features"]), batch["label"]))


@pytest.mark.parametrize("method", ["tune", "distill", "boost"])
def test_the_old_network_and_all_running_statistics_stay(old, method):
    before = copy.deepcopy(old.state_dict())
    network = extended(old, method)
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    learner = ExtendedLearner(CrossEntropy(network), old, ExtendConfig(method=method))
    weight = (network.branch if method == "boost" else network).conv.weight
    first = weight.detach().clone()
    fit(learner, [3, 4], 4, 3, 1e-2)
    assert not torch.equal(weight, first), "the new network learns"
    assert all(torch.equal(value, before[name]) for name, value in old.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in old.parameters())
    assert all(torch.equal(value, statistics[name]) for name, value in network.named_buffers())
    learner.train()
    assert not old.training
    # The teacher is saved as part of a boosted network alone.
    assert not any("teacher" in name for name in learner.state_dict())


# ---------------------------------------------------------------- old words are kept


def learned(old, method, labels, seed=0, **options):
    torch.manual_seed(seed)
    config = ExtendConfig(method=method, **options)
    learner = ExtendedLearner(CrossEntropy(extended(old, method)), copy.deepcopy(old), config)
    return fit(learner, labels, 5, 60, 3e-3).model


def test_without_old_recordings_distillation_keeps_what_tuning_forgets(old):
    tuned = learned(old, "tune", [3, 4])
    distilled = learned(old, "distill", [3, 4], weight=0.9)
    assert recall(tuned, [3, 4]) > 0.9 and recall(distilled, [3, 4]) > 0.8
    assert recall(distilled, [0, 1, 2]) > recall(tuned, [0, 1, 2]) + 0.2


@pytest.mark.parametrize("method", ["tune", "distill", "boost"])
def test_with_old_recordings_all_words_are_known(old, method):
    network = learned(old, method, [0, 1, 2, 3, 4])
    assert recall(network, [0, 1, 2]) > 0.9
    assert recall(network, [3, 4]) > 0.8


# ---------------------------------------------------------------- two networks


def test_a_boosted_network_begins_with_the_old_logits(old):
    x = batch_of([0, 3], 4, 5)["features"]
    with torch.no_grad():
        expected = old(x)
        network = extended(old, "boost").eval()
        logits = network(x)
        torch.testing.assert_close(logits[:, :OLD], expected)
        torch.testing.assert_close(logits[:, OLD:], network.branch(x)[:, OLD:])
        nn.init.normal_(network.branch.output.weight)
        torch.testing.assert_close(network(x), F.pad(expected, (0, 2)) + network.branch(x))


@pytest.mark.parametrize("rule", list_rules())
def test_old_logits_begin_as_they_were_but_for_one_rule(old, rule):
    x = batch_of([0, 3], 4, 5)["features"]
    with torch.no_grad():
        expected = old(x)
        logits = extended(old, "boost", rule=rule).eval()(x)[:, :OLD]
    torch.testing.assert_close(logits, 0.6 * expected if rule == "decayed" else expected)


def test_a_boosted_network_is_rebuilt_from_its_weights_and_boosted_again(old):
    x = batch_of([0, 3, 5], 3, 5)["features"]
    first = extended(old, "boost")
    sixth = batch_of([5], 4, 7)
    second = extend_network(first, ExtendConfig(method="boost"), 6, sixth["features"], sixth["label"])
    for network, counts in ((old, [3]), (first, [3, 5]), (second, [3, 5, 6])):
        assert stages(network) == counts
        again = rebuild(net, counts)
        again.load_state_dict(network.state_dict())
        torch.testing.assert_close(again.eval()(x), network.eval()(x))
    with pytest.raises(ConfigError, match="use --extend"):
        extend_network(first, ExtendConfig(method="distill"), 6, sixth["features"], sixth["label"])


@pytest.mark.parametrize("rule", list_rules())
def test_any_residual_rule_joins_the_two_networks(old, rule):
    network = extended(old, "boost", rule=rule).train()
    logits = network(batch_of([0, 3], 2, 5)["features"])
    assert logits.shape == (4, ALL)
    nn.init.normal_(network.branch.output.weight)
    network.eval()(batch_of([0, 3], 2, 5)["features"]).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("downsample."), name


def test_a_boosted_network_is_deployed_and_exported(old):
    network = extended(old, "boost").eval()
    nn.init.normal_(network.branch.output.weight)
    assert isinstance(network, Boosted)
    x = batch_of([0, 3], 2, 5)["features"]
    with torch.no_grad():
        expected = network(x)
        small = deploy(network)
        torch.testing.assert_close(small(x), expected, atol=1e-5, rtol=1e-4)
        program = torch.export.export(small, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.testing.assert_close(program.module()(x[:3]), expected[:3], atol=1e-5, rtol=1e-4)
