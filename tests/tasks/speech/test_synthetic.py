"""Made words: the layout of Speech Commands, the same bytes for a seed, and words that can be told apart."""

import hashlib
import re
import sys

import numpy as np
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression

from core.errors import ConfigError, DataError
from tasks.speech.config import NOISE_FOLDER, DataConfig, FeatureConfig
from tasks.speech.data import espeak, layout, synthetic
from tasks.speech.frontend import FrontEnd


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()


def names_of(folder):
    return sorted(str(path.relative_to(folder).as_posix()) for path in folder.glob("*/*_nohash_*.wav"))


def lists_of(folder):
    return {
        kind: (folder / f"{kind}_list.txt").read_text().splitlines() for kind in ("validation", "testing")
    }


def check_layout(folder):
    """Returns the names of the clips."""
    names = names_of(folder)
    assert names and all(re.fullmatch(r"[^/]+/[0-9a-f]{8}_nohash_\d+\.wav", name) for name in names)
    for name in names:
        info = soundfile.info(folder / name)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    lists = lists_of(folder)
    assert {*lists["validation"], *lists["testing"]} < {*names}
    sides = {name: kind for kind, held_out in lists.items() for name in held_out}
    assert len(sides) == sum(map(len, lists.values()))
    by_speaker = {}
    for name in names:
        by_speaker.setdefault(name.split("/")[1][:8], set()).add(sides.get(name, "train"))
    assert all(len(found) == 1 for found in by_speaker.values()), "no speaker on two sides"
    noises = sorted((folder / NOISE_FOLDER).iterdir())
    assert [soundfile.info(path).duration for path in noises] == [20.0] * 3
    return names


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "words"
    assert synthetic.write_words(folder, seed=1, speakers=20, clips=2) == 20 * 2 * 6 + 4 * 5
    return folder


def test_the_layout_is_that_of_speech_commands(words):
    names = check_layout(words)
    counts = {word: sum(name.startswith(f"{word}/") for name in names) for word in synthetic.WORDS}
    assert set(counts.values()) == {40}
    rare = [sum(name.startswith(f"{word}/") for name in names) for word in synthetic.RARE]
    assert rare == [5] * 4
    lists = lists_of(words)
    assert len(lists["validation"]) == 2 * 12 + 4 and len(lists["testing"]) == 4 * 12 + 4
    for name in names:
        samples, _ = soundfile.read(words / name)
        assert len(samples) == 16000 and 0.05 < np.abs(samples).max() < 1


def test_every_rare_word_is_too_rare_and_held_out_somewhere():
    # Of the default set, without writing it.
    voices = [synthetic.make_speaker(0, number).name for number in range(60)]
    few = layout.by_hash(voices)[::4]
    assert len(set(voices)) == 60 and len(few) == 15 < DataConfig.least
    assert sum(layout.by_hash(voices).index(name) < 18 for name in few) == 5


