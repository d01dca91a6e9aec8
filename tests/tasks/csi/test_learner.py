"""Training samples, the loss, and validation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.data.loader import EpochLoader
from core.errors import ConfigError
from tasks.csi.layout import to_complex
from tasks.csi.learner import CsiLearner, nmse
from tasks.csi.measures import step_nmse
from tasks.csi.samples import CsiSamples


def test_a_sample_has_a_noisy_history_and_a_clean_target(csi_data, csi_config):
    samples = CsiSamples(csi_data.train, csi_config.data)
    assert len(samples) == 48
    drawn = samples.draw(13, np.random.default_rng(0))
    assert drawn["history"].shape == (4, 16, 16) and drawn["history"].dtype == torch.float32
    assert drawn["target"].shape == (4, 3, 16)
    assert drawn["ids"] == "cm_A_ds_100_ms_001 (13)"
    np.testing.assert_array_equal(to_complex(drawn["target"]).numpy(), csi_data.train.target[13])
    assert drawn["history"][0, 0, :2].tolist() != [0, 0]


def test_noise_has_the_ratio_that_is_asked_for(csi_data, csi_config):
    def ratios(low, high):
        samples = CsiSamples(csi_data.train, replace(csi_config.data, snr=[low, high]))
        rng = np.random.default_rng(0)
        found = []
        for i in range(48):
            clean = csi_data.train.history[i]
            noise = samples.noisy_history(i, rng) - clean
            found.append(10 * np.log10((np.abs(clean) ** 2).mean() / (np.abs(noise) ** 2).mean()))
        return np.array(found)

    np.testing.assert_allclose(ratios(10, 10), 10, atol=0.8)
    spread = ratios(0, 25)
    assert spread.min() < 5 and spread.max() > 20 and spread.min() > -1 and spread.max() < 26


def test_noise_is_drawn_anew_or_once(csi_data, csi_config):
    for redraw in (True, False):
        samples = CsiSamples(csi_data.train, replace(csi_config.data, redraw=redraw))
        first, again = (samples.draw(3, np.random.default_rng(seed))["history"] for seed in (0, 1))
        assert torch.equal(first, again) is not redraw
        assert not torch.equal(first, samples.draw(4, np.random.default_rng(0))["history"])


def test_the_loss_is_the_measure_that_is_reported():
    rng = np.random.default_rng(0)
    truth, predicted = (
        (rng.normal(size=(2, 4, 3, 8)) + 1j * rng.normal(size=(2, 4, 3, 8))).astype(np.complex64)
        for _ in range(2)
    )
    rows = [
        torch.view_as_real(torch.from_numpy(part)).flatten(3).flatten(0, 1) for part in (predicted, truth)
    ]
    assert nmse(*rows).item() == pytest.approx(step_nmse(predicted, truth).mean(), rel=1e-5)


def test_a_batch_of_the_loader_goes_through_the_network(csi_data, csi_config, last_net):
    source = EpochLoader(CsiSamples(csi_data.train, csi_config.data), 5, seed=0)
    batch = next(source.batches(0, torch.device("cpu")))
    learner = CsiLearner(last_net, csi_data.validation, csi_config.data)
    loss, metrics = learner(batch)
    history, target = (to_complex(batch[key]).numpy() for key in ("history", "target"))
    expected = step_nmse(np.repeat(history[:, :, -1:], 3, 2), target).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5) and metrics["nmse"].item() == loss.item()
    loss.backward()
    assert last_net.scale.grad.abs() > 0
    assert len(learner.suspects(batch)) == 5


def test_validation_is_the_mean_of_clean_and_noisy_channels_and_the_same_each_time(
    csi_data, csi_config, last_net
):
    learner = CsiLearner(last_net, csi_data.validation, csi_config.data, batch=5)
    value, metrics = learner.validate()
    held = csi_data.validation
    assert metrics["clean/nmse"] == pytest.approx(
        step_nmse(np.repeat(held.history[:, :, -1:], 3, 2), held.target).mean(), rel=1e-5
    )
    assert metrics["noisy/nmse"] > metrics["clean/nmse"]
    assert value == metrics["nmse"] == (metrics["clean/nmse"] + metrics["noisy/nmse"]) / 2
    assert learner.validate()[0] == value
    other = CsiLearner(last_net, held, csi_config.data, batch=16).validate()[0]
    assert other == pytest.approx(value, rel=1e-6)


def test_validation_needs_channels(csi_data, csi_config, last_net):
    empty = csi_data.validation.select(np.zeros(0, int))
    for nothing in (None, empty):
        with pytest.raises(ConfigError, match="validation_share"):
            CsiLearner(last_net, nothing, csi_config.data).validate()
