"""Clustered delay line channels of 3GPP TR 38.901, section 7.7.1, by Sionna, sampled at the report times alone.

CSI-4CAST's generator computes 14 symbols of every slot and keeps each 70th. The channel at a time does not depend on
the times between, so the same rays at the report times are the same channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sionna.phy import config as sionna
from sionna.phy.channel import subcarrier_frequencies
from sionna.phy.channel.tr38901 import CDL, PanelArray
from torch import Tensor

from tasks.csi.config import ChannelConfig
from tasks.csi.data.dataset import Condition
from tasks.csi.data.store import report_interval

BATCH = 16
"""Samples that are drawn together. Part of what fixes the channels: a seed belongs to a batch."""
DEVICE = "cpu"


class ChannelSampler:
    """Draws channels of one condition.

    Args:
        channel: Panel, band and reports.
        condition: CDL model, delay spread and speed.
    """

    def __init__(self, channel: ChannelConfig, condition: Condition) -> None:
        self.channel = channel
        terminal = _panel(1, 1, "single", "V", "omni", channel.carrier)
        station = _panel(channel.rows, channel.columns, "dual", "cross", "38.901", channel.carrier)
        self.cdl = CDL(
            condition.model,
            condition.delay_spread * 1e-9,
            channel.carrier,
            terminal,
            station,
            "uplink",
            min_speed=condition.speed,
            # Sionna draws evenly between the two, whichever is greater.
            max_speed=0.0 if channel.slower else condition.speed,
            device=DEVICE,
        )
        carriers = 2 * channel.subcarriers + channel.gap
        self.frequencies = subcarrier_frequencies(
            carriers, channel.spacing, precision="double", device=DEVICE
        )

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws :data:`BATCH` samples; the same ones for the same seed.

        Each sample has mean power 1 over antennas, reports and all subcarriers of uplink, gap and downlink. (The
        authors' mean is over all symbols; a sample differs from theirs by a factor, up to 6 % off 1.)

        Returns:
            Uplink, complex64 ``(samples, antennas, history + horizon, subcarriers)``, and the downlink of the
            predicted reports, ``(samples, antennas, horizon, subcarriers)``.
        """
        channel = self.channel
        reports = channel.history + channel.horizon
        with _seeded(seed):
            paths, delays = self.cdl(BATCH, reports, 1 / report_interval(channel))
        # (samples, 1, antennas, 1, 1, paths, reports) -> (samples, antennas, reports, paths)
        gains = paths[:, 0, :, 0, 0].transpose(-1, -2).contiguous()
        response = self._frequency_response(delays[0, 0, 0])
        gains = gains / _power(gains, response).sqrt()[:, None, None, None]
        band = channel.subcarriers
        uplink = gains @ response[:, :band].to(gains.dtype)
        downlink = gains[:, :, channel.history :] @ response[:, -band:].to(gains.dtype)
        return uplink.numpy(), downlink.numpy()

    def _frequency_response(self, delays: Tensor) -> Tensor:
        """Returns ``exp(-2 pi i f tau)``, complex128 ``(paths, subcarriers)``; all samples have the same delays."""
        return torch.exp(-2j * torch.pi * delays.double()[:, None] * self.frequencies)


def _power(gains: Tensor, response: Tensor) -> Tensor:
    """Returns the mean square over antennas, reports and all subcarriers, ``(samples,)``.

    It is ``a R a^H`` with the paths' correlation ``R`` over the band, so that no subcarrier is computed for it.
    """
    correlation = (response @ response.mH / response.shape[1]).to(gains.dtype)
    return ((gains @ correlation) * gains.conj()).sum(-1).real.mean((1, 2))


def _panel(rows: int, columns: int, polarization: str, kind: str, pattern: str, carrier: float) -> PanelArray:
    return PanelArray(
        num_rows_per_panel=rows,
        num_cols_per_panel=columns,
        polarization=polarization,
        polarization_type=kind,
        antenna_pattern=pattern,
        carrier_frequency=carrier,
        device=DEVICE,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds Sionna, and leaves PyTorch's own generator, which Sionna seeds too, as it was."""
    with torch.random.fork_rng(devices=[]):
        sionna.seed = seed
        yield