def test_a_seed_gives_the_same_bytes(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        synthetic.write_words(folder, seed, speakers=3, clips=1)
    same, again, other = map(digest, folders)
    assert same == again != other


def test_words_can_be_told_apart_but_not_by_their_sounds_alone(words):
    """Held-out speakers, mean MFCC: sounds without their order do not suffice, yet are far above chance."""
    names = [name for name in names_of(words) if name.split("/")[0] in synthetic.WORDS]
    front = FrontEnd(FeatureConfig(), 16000)
    waves = torch.from_numpy(np.stack([soundfile.read(words / name, dtype="float32")[0] for name in names]))
    means = front(waves).mean(1).numpy()
    means = (means - means.mean(0)) / means.std(0)
    labels = np.array([name.split("/")[0] for name in names])
    testing = np.isin(names, lists_of(words)["testing"])
    model = LogisticRegression(max_iter=1000).fit(means[~testing], labels[~testing])
    assert 0.5 < model.score(means[testing], labels[testing]) < 0.95
    pair = np.isin(labels, ["kamo", "moka"])
    found = model.predict(means)
    assert np.isin(found[pair & testing], ["kamo", "moka"]).mean() > 0.7
    assert (found == labels)[pair & testing].mean() < 0.9


def test_speakers_differ_in_pitch_and_tract():
    speakers = [synthetic.make_speaker(0, number) for number in range(100)]
    pitch, tract = np.array([s.pitch for s in speakers]), np.array([s.tract for s in speakers])
    assert 80 <= pitch.min() < 90 and 230 < pitch.max() <= 260
    assert 0.85 <= tract.min() < 0.88 and 1.15 < tract.max() <= 1.2
    assert np.corrcoef(pitch, tract)[0, 1] > 0.7


def test_resonances_lie_at_the_formants():
    response = np.abs(synthetic._tract(np.array([[700.0, 1200.0, 2500.0]]), 1.0)[0])
    peaks = np.flatnonzero((response[1:-1] > response[:-2]) & (response[1:-1] > response[2:])) + 1
    np.testing.assert_allclose(peaks * 16000 / 512, [700, 1200, 2500, 3500, 4500], atol=40)
    assert response[0] == pytest.approx(1)


def test_pulses_have_the_pitch():
    pulses = synthetic._pulses(100.0, 16000, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(pulses * np.hanning(16000)))
    # The contour falls through 100 Hz; the first harmonic is the strongest part of the lowest octaves.
    assert 75 < np.argmax(spectrum[20:180]) + 20 < 130


def test_coloured_noise_falls_with_frequency():
    noise = layout.coloured(2**16, 2.0, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(2**16, 1 / 16000)
    low, high = (power[(frequency > f) & (frequency < 2 * f)].mean() for f in (200, 3200))
    assert np.log2(low / high) == pytest.approx(2 * 4, abs=0.3) and noise.std() == pytest.approx(1)


def test_mistakes_are_told_in_a_line(tmp_path, capsys, monkeypatch):
    with pytest.raises(ConfigError, match="'hello' must be spelled in the letters"):
        synthetic.write_words(tmp_path / "new", words=["hello"])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not empty; name a new folder"):
        synthetic.write_words(tmp_path, speakers=1)
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        synthetic.write_words(tmp_path / "file" / "x", speakers=1)
    monkeypatch.setattr(sys, "argv", ["synthetic", str(tmp_path), "--seed", "2"])
    assert synthetic.main() == 1
    assert capsys.readouterr().err == f"error: {tmp_path} is not empty; name a new folder\n"


# ---------------------------------------------------------------- espeak-ng


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(
        ConfigError, match=r"^words are spoken by espeak-ng: pip install 'skipway\[espeak\]'$"
    ):
        espeak.write_words(tmp_path / "new", ["yes"])


@pytest.mark.parametrize("word", ["", "a/b", "..", "_background_noise_", "silence"])
def test_words_that_are_no_folders_are_refused(word, tmp_path):
    with pytest.raises(ConfigError, match="cannot be the name of a folder and a class"):
        espeak.write_words(tmp_path / "new", [word])


def test_espeak_writes_words_and_others(tmp_path, capsys, monkeypatch):
    pytest.importorskip("espeakng_loader")
    voices = ["en-us+m3", "en-gb-scotland+m3", "en+f2", "en-us+Annie"]
    options = [
        "--words",
        "yes",
        "hey computer",
        "--others",
        "yes",
        "river",
        "--voices",
        *voices,
        "--clips",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", ["espeak", str(tmp_path / "a"), *options])
    assert espeak.main() == 0
    count = espeak.write_words(tmp_path / "b", ["yes", "hey_computer"], 0, voices, 1, ["river"])
    # Others are spoken once by each throat.
    assert count == 2 * 4 + 3
    names = check_layout(tmp_path / "b")
    assert sum(name.startswith("hey_computer/") for name in names) == 4
    assert len({name.split("/")[1][:8] for name in names}) == 3, "a variant is a speaker in all accents"
    assert digest(tmp_path / "a") == digest(tmp_path / "b"), "the library's state is new each time"
    assert re.search(r"yes: 4, the longest takes 1\.\d\d s", capsys.readouterr().out)
    for name in names:
        samples, _ = soundfile.read(tmp_path / "a" / name)
        assert 0.09 < np.abs(samples).max() <= 1 and len(samples) >= 16000
        assert np.sqrt(np.mean(samples[:200] ** 2)) > 1e-4, "no digital zeros"


@pytest.mark.parametrize("voice", ["xx", "en-us+nobody"])
def test_unknown_voices_are_told(voice, tmp_path):
    pytest.importorskip("espeakng_loader")
    with pytest.raises(ConfigError, match=re.escape(f"no voice {voice!r}")):
        espeak.write_words(tmp_path / "new", ["yes"], voices=[voice])
