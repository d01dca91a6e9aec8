"""Loss, scaling and validation of a classifier that learns."""

import numpy as np
import pytest
import torch
from peak_network import PeakNet, beats, small_data
from torch import nn

from core.data.loader import EpochLoader
from core.data.split import Fold
from core.errors import ConfigError
from tasks.ecg.build import build_package, build_parts
from tasks.ecg.config import LEADS, AugmentConfig, EcgConfig, EcgScoringConfig, XResNet18Config
from tasks.ecg.learner import EcgLearner
from tasks.ecg.losses import MultiLabelLoss
from tasks.ecg.normalise import DataNormaliser, fit_normaliser, make_normaliser
from tasks.ecg.samples import EcgSamples


def learner(validation=None, normaliser=None):
    return EcgLearner(PeakNet(), normaliser or DataNormaliser(), MultiLabelLoss(), 250, validation)


def test_loss_and_accuracy_of_a_batch():
    signal = torch.zeros(2, 12, 250)
    signal[0, 0, 17] = 2.0  # logits 4, -4, -9
    labels = torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    loss, metrics = learner().loss_and_metrics({"signal": signal, "labels": labels})
    logits = torch.tensor([[4.0, -4, -9], [-4, -4, -9]])
    torch.testing.assert_close(loss, nn.functional.binary_cross_entropy_with_logits(logits, labels))
    assert metrics["accuracy"].item() == pytest.approx(100 * 5 / 6)


def test_what_the_network_sees_is_normalised():
    signal = torch.zeros(1, 12, 250)
    signal[0, 0, 17] = 5.0  # (5 - 1) / 2 is 2
    batch = {"signal": signal, "labels": torch.zeros(1, 3)}
    plain = learner()
    scaled = learner(normaliser=DataNormaliser(1.0, 2.0))
    expected = PeakNet()((signal - 1) / 2)
    torch.testing.assert_close(scaled.loss_and_metrics(batch)[0], plain.loss(expected, batch["labels"]))


def test_validation_weighs_records_and_pools_windows():
    data = small_data()
    chosen = np.array([0, 3, 5])
    signals = [data.signals[i] for i in chosen]
    subject = learner((signals, data.labels[chosen]))
    with torch.no_grad():
        loss, metrics = subject.validate()
        expected = []
        for signal, truth in zip(signals, data.labels[chosen], strict=True):
            starts = [0, 125, 250, 350] if signal.shape[1] == 600 else [0]
            target = torch.from_numpy(truth).float()
            parts = []
            for start in starts:
                window = torch.zeros(1, 12, 250)
                part = torch.from_numpy(signal[:, start : start + 250])
                window[0, :, : part.shape[1]] = part
                parts.append(nn.functional.binary_cross_entropy_with_logits(PeakNet()(window)[0], target))
            expected.append(torch.stack(parts).mean())
    assert loss == metrics["loss"] == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    # "tall I" is ranked rightly (0.2 mV below 1.1 and 1.7); V6 is 0.4 mV in all three, so that it is a draw.
    assert metrics["macro_auroc"] == pytest.approx((1 + 0.5) / 2)


def test_a_class_of_one_kind_has_no_auroc():
    data = small_data()
    with torch.no_grad():
        _, metrics = learner((data.signals[:1], data.labels[:1])).validate()
    assert set(metrics) == {"loss"}


def test_without_validation_records_nothing_stops_early():
    for validation in (None, ([], np.zeros((0, 3), bool))):
        with pytest.raises(ConfigError, match=r"no records to validate on: set --data\.validation_share"):
            learner(validation).validate()


def test_the_scaling_is_that_of_the_training_samples_that_are_there():
    data = small_data()
    train = data.folds[0].train
    values = np.concatenate([data.signals[i][data.present[i]].ravel() for i in train]).astype(np.float64)
    scaling = fit_normaliser("data", data.signals, data.present, train).scaling
    assert scaling == pytest.approx([values.mean(), values.std()], rel=1e-5)
    assert fit_normaliser("none", data.signals, data.present, train).scaling == [0, 1]
    again = make_normaliser("data", scaling)
    torch.testing.assert_close(again(torch.full((1, 1, 4), scaling[0])), torch.zeros(1, 1, 4))


