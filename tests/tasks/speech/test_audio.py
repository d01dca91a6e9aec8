"""Audio files of all kinds: read as they are, resampled without seams, and refused with the reason."""

from __future__ import annotations

import os
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from core.errors import DataError
from tasks.speech.data.audio import fit, read_recording, stream_blocks

RATE = 16000


def sound(seconds=1.0, rate=RATE, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def tone(seconds, rate, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def write(path, samples, rate=RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    ("ending", "subtype", "error"),
    [
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "FLOAT", 0),
        ("flac", "PCM_16", 2**-15),
        ("aiff", "PCM_16", 2**-15),
        ("WAV", "PCM_U8", 2**-7),
    ],
)
def test_files_without_loss_give_their_samples(tmp_path, ending, subtype, error):
    samples = sound()
    recording = read_recording(write(tmp_path / f"a.{ending}", samples, subtype=subtype), RATE)
    assert recording.rate == RATE and recording.notes == []
    assert recording.samples.dtype == np.float32 and recording.samples.shape == (RATE,)
    assert np.abs(recording.samples - samples).max() <= error


@pytest.mark.parametrize("ending", ["ogg", "opus", "mp3"])
def test_files_with_loss_sound_the_same(tmp_path, ending):
    samples = tone(1, RATE)
    kind = {"format": "OGG", "subtype": "OPUS"} if ending == "opus" else {}
    recording = read_recording(write(tmp_path / f"a.{ending}", samples, **kind), RATE)
    # Opus is always of 48 kHz, or the encoder's; a second stays a second.
    assert abs(len(recording.samples) - RATE) < 0.1 * RATE
    spectrum = np.abs(np.fft.rfft(recording.samples[2000:14000]))
    assert abs(spectrum.argmax() * RATE / 12000 - 440) < 3


def test_channels_are_averaged(tmp_path):
    left, right = sound(seed=1), sound(seed=2)
    path = write(tmp_path / "a.wav", np.stack([left, right], 1), subtype="FLOAT")
    recording = read_recording(path, RATE)
    np.testing.assert_allclose(recording.samples, (left.astype(float) + right) / 2, atol=1e-7)
    assert recording.notes == ["2 channels averaged"]


@pytest.mark.parametrize("rate", [8000, 44100, 11025, 48000])
def test_other_rates_are_resampled(tmp_path, rate):
    samples = tone(1, rate)
    recording = read_recording(write(tmp_path / "a.wav", samples, rate, subtype="FLOAT"), RATE)
    assert recording.notes == [f"resampled from {rate} Hz"]
    expected = resample(torch.from_numpy(samples).double(), rate, RATE).numpy()
    np.testing.assert_allclose(recording.samples, expected, atol=1e-5)
    np.testing.assert_allclose(recording.samples[2000:14000], tone(1, RATE)[2000:14000], atol=2e-3)


def test_rates_without_a_common_divisor_are_resampled(tmp_path):
    path = write(tmp_path / "a.wav", tone(1, 44099), 44099, subtype="FLOAT")
    samples = read_recording(path, RATE).samples
    assert len(samples) == RATE
    np.testing.assert_allclose(samples[2000:14000], tone(1, RATE)[2000:14000], atol=2e-3)


def test_floating_point_above_full_scale_is_clipped(tmp_path):
    recording = read_recording(write(tmp_path / "a.wav", 4 * tone(1, RATE), subtype="FLOAT"), RATE)
    assert recording.samples.max() == 1 and recording.samples.min() == -1
    assert recording.notes == ["peaks above full scale clipped"]


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
def test_the_header_of_a_recorder_that_wrote_into_a_pipe_is_no_error(tmp_path, size):
    path = write(tmp_path / "a.wav", sound())
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    assert len(read_recording(path, RATE).samples) == RATE


def test_a_name_need_not_be_unicode(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        path.write_bytes(b"")
    except OSError:
        pytest.skip("this file system has Unicode names alone")
    with pytest.raises(DataError, match="is empty") as caught:
        read_recording(path, RATE)
    assert str(caught.value).encode().endswith(b"/caf\\udce9.wav: is empty (0 bytes)")
    soundfile.write(os.fsencode(path), sound(), RATE)
    assert len(read_recording(path, RATE).samples) == RATE
    assert sum(map(len, stream_blocks(path, RATE))) == RATE


# ---------------------------------------------------------------- what is not


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.aiff", {}),
        ("a.flac", {}),
        ("a.mp3", {}),
        ("a.ogg", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_cut_files_are_refused(tmp_path, name, options, share):
    path = cut(write(tmp_path / name, sound(8), **options), share)
    # libsndfile reads most of these without a word.
    for read in (lambda: read_recording(path, RATE), lambda: [*stream_blocks(path, RATE)]):
        with pytest.raises(DataError, match=r"a\.\w+: is cut off"):
            read()


def test_a_page_that_is_missing_at_the_end_of_ogg_is_seen(tmp_path):
    path = write(tmp_path / "a.ogg", sound(30))
    data = path.read_bytes()
    path.write_bytes(data[: data.rfind(b"OggS")])  # every page that is there is whole
    with soundfile.SoundFile(path) as file:
        assert len(file.read()) == file.frames, "libsndfile sees nothing"
    with pytest.raises(DataError, match="is cut off, its end is missing"):
        read_recording(path, RATE)


def test_a_few_samples_may_be_missing(tmp_path):
    path = cut(write(tmp_path / "a.wav", sound()), 0.995)
    assert 0.99 * RATE < len(read_recording(path, RATE).samples) < RATE
    path = cut(write(tmp_path / "a.wav", sound()), 0.98)
    with pytest.raises(DataError, match="98% of its samples are there"):
        read_recording(path, RATE)


def broken_files():
    bad = sound()
    bad[77] = np.nan
    worse = sound()
    worse[5] = -np.inf
    return {
        "there is no such file": lambda path: None,
        "is a folder": lambda path: path.mkdir(),
        "is empty": lambda path: path.write_bytes(b""),
        "is not audio that can be read": lambda path: path.write_text("words " * 100),
        "holds no samples": lambda path: write(path, sound(0)),
        "(NaN or infinity)": lambda path: write(path, bad, subtype="FLOAT"),
        "not finite": lambda path: write(path, np.stack([sound(), worse], 1), subtype="FLOAT"),
        "samples up to 3": lambda path: write(path, 1e4 * np.clip(sound(), -0.3, 0.3), subtype="FLOAT"),
        "sampling rate of 100 Hz": lambda path: write(path, sound(), 100),
    }


@pytest.mark.parametrize("message", broken_files())
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, message):
    path = tmp_path / "a.wav"
    broken_files()[message](path)
    for read in (lambda: read_recording(path, RATE), lambda: [*stream_blocks(path, RATE)]):
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            read()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_m4a_is_named(tmp_path):
    (tmp_path / "a.m4a").write_bytes(b"123")
    with pytest.raises(DataError, match=r"files of .m4a cannot be read; convert it to WAV or FLAC"):
        read_recording(tmp_path / "a.m4a", RATE)


def test_long_files_are_refused_before_they_are_decoded(tmp_path):
    path = write(tmp_path / "a.flac", sound(5))
    assert len(read_recording(path, RATE, longest=5).samples) == 5 * RATE
    cut(path, 0.5)  # a decoder would say that
    with pytest.raises(DataError, match=r"lasts 5.0 s, longer than 4 s; raise --data.duration or cut it$"):
        read_recording(path, RATE, longest=4)


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("rate", [16000, 8000, 44100, 48000, 11025, 16001, 44099])
@pytest.mark.parametrize("seconds", [0.01, 0.37, 60.0])
def test_a_stream_has_no_seams(tmp_path, rate, seconds):
    path = write(tmp_path / "a.wav", sound(2.1234, rate), rate)
    whole = read_recording(path, RATE).samples
    blocks = list(stream_blocks(path, RATE, seconds))
    streamed = np.concatenate(blocks)
    assert streamed.dtype == np.float32 and streamed.shape == whole.shape
    np.testing.assert_allclose(streamed, whole, atol=1e-5)
    if seconds < 1:
        assert len(blocks) > 4


@pytest.mark.parametrize("samples", [1, 7, 100])
def test_a_stream_may_be_shorter_than_the_filter(tmp_path, samples):
    path = write(tmp_path / "a.wav", sound()[:samples], 44100)
    whole = read_recording(path, RATE).samples
    np.testing.assert_allclose(np.concatenate([*stream_blocks(path, RATE)]), whole, atol=1e-6)


def test_a_compressed_file_in_two_channels_is_streamed(tmp_path):
    path = write(tmp_path / "a.mp3", np.stack([tone(3, 44100), sound(3, 44100)], 1), 44100)
    whole = read_recording(path, RATE).samples
    np.testing.assert_allclose(np.concatenate([*stream_blocks(path, RATE, 0.2)]), whole, atol=1e-4)


def test_ten_minutes_take_no_more_memory_than_one(tmp_path):
    peaks = []
    for minutes in (1, 10):
        path = write(tmp_path / f"{minutes}.wav", np.tile(sound(60, 8000), minutes), 8000)
        tracemalloc.start()
        received = sum(len(block) for block in stream_blocks(path, RATE))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert received == minutes * 60 * RATE
    assert peaks[1] < 1.5 * peaks[0] < 3e6


# ---------------------------------------------------------------- lengths


def test_a_short_recording_is_centred():
    np.testing.assert_array_equal(fit(np.ones(3, np.float32), 6), [0, 1, 1, 1, 0, 0])
    samples = sound()
    assert fit(samples, RATE).tobytes() == samples.tobytes()


def test_the_loudest_stretch_of_a_long_recording_is_taken():
    samples = 0.001 * sound(3)
    word = tone(0.4, RATE)
    samples[30000 : 30000 + len(word)] += word
    taken = fit(samples, RATE)
    assert taken.shape == (RATE,)
    energies = [np.square(samples[i : i + RATE]).sum() for i in range(0, 2 * RATE, 100)]
    assert np.square(taken).sum() > 0.989 * max(energies)
    middle = np.average(np.arange(RATE), weights=np.square(taken))
    assert abs(middle - RATE / 2) < 0.05 * RATE, "the word stands in the middle"


def test_the_loudest_stretch_is_found_at_the_ends():
    samples = np.zeros(100, np.float32)
    samples[[0, 1, 98, 99]] = [0.1, 0.1, 0.5, 0.5]
    np.testing.assert_array_equal(fit(samples, 2), [0.5, 0.5])
    np.testing.assert_array_equal(fit(samples[::-1], 2), [0.5, 0.5])
