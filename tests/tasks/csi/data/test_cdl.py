import numpy as np
import pytest
import torch
from sionna.phy.channel import cir_to_ofdm_channel

from tasks.csi.config import ChannelConfig
from tasks.csi.data.cdl import BATCH, ChannelSampler, _seeded
from tasks.csi.data.dataset import Condition


def by_sionna(channel, condition, seed, step):
    """Channels as CSI-4CAST's generator makes them: every ``step``-th of many times, normalised over all times."""
    sampler = ChannelSampler(channel, condition)
    carriers = 2 * channel.subcarriers + channel.gap
    symbol = (carriers + 6) / (carriers * channel.spacing)
    times = (channel.history + channel.horizon) * step
    with _seeded(seed):
        paths = sampler.cdl(BATCH, times, step / (channel.period * 14 * symbol))
    return cir_to_ofdm_channel(sampler.frequencies, *paths, normalize=True)[:, 0, :, 0, 0, ::step].numpy()


@pytest.mark.parametrize("model", ["A", "D"])
def test_channels_are_sionnas_at_the_report_times_and_normalised_over_the_whole_band(channel, model):
    condition = Condition(model, 300.0, 10.0)
    uplink, downlink = ChannelSampler(channel, condition).draw(5)
    expected = by_sionna(channel, condition, 5, 1)
    assert uplink.shape == (16, 4, 6, 4)
    assert uplink.dtype == downlink.dtype == np.complex64
    np.testing.assert_allclose(uplink, expected[..., :4], atol=2e-5)
    np.testing.assert_allclose(downlink, expected[:, :, 4:, -4:], atol=2e-5)


def test_channels_are_those_of_all_symbols_but_for_the_power_between_the_reports():
    channel = ChannelConfig(rows=1, columns=1, subcarriers=4, gap=3, history=16, horizon=4)
    uplink, _ = ChannelSampler(channel, Condition("C", 100.0, 10.0)).draw(3)
    dense = by_sionna(channel, Condition("C", 100.0, 10.0), 3, 70)[..., :4]
    factor = (uplink * dense.conj()).sum((1, 2, 3)) / (np.abs(dense) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(uplink, factor[:, None, None, None] * dense, atol=1e-4)
    np.testing.assert_allclose(factor, 1, atol=0.05)


def test_a_terminal_at_rest_has_a_constant_channel_and_a_faster_one_changes_more(channel):
    def change(speed, slower=False):
        config = ChannelConfig(**{**vars(channel), "slower": slower})
        uplink, _ = ChannelSampler(config, Condition("A", 100.0, speed)).draw(1)
        return (np.abs(np.diff(uplink, axis=2)) ** 2).mean((1, 2, 3))

    assert change(0.0).max() < 1e-10
    exact, slower, faster = change(0.05), change(0.05, slower=True), change(0.1)
    np.testing.assert_allclose(faster / exact, 4, rtol=0.02)  # small changes grow as the square of the speed
    assert (slower < exact).all()
    # the same rays and directions, so that the ratio is that of the squared speeds: those are even between 0 and 0.05
    share = np.sqrt(slower / exact)
    assert share.min() < 0.3
    assert share.max() > 0.7
    assert share.mean() == pytest.approx(0.5, abs=0.2)


def test_the_delay_spread_sets_how_fast_the_band_decorrelates(channel):
    wide = ChannelConfig(**{**vars(channel), "subcarriers": 64})

    def correlation(spread):
        uplink, _ = ChannelSampler(wide, Condition("C", spread, 1.0)).draw(2)
        return np.abs((uplink[..., :-60] * uplink[..., 60:].conj()).mean()) / (np.abs(uplink) ** 2).mean()

    assert correlation(30.0) > 0.95
    assert correlation(300.0) < 0.8


def test_a_seed_fixes_the_draw_and_leaves_pytorchs_generator_alone(channel):
    sampler = ChannelSampler(channel, Condition("E", 30.0, 3.0))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, second = sampler.draw(1), sampler.draw(1)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (sampler.draw(2)[0] != first[0]).all()