def test_each_window_may_have_its_own_scaling():
    signal = 3 * torch.randn(2, 4, 200, generator=torch.Generator().manual_seed(0)) + 1
    signal[1, 2] = 0
    result = make_normaliser("record")(signal)
    assert not result[1, 2].any()
    for window, leads in zip(result, ([0, 1, 2, 3], [0, 1, 3]), strict=True):
        assert window[leads].mean().item() == pytest.approx(0, abs=1e-5)
        assert window[leads].std(correction=0).item() == pytest.approx(1, rel=1e-5)
    # Gain and unit do not matter, and silence stays finite.
    torch.testing.assert_close(make_normaliser("record")(1000 * signal), result, rtol=1e-4, atol=1e-4)
    assert not make_normaliser("record")(torch.zeros(1, 4, 50)).any()


def test_it_learns_which_lead_is_tall():
    torch.manual_seed(0)
    data = small_data()
    data.signals = [beats((0.3 + 1.5 * (i % 2), 0.4)) for i in range(8)]
    data.present = np.ones((8, 12), bool)
    data.labels = np.array([[i % 2 == 1, i % 2 == 0, False] for i in range(8)])
    data.names = [str(i) for i in range(8)]
    fold = Fold("model", np.arange(6), np.array([6, 7]), np.array([], np.int64))
    options = AugmentConfig(scale=0.1, noise=0.01, wander=0.1, lead_dropout=0.05, mixup=0.2)
    source = EpochLoader(EcgSamples(data, fold, 250, options), 6, seed=0)
    network = nn.Sequential(
        nn.Conv1d(12, 8, 9), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    normaliser = fit_normaliser("data", data.signals, data.present, fold.train)
    held_out = ([data.signals[i] for i in fold.validation], data.labels[fold.validation])
    subject = EcgLearner(network, normaliser, MultiLabelLoss("focal"), 250, held_out)
    optimiser = torch.optim.Adam(subject.parameters(), 0.02)
    with torch.no_grad():
        before = subject.validate()[0]
    for batch, _ in zip(source.batches(0, torch.device("cpu")), range(60), strict=False):
        assert batch["signal"].dtype == batch["labels"].dtype == torch.float32
        loss, _ = subject(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        after, metrics = subject.validate()
    assert after < 0.3 * before and metrics["macro_auroc"] == 1


def test_the_zeros_after_a_short_record_do_not_count():
    signal = 3 * torch.randn(1, 4, 120, generator=torch.Generator().manual_seed(0)) + 1
    signal[0, 2] = 0
    padded = nn.functional.pad(signal, (0, 80))
    result = make_normaliser("record")(padded)
    torch.testing.assert_close(result[:, :, :120], make_normaliser("record")(signal))
    assert not result[:, :, 120:].any()


def test_validation_has_the_windows_of_the_scoring():
    signal = beats((2.0, 0.4), 600)
    signal[:, 100:] = 0  # a wave in the first window alone
    other = np.zeros_like(signal)
    other[0, 100:] = 1.1  # lower, but in most windows
    labels = np.array([[True, False, False], [False, False, False]])
    areas = {}
    for pooling in ("max", "mean"):
        subject = EcgLearner(
            PeakNet(), DataNormaliser(), MultiLabelLoss(), 250, ([signal, other], labels), 100, pooling
        )
        with torch.no_grad():
            loss, metrics = subject.validate()
        areas[pooling] = metrics["macro_auroc"]
        windows = [
            torch.from_numpy(x[None, :, s : s + 250])
            for x in (signal, other)
            for s in (0, 100, 200, 300, 350)
        ]
        targets = torch.from_numpy(np.repeat(labels, 5, 0)).float()
        expected = nn.functional.binary_cross_entropy_with_logits(PeakNet()(torch.cat(windows)), targets)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert areas == {"max": 1, "mean": 0}


def test_a_trained_network_is_validated_as_it_will_be_scored_and_packed_with_what_it_knows():
    data = small_data()
    for scoring, stride, pooling in (({}, 125, "max"), ({"stride": 0.5, "pool": "mean"}, 50, "mean")):
        config = EcgConfig(model=XResNet18Config(width=4, layers=[1, 1]), scoring=EcgScoringConfig(**scoring))
        (part,) = build_parts(config, data)
        assert (part.learner.stride, part.learner.pooling) == (stride, pooling)
    packaged = build_package(config, data, {"model": part.learner})
    assert packaged.metadata["records"] == {"always": list(LEADS[:-1]), "seconds": 6.0}
    assert packaged.config["prepared"]["centre"] is True
