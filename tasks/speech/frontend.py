"""From waveforms to what the networks see: MFCC, log-mel or PCEN, in batches and as part of the model.

Equal to the front end of the released code of arXiv:1710.10361 (librosa's power mel spectrogram, logarithm of positive
energies, orthonormal DCT-II) to 1e-4: the Fourier transform is in double precision, since a pure tone leaves energies
that single precision cannot tell from rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.registry import Registry
from tasks.speech.config import FeatureConfig

CHUNK = 6
"""Clips that are transformed together: frames and spectra fit into the cache of a processor. On an AMD EPYC 16 take 1.3
and 256 four times as long."""

KINDS: Registry[Callable[..., nn.Module]] = Registry("kind of features")


class FrontEnd(nn.Module):
    """Turns clips into features.

    Args:
        config: Kind of features and their sizes.
        rate: Sampling rate of the clips, Hz.

    Attributes:
        edge: Frames at either end of a clip that see its continuation beyond the end.

    Raises:
        ConfigError: Sizes contradict each other.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: FeatureConfig, rate: int) -> None:
        super().__init__()
        self.config, self.rate, self.hop, self.pad = config, rate, config.hop, config.pad
        self.n_fft = config.n_fft or config.window
        _check(config, rate, self.n_fft)
        self.edge = math.ceil(self.n_fft / 2 / self.hop)
        # As a window of fewer samples than the transform is placed by torch and librosa: in the middle.
        window = torch.hann_window(config.window, dtype=torch.float64)
        left = (self.n_fft - config.window) // 2
        self.register_buffer(
            "window", F.pad(window, (left, self.n_fft - config.window - left)), persistent=False
        )
        filters = mel_filters(config, rate, self.n_fft)
        self.bins = int(filters.sum(1).nonzero().max()) + 1  # of the spectrum that some filter reads
        # Real and imaginary parts stand beside each other in the spectrum, and the filters add their squares.
        filters = filters[: self.bins].repeat_interleave(2, 0).float()
        self.register_buffer("filters", filters, persistent=False)
        self.finish = nn.Sequential(KINDS[config.kind](config, rate), Normalise(config.normalise))

    def frames(self, samples: int) -> int:
        """Returns the number of frames of a clip of so many samples."""
        return (samples + 2 * (self.n_fft // 2) - self.n_fft) // self.hop + 1

    @property
    def size(self) -> int:
        """Features of a frame."""
        return self.config.coefficients if self.config.kind == "mfcc" else self.config.mels

    def forward(self, wave: Tensor) -> Tensor:
        """Maps clips ``(B, N)`` in [-1, 1] to features ``(B, frames(N), size)`` in single precision."""
        return self.finish(self.mel(wave))

    def mel(self, wave: Tensor) -> Tensor:
        """Maps clips ``(B, N)`` to their mel energies ``(B, T, mels)``.

        Frame ``t`` is centred on sample ``t * hop``; what it sees beyond the ends is the clip reflected, or zeros.
        """
        return self._energies(wave, self.n_fft // 2)

    def energies(self, wave: Tensor) -> Tensor:
        """Maps ``(B, M)`` to the mel energies ``(B, (M - n_fft) // hop + 1, mels)`` of the frames that lie in it."""
        return self._energies(wave, 0)

    def _energies(self, wave: Tensor, beyond: int) -> Tensor:
        """Returns the energies of clips that are continued by so many samples at both ends."""
        if torch.compiler.is_exporting():
            return self._filtered(self._frames(wave, beyond) * self.window)
        count = (wave.shape[1] + 2 * beyond - self.n_fft) // self.hop + 1
        # Memory that is used again lies in the cache of the processor: new memory takes five times as long here.
        windowed = self.window.new_empty(min(CHUNK, len(wave)), count, self.n_fft)
        result = windowed.new_empty(len(wave), count, self.filters.shape[1], dtype=torch.float32)
        for first in range(0, len(wave), CHUNK):
            part = self._frames(wave[first : first + CHUNK], beyond)
            torch.mul(part, self.window, out=windowed[: len(part)])
            result[first : first + CHUNK] = self._filtered(windowed[: len(part)])
        return result

    def _frames(self, wave: Tensor, beyond: int) -> Tensor:
        """Cuts clips into frames ``(B, T, n_fft)``, double precision."""
        wave = wave.double()
        if beyond and self.pad == "reflect":
            # F.pad does the same in a third of the time that all the rest takes.
            wave = torch.cat([wave[:, 1 : beyond + 1].flip(1), wave, wave[:, -beyond - 1 : -1].flip(1)], 1)
        elif beyond:
            wave = F.pad(wave, (beyond, beyond))
        return wave.unfold(1, self.n_fft, self.hop)

    def _filtered(self, windowed: Tensor) -> Tensor:
        """Maps windowed frames ``(B, T, n_fft)`` to energies ``(B, T, mels)``."""
        spectrum = torch.fft.rfft(windowed)
        return torch.view_as_real(spectrum[..., : self.bins]).float().flatten(-2).square_() @ self.filters

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves the buffers between devices, and keeps their precision: ``.to(bfloat16)`` is for networks."""

        def keep(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor).device)

        return super()._apply(keep, recurse)


def mel_filters(config: FeatureConfig, rate: int, n_fft: int) -> Tensor:
    """Returns triangular filters on Slaney's mel scale, each of area 1: ``(n_fft // 2 + 1, mels)``, double precision.

    They are torchaudio's ``melscale_fbanks(norm="slaney", mel_scale="slaney")``, which has them in single precision.

    Slaney, "Auditory Toolbox", version 2, 1998: linear below 1 kHz, logarithmic above.
    """
    points = _hertz(torch.linspace(_mel(config.low), _mel(config.high), config.mels + 2, dtype=torch.float64))
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * (rate / n_fft)
    low, middle, high = points[:-2], points[1:-1], points[2:]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return torch.minimum(rising, falling).clamp_min(0) * 2 / (high - low)


_STEP = math.log(6.4) / 27  # from 1 kHz on a mel is so much in the logarithm of the frequency


def _mel(hertz: float) -> float:
    return 3 * hertz / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) / _STEP


def _hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, 200 * mel / 3, 1000 * torch.exp((mel - 15) * _STEP))


@KINDS.register("logmel")
class LogMel(nn.Module):
    """Logarithm of the energies, natural.

    Args:
        config: Its ``floor``.
        rate: Sampling rate, Hz.
    """

    def __init__(self, config: FeatureConfig, rate: int) -> None:
        super().__init__()
        self.floor = config.floor

    def forward(self, energies: Tensor) -> Tensor:
        """Maps energies ``(B, T, mels)`` to features of the same shape."""
        if self.floor:
            return energies.clamp_min(self.floor).log()
        return torch.where(energies > 0, energies.log(), 0.0)


@KINDS.register("mfcc")
class MFCC(LogMel):
    """Cepstral coefficients: an orthonormal DCT-II of the logarithm of the energies, without liftering."""

    dct: Tensor

    def __init__(self, config: FeatureConfig, rate: int) -> None:
        super().__init__(config, rate)
        # torchaudio.functional.create_dct is the same in single precision throughout, an error of 1e-4.
        n = torch.arange(config.mels, dtype=torch.float64)[:, None] + 0.5
        matrix = torch.cos(torch.pi / config.mels * n * torch.arange(config.coefficients))
        matrix *= math.sqrt(2 / config.mels)
        matrix[:, 0] /= math.sqrt(2)
        self.register_buffer("dct", matrix.float(), persistent=False)

    def forward(self, energies: Tensor) -> Tensor:
        """Maps energies ``(B, T, mels)`` to coefficients ``(B, T, C)``."""
        return super().forward(energies) @ self.dct


@KINDS.register("pcen")
class PCEN(nn.Module):
    """Per-channel energy normalisation, eq. 1 and 2 of arXiv:1607.05666 with the constants of its section 3.

    ``M_t = (1 - s) M_(t-1) + s E_t`` and ``(E / (eps + M)^alpha + delta)^r - delta^r``, with s 0.025 for frames of
    10 ms, alpha 0.98, delta 2, r 0.5, eps 1e-6; ``M_0 = E_0``. Energies are those of 16-bit samples.

    Args:
        config: Its ``hop``.
        rate: Sampling rate, Hz.
    """

    gain, bias, root, tiny = 0.98, 2.0, 0.5, 1e-6
    full = 32768.0**2
    """Energy of a sample at full scale."""

    def __init__(self, config: FeatureConfig, rate: int) -> None:
        super().__init__()
        self.smoothing = 1 - (1 - 0.025) ** (config.hop / rate / 0.01)

    def forward(self, energies: Tensor) -> Tensor:
        """Maps energies ``(B, T, mels)`` to features of the same shape."""
        energies = energies * self.full
        frames = torch.arange(energies.shape[1], device=energies.device)
        lag = (frames[:, None] - frames).clamp_min(0)
        # The recursion written out: the first frame has the weight of all that would have been before it.
        weights = (1 - self.smoothing) ** lag * torch.where(frames > 0, self.smoothing, 1.0)
        mean = (weights.tril()).to(energies.dtype) @ energies
        gained = energies / (self.tiny + mean) ** self.gain
        return (gained + self.bias) ** self.root - self.bias**self.root


class Normalise(nn.Module):
    """Takes mean and deviation out of each clip.

    Args:
        over: ``none``, ``clip`` or ``feature``, as :class:`tasks.speech.config.FeatureConfig` says.
    """

    axes: ClassVar[dict[str, tuple[int, ...]]] = {"none": (), "clip": (1, 2), "feature": (1,)}
    least = 0.1
    """Of a deviation: digital silence has none."""

    def __init__(self, over: str) -> None:
        super().__init__()
        self.over = self.axes[over]

    def forward(self, features: Tensor) -> Tensor:
        """Returns ``(B, T, F)`` with mean 0 and deviation 1 over the axes, or as it was."""
        if not self.over:
            return features
        centred = features - features.mean(self.over, keepdim=True)
        deviation = centred.square().mean(self.over, keepdim=True).sqrt()
        return centred / deviation.clamp_min(self.least)


def _check(config: FeatureConfig, rate: int, n_fft: int) -> None:
    if not 0 < config.hop <= config.window <= n_fft:
        raise ConfigError(
            f"--features: hop {config.hop}, window {config.window} and n_fft {n_fft} must grow in this order, from 1"
        )
    if not 0 <= config.low < config.high <= rate / 2:
        raise ConfigError(
            f"--features: low {config.low:g} and high {config.high:g} Hz must lie between 0 and half the rate, "
            f"{rate / 2:g} Hz"
        )
    if config.kind == "mfcc" and not 1 <= config.coefficients <= config.mels:
        raise ConfigError(
            f"--features.coefficients {config.coefficients} must lie between 1 and mels, {config.mels}"
        )
    if config.floor < 0:
        raise ConfigError(f"--features.floor {config.floor} must not be negative")
