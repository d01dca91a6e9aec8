"""Tiny channels: 4 antennas, 4 subcarriers, 4 known and 2 predicted reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.csi.config import ChannelConfig, DataConfig
from tasks.csi.data.store import DOWNLINK, HISTORY, UPLINK, write_condition

TINY = {"rows": 1, "columns": 2, "subcarriers": 4, "gap": 3, "history": 4, "horizon": 2}


@pytest.fixture
def channel():
    return ChannelConfig(**TINY)


@pytest.fixture
def data_config(tmp_path):
    """Two conditions of generated channels."""
    return DataConfig(
        **TINY,
        cache=str(tmp_path / "cache"),
        models=["A", "D"],
        delay_spreads=[100.0],
        speeds=[10.0],
        samples=10,
        test_samples=3,
        workers=1,
    )


@pytest.fixture
def condition_files():
    """Makes the files of a condition from random numbers."""

    def make(samples, seed=0, dtype=torch.complex64):
        generator = torch.Generator().manual_seed(seed)
        reports = {HISTORY: 4, UPLINK: 2, DOWNLINK: 2}
        return {
            name: torch.randn(samples, 4, count, 4, dtype=dtype, generator=generator)
            for name, count in reports.items()
        }

    return make


@pytest.fixture
def authors_folder(tmp_path, condition_files):
    """A folder as the authors' code writes it, with a condition that is only tested."""
    root = tmp_path / "csi_rrg"
    write_condition(root / "train/regular/cm_A_ds_100_ms_010", condition_files(10, 1))
    write_condition(root / "train/regular/cm_D_ds_100_ms_010", condition_files(10, 2))
    write_condition(root / "test/regular/cm_A_ds_100_ms_010", condition_files(3, 3))
    write_condition(root / "test/regular/cm_D_ds_100_ms_010", condition_files(3, 4))
    write_condition(root / "test/generalization/cm_E_ds_100_ms_010", condition_files(3, 5))
    return root


@pytest.fixture
def history():
    """complex64 (40 samples, 4 antennas, 16 reports, 8 subcarriers) of powers that differ."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((40, 4, 16, 8, 2), dtype=np.float32).view(np.complex64)[..., 0]
    return values * generator.uniform(0.5, 3, (40, 1, 1, 1)).astype(np.float32)
