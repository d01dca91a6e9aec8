"""Folders of recordings: layouts, words, classes, noise, and every mistake told."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from word_folders import LENGTH, RATE, SPEAKERS, commands, counts, digits, parts, read, save, sound, told, who

from core.errors import ConfigError, DataError
from tasks.speech.data import load
from tasks.speech.data.audio import fit

# ---------------------------------------------------------------- layouts


def test_speech_commands_are_split_by_speaker(tmp_path):
    data = read(commands(tmp_path / "words"))
    assert (
        data.name == "words"
        and data.classes == ["silence", "bed", "cat", "dog"]
        and data.words == ["bed", "cat", "dog"]
    )
    train, validation, test = who(data)
    assert not train & validation and not train & test and not validation & test
    assert train | validation | test == set(SPEAKERS)
    assert (len(validation), len(test)) == (2, 4)
    # The speakers with the smallest hashes, whatever else is in the folder.
    assert test == set(sorted(SPEAKERS, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:4])
    assert counts(data, data.folds[0].train) == {"bed": 14, "cat": 14, "dog": 14}
    assert counts(data, data.folds[0].test) == {"silence": 1, "bed": 4, "cat": 4, "dog": 4}
    assert data.size == len(data.clips.names) == len(data.clips.waves) == 62
    assert data.notes == ["42 to learn from, 7 to validate on, 13 to test on"]


def test_clips_hold_what_the_files_hold(tmp_path):
    data = read(commands(tmp_path, ending="flac"))
    assert data.clips.waves.dtype == np.int16 and data.clips.waves.shape[1] == LENGTH
    for index in (0, 20, 59):
        name = data.clips.names[index]
        assert data.classes[data.clips.labels[index]] == name.split("/")[0]
        assert data.clips.speakers[index] == name.split("/")[1].split("_")[0]
        stored, _ = soundfile.read(tmp_path / name, dtype="float32")
        np.testing.assert_array_equal(data.clips.wave(index), stored)
    assert not data.clips.old.any() and data.extends == 0


def test_the_folder_that_torchaudio_makes_is_read(tmp_path):
    commands(tmp_path / "SpeechCommands" / "speech_commands_v0.02")
    data = read(tmp_path)
    assert data.words == ["bed", "cat", "dog"]
    assert told(data, "^the recordings are in SpeechCommands/speech_commands_v0.02$")
    assert read(tmp_path / "SpeechCommands").digest == data.digest
    assert read(tmp_path / "SpeechCommands" / "speech_commands_v0.02").digest == data.digest


@pytest.mark.parametrize("below", [".", "recordings"])
def test_names_of_fsdd_are_understood(tmp_path, below):
    digits(tmp_path / below)
    data = read(tmp_path)
    assert data.words == ["0", "1", "2"]
    train, validation, test = who(data)
    assert not train & test and train | test == {"ann", "bob", "cid", "dee"} and len(test) == 1
    assert validation <= train, "three speakers are too few to spare one"
    assert told(data, "validation is on other recordings of the same speakers, since fewer than 10")
    assert not parts(data)[0] & parts(data)[1]


def test_any_folder_of_words_is_read_without_speakers(tmp_path):
    for word in ("on", "off"):
        for number in range(20):
            save(tmp_path / word / f"{number}.wav")
    save(tmp_path / "_unused" / "x.wav")
    save(tmp_path / ".hidden" / "x.wav")
    save(tmp_path / "on" / "._1.wav")
    save(tmp_path / "beside.wav")
    (tmp_path / "on" / "readme.txt").write_text("text")
    data = read(tmp_path, silence=0)
    assert data.classes == ["off", "on"] and data.size == 40
    assert told(data, "no file names its speaker: each counts as a speaker of its own; --data.speaker")
    assert told(data, "1 recordings beside the folders of the words are not read, such as beside.wav")
    assert set(data.clips.speakers) == {""}
    assert [len(part) for part in parts(data)] == [29, 3, 8]


def test_speakers_are_found_by_a_pattern(tmp_path):
    for word in ("on", "off"):
        for number in range(24):
            save(tmp_path / word / f"{number}-by{number % 12}.wav")
    data = read(tmp_path, speaker="by(\\d+)")
    train, validation, test = who(data)
    assert (
        train | validation | test == {str(k) for k in range(12)}
        and not train & test
        and not train & validation
    )
    assert not told(data, "speaker of its own")
    with pytest.raises(ConfigError, match=r"--data\.speaker 'of' finds nothing in the name 0-by0\.wav"):
        read(tmp_path, speaker="of")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such folder"),
        (lambda path: path.mkdir(), "no recordings; give a folder that holds a folder of recordings for each word"),
        (lambda path: save(path / "hello.wav"), "names such as hello.wav do not tell the word"),
        (lambda path: (path.mkdir(), (path / "a.m4a").write_text("x")), "files of .m4a cannot be read"),
        (lambda path: save(path / "on" / "a.wav", np.zeros(9)), "no usable recording; on/a.wav: left out, since"),
        (lambda path: digits(path, speakers=["ann"], takes=12), "all recordings are by one speaker, ann"),
        (lambda path: commands(path, ["bed"], noise=False), "bed is the only class"),
        (lambda path: commands(path, ["bed"], SPEAKERS[:4]), "no word has 10 recordings .most: bed 4.; lower --data"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_used(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "data")


# ---------------------------------------------------------------- words and classes


def test_rare_words_are_the_unknown_class(tmp_path):
    data = read(commands(tmp_path, rare=["owl", "yak", "zoo"]), unknown=0.5)
    assert data.classes == ["silence", "unknown", "bed", "cat", "dog"]
    assert told(
        data, "3 words with fewer than 10 recordings are none to spot: owl 5, yak 5, zoo 5; see --data.least"
    )
    unknown = {name for name in data.clips.names if name.split("/")[0] in ("owl", "yak", "zoo")}
    assert {data.classes[data.clips.labels[data.clips.names.index(name)]] for name in unknown} == {"unknown"}
    train, _, test = data.folds[0].train, data.folds[0].validation, data.folds[0].test
    heard = set(SPEAKERS[:5]) - who(data)[1] - who(data)[2]
    assert counts(data, train)["unknown"] == 3 * len(heard), "all of them are there to draw from"
    assert counts(data, test).get("unknown", 0) <= 6


def test_words_are_chosen_and_the_others_limited(tmp_path):
    path = commands(tmp_path, words=["bed", "cat", "dog", "owl"])
    data = read(path, words=["cat", "bed"], unknown=0.25, silence=0.5)
    assert data.classes == ["silence", "unknown", "cat", "bed"], "in the order that was given"
    assert counts(data, data.folds[0].test) == {"silence": 4, "unknown": 2, "cat": 4, "bed": 4}
    assert counts(data, data.folds[0].train) == {"unknown": 28, "cat": 14, "bed": 14}
    tested = [data.clips.names[i] for i in data.folds[0].test if data.clips.labels[i] == 1]
    possible = [f"{word}/{name}_nohash_0.wav" for word in ("dog", "owl") for name in who(data)[2]]
    assert sorted(tested) == sorted(
        sorted(possible, key=lambda n: hashlib.sha256(n.encode()).hexdigest())[:2]
    )
    none = read(path, words=["cat", "bed"], unknown=0)
    assert none.classes == ["silence", "cat", "bed"] and not any("dog" in name for name in none.clips.names)


def test_words_that_are_not_there_are_named(tmp_path):
    path = commands(tmp_path)
    with pytest.raises(ConfigError, match="has no recordings of 'bet'; nearest: bed"):
        read(path, words=["cat", "bet"])
    with pytest.raises(ConfigError, match=r"--data\.words: silence and unknown are no words"):
        read(path, words=["cat", "unknown"])


def test_a_folder_of_other_words_may_be_called_unknown(tmp_path):
    data = read(commands(tmp_path, words=["bed", "unknown", "silence"]))
    assert data.classes == ["silence", "unknown", "bed"]
    assert counts(data, data.folds[0].train) == {"unknown": 14, "bed": 14}
    assert told(data, "^silence: 20 recordings not read; silence is cut from what is in _background_noise_/")


def test_flat_names_may_be_of_silence_and_unknown_too(tmp_path):
    digits(tmp_path, words=2)
    for word in ("silence", "unknown"):
        for speaker in ("ann", "bob", "cid", "dee"):
            for take in range(4):
                save(tmp_path / f"{word}_{speaker}_{take}.wav")
    save(tmp_path / "_background_noise_" / "tap.wav", sound("tap", 10 * RATE))
    data = read(tmp_path)
    assert data.classes == ["silence", "unknown", "0", "1"]
    assert not any(name.startswith("silence_") for name in data.clips.names)
    assert told(data, "^silence: 16 recordings not read; silence is cut from what is in _background_noise_/")
    assert counts(data, data.folds[0].train)["unknown"] > 4
    assert read(tmp_path, unknown=0.0).classes == ["silence", "0", "1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"least": 0}, "--data.least 0 must be 1 or more"),
        ({"words": []}, "--data.words is an empty list; name the words to spot, or leave it out"),
    ],
)
def test_options_of_the_words_that_mean_nothing(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        read(commands(tmp_path, speakers=SPEAKERS[:4]), **options)


@pytest.mark.parametrize("number", range(len(SPEAKERS)))
def test_a_word_with_one_recording_is_learned(tmp_path, number):
    """Whoever speaks it, also the speakers that would be held out."""
    path = commands(tmp_path, words=["bed"], noise=False)
    save(path / "one" / f"{SPEAKERS[number]}_nohash_0.wav")
    data = read(path, words=["bed", "one"])
    assert counts(data, data.folds[0].train)["one"] == 1
    assert told(data, "no recordings to test on: one")
    assert not who(data)[0] & who(data)[2]


# ---------------------------------------------------------------- noise and silence


def test_noise_is_split_in_time(tmp_path):
    data = read(commands(tmp_path), silence=0.5)
    assert not data.made_noise and len(data.noise) == len(data.test_noise) == 2
    for name, train, held in zip(("bike", "tap"), data.noise, data.test_noise, strict=True):
        whole, _ = soundfile.read(tmp_path / "_background_noise_" / f"{name}.wav", dtype="float32")
        np.testing.assert_array_equal(np.concatenate([train, held]), whole)
        assert len(train) == 8 * RATE and train.dtype == np.float32
    spans = {}
    for kind, part in (("validation", data.folds[0].validation), ("test", data.folds[0].test)):
        for index in part[data.clips.labels[part] == 0]:
            name, second = data.clips.names[index].removeprefix("silence/").split("@")
            start = round(float(second) * RATE)
            whole, _ = soundfile.read(tmp_path / "_background_noise_" / name, dtype="float32")
            np.testing.assert_array_equal(data.clips.wave(index), whole[start : start + LENGTH])
            spans.setdefault(kind, []).append(start / RATE)
    assert len(spans["validation"]) == 3 and len(spans["test"]) == 6
    assert all(8 <= second <= 8.9 for second in spans["validation"])
    assert all(9 <= second <= 9.9 for second in spans["test"])


def test_noise_shorter_than_a_clip_is_repeated(tmp_path):
    path = commands(tmp_path, noise=False)
    save(path / "_background_noise_" / "click.wav", sound("click", 100))
    data = read(path)
    index = data.folds[0].test[-1]
    np.testing.assert_array_equal(data.clips.wave(index), np.resize(data.test_noise[0], LENGTH))


def test_without_noise_it_is_made_and_there_is_no_silence(tmp_path):
    data = read(commands(tmp_path, noise=False))
    assert data.made_noise and data.classes == ["bed", "cat", "dog"]
    assert told(
        data, "no recordings of noise: white and pink noise are made, and there is no class of silence"
    )
    white, pink = (np.abs(np.fft.rfft(noise)) ** 2 for noise in data.noise)
    assert len(white) == 8 * RATE // 2 + 1
    for spectrum, least, most in ((white, 0.8, 1.25), (pink, 5, 20)):
        assert least < spectrum[4000:8000].mean() / spectrum[-800:].mean() / (1 if least < 1 else 0.3) < most


def test_noise_from_a_folder_of_its_own(tmp_path):
    save(tmp_path / "noise" / "rain.wav", sound("rain", 5 * RATE))
    save(tmp_path / "noise" / "quiet.wav", np.zeros(RATE))
    (tmp_path / "noise" / "broken.wav").write_text("x")
    data = read(commands(tmp_path / "data"), noise_path=str(tmp_path / "noise"))
    assert len(data.noise) == 1 and len(data.noise[0]) == 4 * RATE
    assert all("rain.wav@" in name for name in data.clips.names if name.startswith("silence"))
    assert told(data, "quiet.wav: left out of the noise, since it is silent")
    assert told(data, "broken.wav: left out of the noise, since it is not audio")


# ---------------------------------------------------------------- bad files


def test_bad_files_are_left_out_and_told(tmp_path):
    path = commands(tmp_path)
    bed = path / "bed"
    names = iter(f"{number:08x}_nohash_0.wav" for number in range(50))
    for _ in range(2):
        (bed / next(names)).write_bytes(b"")
    save(bed / (cut := next(names)))
    (bed / cut).write_bytes((bed / cut).read_bytes()[:500])
    save(bed / next(names), np.zeros(LENGTH))
    save(bed / next(names), sound("long", 20 * LENGTH))
    bad = sound("nan")
    bad[3] = np.nan
    save(bed / next(names), bad, subtype="FLOAT")
    (bed / "x.m4a").write_text("x")
    save(bed / (stereo := next(names)), np.stack([sound("left"), sound("right")], 1))
    save(bed / (slow := next(names)), sound("slow", LENGTH // 2), RATE // 2)
    save(bed / (deep := next(names)), sound("deep"), subtype="PCM_24")
    save(bed / (longer := next(names)), sound("longer", 3 * LENGTH))
    save(bed / (shorter := next(names)), sound("shorter", LENGTH // 2))
    data = read(path)
    for note in (
        "^2 files: left out, since it is empty .0 bytes., such as bed/00000000_nohash_0.wav$",
        "^bed/00000002_nohash_0.wav: left out, since it is cut off, 57% of its samples are there",
        "^bed/00000003_nohash_0.wav: left out, since it is silent, all its samples are zero$",
        "^bed/00000004_nohash_0.wav: left out, since it lasts 2.0 s, longer than 0.4 s; raise --data.duration or cut",
        "^bed/00000005_nohash_0.wav: left out, since it holds values that are not finite",
        "^left out, since such files cannot be read: 1 .m4a; convert them to WAV or FLAC$",
        "^bed/00000006_nohash_0.wav: 2 channels averaged$",
        "^bed/00000007_nohash_0.wav: resampled from 2000 Hz$",
        "^1 longer than --data.duration 0.1 s, of which the loudest part is taken$",
    ):
        assert told(data, note), (note, data.notes)
    waves = {name: data.clips.wave(i) for i, name in enumerate(data.clips.names)}
    assert len([name for name in waves if name.startswith("bed/")]) == 25
    mean = (sound("left").astype(float) + sound("right")) / 2
    np.testing.assert_allclose(waves[f"bed/{stereo}"], mean, atol=2**-14)
    np.testing.assert_allclose(waves[f"bed/{deep}"], sound("deep"), atol=2**-15)
    np.testing.assert_allclose(waves[f"bed/{longer}"], fit(sound("longer", 3 * LENGTH), LENGTH), atol=2**-14)
    np.testing.assert_allclose(waves[f"bed/{shorter}"][100:300], sound("shorter", LENGTH // 2), atol=2**-14)
    assert not waves[f"bed/{shorter}"][:100].any() and waves[f"bed/{slow}"].any()


def test_recordings_longer_than_all_clips(tmp_path):
    for word in ("bed", "cat"):
        for speaker in SPEAKERS[:4]:
            save(tmp_path / word / f"{speaker}_nohash_0.wav", sound(word + speaker, RATE))
    message = "8 files: left out, since it lasts 1.0 s, longer than 0.24 s; raise --data.duration or cut it, such as"
    with pytest.raises(DataError, match=f"no usable recording; {message} bed/"):
        read(tmp_path, duration=0.06)


def test_names_need_not_be_unicode(tmp_path):
    path = commands(tmp_path, words=["bed", "cat"])
    word = os.fsencode(path) + b"/caf\xe9"
    try:
        os.mkdir(word)
    except OSError:
        pytest.skip("this file system has Unicode names alone")
    for speaker in SPEAKERS:
        shutil.copy(path / "bed" / f"{speaker}_nohash_0.wav", path / "copy.wav")
        samples, _ = soundfile.read(path / "copy.wav", dtype="float32")
        soundfile.write(word + b"/" + speaker.encode() + b"_nohash_0.wav", -samples, RATE)
    (path / "copy.wav").unlink()
    Path(os.fsdecode(word + b"/\xff.wav")).write_bytes(b"")
    Path(os.fsdecode(word + b"/\xfe.m4a")).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(path) + b"/beside\xfe.wav")).write_bytes(b"x")
    noise = os.fsencode(path / "_background_noise_")
    os.rename(noise + b"/tap.wav", noise + b"/tap\xe9.wav")
    lines = [
        word + b"/" + speaker.encode() + b"_nohash_0.wav"
        for speaker in SPEAKERS[:5]
        for word in (b"bed", b"caf\xe9")
    ]
    (path / "testing_list.txt").write_bytes(b"\n".join(lines))
    data = read(path)
    assert data.words == ["bed", "caf\\udce9", "cat"]
    assert counts(data, data.folds[0].test) == {"silence": 1, "bed": 5, "caf\\udce9": 5}
    assert who(data)[2] == set(SPEAKERS[:5])
    assert told(data, r"^caf.udce9/.udcff.wav: left out, since it is empty")
    for text in (data.name, *data.classes, *data.notes, *data.clips.names, *data.clips.speakers):
        text.encode()
    assert read(path, words=data.words).digest == data.digest, "as the trained model says it"


def test_full_scale_does_not_wrap_around(tmp_path):
    path = commands(tmp_path)
    loud = np.where(np.arange(LENGTH) % 2, 1.5, -1.5).astype(np.float32)
    save(path / "bed" / "00000000_nohash_0.wav", loud, subtype="FLOAT")
    data = read(path)
    wave = data.clips.waves[data.clips.names.index("bed/00000000_nohash_0.wav")]
    assert wave.tolist() == [-32768, 32767] * (LENGTH // 2)


# ---------------------------------------------------------------- digests and made data


def test_the_digest_is_of_content_and_split(tmp_path):
    path = commands(tmp_path / "one")
    first = read(path)
    shutil.copytree(path, tmp_path / "two")
    for options in ({}, {"shift": 0.0, "noise": 0.0, "volume": 0.3, "variants": 0}, {"words": first.words}):
        assert read(tmp_path / "two", **options).digest == first.digest
    for options in ({"test_share": 0.4}, {"words": ["cat", "bed", "dog"]}, {"silence": 0.0}, {"folds": 2}):
        assert read(path, **options).digest != first.digest
    save(tmp_path / "two" / "bed" / f"{SPEAKERS[0]}_nohash_0.wav", sound("another"))
    assert read(tmp_path / "two").digest != first.digest
    save(path / "_background_noise_" / "tap.wav", sound("another", 10 * RATE))
    assert read(path).digest != first.digest


@pytest.mark.parametrize("name", ["auto", "synthetic"])
def test_without_a_path_words_are_made(monkeypatch, name):
    monkeypatch.setattr(load.synthetic, "write_words", commands)
    data = read(name=name)
    assert data.name == "synthetic" and data.words == ["bed", "cat", "dog"]


def test_words_are_spoken_by_espeak(monkeypatch):
    spoken = []

    def write_words(folder, words):
        spoken.extend(words)
        commands(folder, [word.replace(" ", "_") for word in words])

    monkeypatch.setattr(load.espeak, "write_words", write_words)
    data = read(name="espeak", words=["turn on", "off"])
    assert data.name == "espeak" and data.words == ["turn_on", "off"] and spoken == ["turn on", "off"]
    assert read(name="espeak", words=data.words).digest == data.digest
    for words in (None, []):
        with pytest.raises(ConfigError, match=r"--data\.name espeak needs --data\.words, the words to speak"):
            read(name="espeak", words=words)


def test_a_folder_needs_a_path():
    with pytest.raises(ConfigError, match=r"--data\.name folder needs --data\.path FOLDER"):
        read(name="folder")


def test_a_pattern_of_speakers_leaves_unnamed_ones_alone(tmp_path):
    path = commands(tmp_path)
    save(path / "bed" / "mine.wav")
    data = read(path)
    assert told(
        data, "^1 files, such as bed/mine.wav, do not name their speaker: each counts as a speaker of its own"
    )
