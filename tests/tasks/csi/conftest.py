"""Small channels as sums of complex exponentials, a predictor that needs no training, and a trained one."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from core.cli import main
from core.config import to_dict
from tasks.csi.config import CsiScoringConfig, DataConfig
from tasks.csi.data.dataset import Channels, Condition, CsiData
from tasks.csi.predictor import Predictor
from tasks.csi.task import TASK

sys.path.append(str(Path(__file__).parent))

ANTENNAS, REPORTS, HORIZON, SUBCARRIERS = 4, 16, 3, 8


def make_exponentials(
    count, seed, paths=3, fastest=0.05, antennas=ANTENNAS, reports=REPORTS + HORIZON, subcarriers=SUBCARRIERS
):
    """Channels (N, A, T, K); Doppler shifts in cycles for each report."""
    rng = np.random.default_rng(seed)
    gain = (rng.normal(size=(count, paths)) + 1j * rng.normal(size=(count, paths))) / np.sqrt(2 * paths)
    doppler, delay, angle = (
        rng.uniform(-most, most, (count, paths)) for most in (fastest, 0.5 / subcarriers, 0.5)
    )
    a, t, k = (np.arange(size) for size in (antennas, reports, subcarriers))
    phase = (
        angle[:, :, None, None, None] * a[:, None, None]
        + doppler[:, :, None, None, None] * t[:, None]
        + delay[:, :, None, None, None] * k
    )
    return (gain[:, :, None, None, None] * np.exp(2j * np.pi * phase)).sum(1).astype(np.complex64)


def make_channels(conditions, each, seed):
    parts = [
        make_exponentials(each, seed + i, fastest=0.01 * condition.speed)
        for i, condition in enumerate(conditions)
    ]
    whole = np.concatenate(parts)
    return Channels(
        whole[:, :, :REPORTS],
        whole[:, :, REPORTS:],
        np.repeat(np.arange(len(conditions)), each),
        list(conditions),
    )


class LastNet(nn.Module):
    """Repeats the last report; the parameter is 1, and may be set otherwise."""

    def __init__(self, horizon=HORIZON):
        super().__init__()
        self.horizon, self.scale = horizon, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x[:, -1:].expand(-1, self.horizon, -1)


SETTINGS = {
    "model": {"name": "stub", "standardise": "sample"},
    "subcarriers": SUBCARRIERS,
    "antennas": ANTENNAS,
    "history": REPORTS,
    "horizon": HORIZON,
    "duplex": "tdd",
    "spacing": 30e3,
    "carrier": 2.4e9,
    "interval": 2.5e-3,
}
LEARNED = DataConfig(models=["A", "C"], delay_spreads=[30.0, 100.0], speeds=[1.0, 10.0], snr=[0.0, 20.0])
METADATA = {"data": {"name": "exponentials", "config": to_dict(LEARNED)}}


@pytest.fixture
def exponentials():
    return make_exponentials


@pytest.fixture
def last_net():
    return LastNet()


@pytest.fixture
def make_predictor():
    """For the channels of ``csi_data`` and what they were learned from, but for the settings that are given."""
    return lambda network, **settings: Predictor(SETTINGS | settings, network, METADATA)


@pytest.fixture
def last_predictor():
    return Predictor(SETTINGS, LastNet(), METADATA)


@pytest.fixture
def csi_data():
    """Two models to learn from at two speeds and delay spreads, and one more to test on."""
    known = [Condition(m, d, s) for m in "AC" for d in (30.0, 100.0) for s in (1.0, 10.0)]
    tested = known + [Condition("E", d, s) for d in (30.0, 100.0) for s in (1.0, 10.0)]
    return CsiData(
        "exponentials",
        "tdd",
        make_channels(known, 6, 0),
        make_channels(known, 2, 100),
        make_channels(tested, 3, 200),
        ["clean", "awgn:10", "drop:0.2"],
        30e3,
        2.4e9,
        2.5e-3,
        1,
        2,
    )


@pytest.fixture
def csi_config():
    return SimpleNamespace(data=replace(LEARNED), scoring=CsiScoringConfig(batch=7, ridge=1e-6, cost=False))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Channels in the authors' layout: CDL A at two speeds, and E to test on."""
    from channel_files import make_folder

    return make_folder(tmp_path_factory.mktemp("files") / "channels")


@pytest.fixture(scope="session")
def trained(files, tmp_path_factory):
    """The folder of a finished run."""
    from channel_files import SMALL, TINY

    root = tmp_path_factory.mktemp("trained")
    argv = [f"--data.path={files}", "--data.test_models=[A, E]", "--train.validate_every=2"]
    assert main(TASK, "train", [*argv, *TINY, *SMALL, f"--output={root / 'runs'}"]) == 0
    return root
