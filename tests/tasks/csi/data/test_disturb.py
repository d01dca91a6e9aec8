import numpy as np
import pytest

from core.errors import ConfigError
from tasks.csi.data.disturb import NAMED_DEGREES, add_noise, disturb, parse_disturbance


def snr_of(clean, noisy):
    error = np.abs(noisy - clean) ** 2
    return 10 * np.log10((np.abs(clean) ** 2).mean((1, 2, 3)) / error.mean((1, 2, 3)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clean", ("clean", 0, "clean")),
        ("awgn:10", ("awgn", 10, "awgn_10dB")),
        ("awgn:-2.5dB", ("awgn", -2.5, "awgn_-2.5dB")),
        ("phase:0.1", ("phase", 0.1, "phase_0.1")),
        ("phase:15dB", ("phase", 0.18, "phase_15dB")),
        ("burst:25dB", ("burst", 0.054, "burst_25dB")),
        ("drop:0.1", ("drop", 0.1, "drop_0.1")),
    ],
)
def test_disturbances_are_read_with_the_authors_degrees(text, expected):
    found = parse_disturbance(text)
    assert (found.kind, found.degree, found.name) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("snow:1", "give clean or one of awgn:DEGREE"),
        ("awgn", "give a degree, as awgn:10$"),
        ("drop:", "give a degree, as drop:0.1$"),
        ("burst:dB", "'dB' is not a number"),
        ("awgn:inf", "not a finite number"),
        ("phase:12dB", "known for 10, 15, 20, 25"),
        ("drop:10dB", "no degree in dB"),
        ("burst:0.6", "between 0 and 0.5"),
        ("drop:0", "between 0 and 1"),
    ],
)
def test_a_wrong_disturbance_is_one_line_that_names_it(text, message):
    with pytest.raises(ConfigError, match=f"--data.test_noise {text!r}: .*{message}"):
        parse_disturbance(text)


def test_white_noise_has_the_ratio_to_each_samples_own_power(history):
    noisy = disturb(history, parse_disturbance("awgn:10"), 0, range(40))
    np.testing.assert_allclose(snr_of(history, noisy), 10, atol=1)
    assert snr_of(history, noisy).mean() == pytest.approx(10, abs=0.1)
    noise = (noisy - history) / np.sqrt((np.abs(history) ** 2).mean((1, 2, 3), keepdims=True))
    assert noise.real.var() == pytest.approx(0.05, rel=0.05)
    assert noise.imag.var() == pytest.approx(0.05, rel=0.05)
    assert noisy.dtype == np.complex64


def test_phase_noise_keeps_magnitudes_and_turns_by_the_degree(history):
    noisy = disturb(history, parse_disturbance("phase:0.1"), 0, range(40))
    np.testing.assert_allclose(np.abs(noisy), np.abs(history), rtol=1e-5)
    assert np.angle(noisy / history).std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("snr", [10, 15, 20, 25])
def test_the_named_phase_degrees_have_their_ratio(history, snr):
    # E|exp(i a) - 1|^2 = 2 (1 - exp(-s^2 / 2)) for a Gaussian angle
    sigma = NAMED_DEGREES["phase"][snr]
    assert -10 * np.log10(2 * (1 - np.exp(-(sigma**2) / 2))) == pytest.approx(snr, abs=0.08)
    noisy = disturb(history, parse_disturbance(f"phase:{snr}dB"), 0, range(40))
    assert snr_of(history, noisy).mean() == pytest.approx(snr, abs=0.2)


def test_named_bursts_have_their_ratio_over_many_samples(history):
    many = np.tile(history, (25, 1, 1, 1))
    for snr in (10, 20):
        noisy = disturb(many, parse_disturbance(f"burst:{snr}dB"), 0, range(1000))
        power = (np.abs(many) ** 2).mean((1, 2, 3))
        error = (np.abs(noisy - many) ** 2).mean((1, 2, 3))
        # the authors' own figures over their channels: 9.8 dB and 20.2 dB
        assert -10 * np.log10((error / power).mean()) == pytest.approx(snr, abs=0.6)


def test_a_burst_is_a_bell_of_ten_reports_at_most_and_rare_at_small_degrees(history):
    many = np.tile(history, (25, 1, 1, 1))
    changed = (disturb(many, parse_disturbance("burst:0.01"), 3, range(1000)) != many).any((1, 3))
    lengths = changed.sum(1)
    assert lengths.max() == 10
    # geometric waiting time: 1 - (1 - 0.02)^17
    assert (lengths > 0).mean() == pytest.approx(1 - 0.98**17, abs=0.05)
    assert all((np.diff(np.flatnonzero(row)) == 1).all() for row in changed)


def test_dropped_reports_are_zero_for_all_antennas_and_subcarriers(history):
    dropped = disturb(history, parse_disturbance("drop:0.25"), 0, range(40))
    zero = (dropped == 0).all((1, 3))
    assert zero.mean() == pytest.approx(0.25, abs=0.05)
    np.testing.assert_array_equal(np.where(zero[:, None, :, None], 0, history), dropped)


@pytest.mark.parametrize("text", ["awgn:10", "phase:0.1", "burst:0.5", "drop:0.5"])
def test_a_samples_disturbance_depends_on_its_seed_and_id_alone(history, text):
    disturbance = parse_disturbance(text)
    before = history.copy()
    whole = disturb(history, disturbance, 7, range(40))
    part = disturb(history[30:33], disturbance, 7, np.array([30, 31, 32]))
    np.testing.assert_array_equal(part, whole[30:33])
    assert (disturb(history, disturbance, 8, range(40)) != whole).any()
    np.testing.assert_array_equal(history, before)


def test_all_degrees_of_a_kind_share_the_same_draws(history):
    weak, strong = (
        disturb(history, parse_disturbance(f"awgn:{snr}"), 7, range(40)) - history for snr in (20, 0)
    )
    np.testing.assert_allclose(10 * weak, strong, atol=1e-4)


def test_drawn_noise_follows_the_generator(history):
    one = add_noise(history[0], 5.0, np.random.default_rng(1))
    np.testing.assert_array_equal(one, add_noise(history[0], 5.0, np.random.default_rng(1)))
    assert one.dtype == np.complex64
