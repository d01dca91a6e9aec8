"""The front end against the reference's numbers, torchaudio and plain formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from safetensors.torch import load_file
from scipy.fft import dct

from core.errors import ConfigError
from tasks.speech.config import FeatureConfig
from tasks.speech.frontend import CHUNK, FrontEnd, mel_filters

FIXTURES = Path(__file__).parent / "fixtures"
RATE = 16000


def speech_like(clips=2, samples=RATE):
    """Noise under an envelope with a tone, from a fixed seed."""
    rng = np.random.default_rng(0)
    envelope = np.abs(np.sin(np.linspace(0, 9, samples)))
    wave = 0.1 * envelope * rng.standard_normal((clips, samples)) + 0.2 * np.sin(np.arange(samples) * 0.2)
    return torch.from_numpy(wave.astype(np.float32))


def test_mfcc_of_two_tones_is_that_of_the_released_code():
    known = load_file(FIXTURES / "honk_mfcc.safetensors")
    ours = FrontEnd(FeatureConfig(floor=0.0), RATE)(known["input"][None])[0]
    assert ours.shape == (101, 40)
    assert (ours - known["output"]).abs().max() < 1e-4  # of values up to 100


@pytest.mark.parametrize("pad", ["reflect", "constant"])
@pytest.mark.parametrize(("window", "n_fft"), [(480, None), (480, 512), (400, 480)])
def test_mel_energies_are_torchaudios(pad, window, n_fft):
    config = FeatureConfig(window=window, n_fft=n_fft, pad=pad, high=8000.0)
    reference = torchaudio.transforms.MelSpectrogram(
        RATE,
        n_fft or window,
        window,
        160,
        20.0,
        8000.0,
        n_mels=40,
        norm="slaney",
        mel_scale="slaney",
        pad_mode=pad,
    )
    wave = speech_like()
    ours = FrontEnd(config, RATE).mel(wave)
    torch.testing.assert_close(ours.float(), reference(wave).transpose(1, 2), rtol=2e-4, atol=1e-6)


def test_filters_are_torchaudios_in_double_precision():
    config = FeatureConfig()
    theirs = torchaudio.functional.melscale_fbanks(241, 20.0, 4000.0, 40, RATE, "slaney", "slaney")
    ours = mel_filters(config, RATE, 480)
    assert ours.dtype == torch.float64
    assert (ours - theirs).abs().max() < 1e-7
    assert FrontEnd(config, RATE).bins == int(theirs.sum(1).nonzero().max()) + 1


def test_cepstra_are_the_orthonormal_cosine_transform_of_the_logarithm():
    front = FrontEnd(FeatureConfig(coefficients=13), RATE)
    energies = front.mel(speech_like())
    expected = dct(np.log(np.maximum(energies.numpy(), 1e-7)), norm="ortho", axis=-1)[..., :13]
    np.testing.assert_allclose(front.finish(energies).numpy(), expected, atol=1e-4)
    assert front.size == 13


def test_without_a_floor_the_logarithm_is_taken_of_positive_energies_alone():
    energies = torch.tensor([[[0.0, 1e-30, 1.0, 2.0]]], dtype=torch.float64)
    finish = FrontEnd(FeatureConfig(kind="logmel", floor=0.0), RATE).finish
    np.testing.assert_allclose(finish(energies)[0, 0], [0, np.log(1e-30), 0, np.log(2)], rtol=1e-6)
    floored = FrontEnd(FeatureConfig(kind="logmel", floor=1e-7), RATE).finish(energies)
    np.testing.assert_allclose(floored[0, 0], [np.log(1e-7), np.log(1e-7), 0, np.log(2)], rtol=1e-6)


def test_pcen_is_the_recursion_of_its_paper():
    front = FrontEnd(FeatureConfig(kind="pcen"), RATE)
    energies = front.mel(speech_like())
    scaled = energies.numpy() * 32768.0**2
    mean = scaled[:, 0].copy()
    expected = np.empty_like(scaled)
    for t in range(scaled.shape[1]):
        mean = (1 - 0.025) * mean + 0.025 * scaled[:, t] if t else mean
        expected[:, t] = (scaled[:, t] / (1e-6 + mean) ** 0.98 + 2) ** 0.5 - 2**0.5
    np.testing.assert_allclose(front.finish(energies).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mfcc", "logmel", "pcen"])
def test_a_clip_has_the_same_features_alone_and_in_a_batch(kind):
    front = FrontEnd(FeatureConfig(kind=kind), RATE)
    wave = speech_like(2 * CHUNK + 1, 1600)
    batch = front(wave)
    assert batch.dtype == torch.float32 and batch.shape == (2 * CHUNK + 1, front.frames(1600), 40)
    torch.testing.assert_close(front(wave[CHUNK + 3 :][:1]), batch[CHUNK + 3 :][:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("over", "axes"), [("clip", (1, 2)), ("feature", (1,))])
def test_normalised_clips_have_mean_0_and_deviation_1(over, axes):
    plain = FrontEnd(FeatureConfig(), RATE)(speech_like())
    features = FrontEnd(FeatureConfig(normalise=over), RATE)(speech_like())
    np.testing.assert_allclose(features.mean(axes), 0, atol=1e-4)
    np.testing.assert_allclose(features.var(axes, unbiased=False), 1, atol=1e-3)
    expected = (plain - plain.mean(axes, keepdim=True)) / plain.std(axes, keepdim=True, unbiased=False)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)


def test_a_loud_clip_has_the_normalised_features_of_a_soft_one():
    front = FrontEnd(FeatureConfig(kind="logmel", normalise="clip", floor=0.0), RATE)
    torch.testing.assert_close(front(speech_like()), front(speech_like() / 10), rtol=1e-3, atol=1e-3)


def test_silence_has_finite_features():
    for kind in ("mfcc", "logmel", "pcen"):
        for floor in (0.0, 1e-7):
            assert (
                FrontEnd(FeatureConfig(kind=kind, floor=floor), RATE)(torch.zeros(1, RATE)).isfinite().all()
            )


def test_a_change_of_type_leaves_it_exact():
    front = FrontEnd(FeatureConfig(), RATE)
    wave = speech_like(1)
    expected = front(wave)
    assert torch.equal(torch.nn.Sequential(front).to(torch.bfloat16)(wave), expected)
    assert not front.state_dict(), "it follows from the configuration, so that nothing of it is stored"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"hop": 0}, "hop 0"),
        ({"hop": 500}, "hop 500"),
        ({"n_fft": 256}, "n_fft 256"),
        ({"high": 9000.0}, "8000 Hz"),
        ({"low": 5000.0}, "low 5000"),
        ({"coefficients": 41}, "coefficients 41"),
        ({"floor": -1.0}, "floor -1"),
    ],
)
def test_sizes_that_contradict_each_other_are_named(options, named):
    with pytest.raises(ConfigError, match=named):
        FrontEnd(FeatureConfig(**options), RATE)
