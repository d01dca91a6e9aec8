"""Splits by lists, by speaker and in folds: no speaker is on both sides; and new words beside old ones."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from word_folders import RATE, SPEAKERS, commands, counts, digits, parts, read, save, sound, told, who

from core.errors import ConfigError, DataError

# ---------------------------------------------------------------- lists


def lists(path, validation=(), testing=(), ending="wav"):
    for kind, speakers in (("validation", validation), ("testing", testing)):
        lines = [f"{word}/{name}_nohash_0.{ending}" for word in ("bed", "cat", "dog") for name in speakers]
        (path / f"{kind}_list.txt").write_text("\n".join(lines) + "\n")
    return path


def test_lists_decide_whatever_the_endings(tmp_path):
    data = read(lists(commands(tmp_path, ending="flac"), SPEAKERS[:3], SPEAKERS[3:8]))
    assert who(data) == [set(SPEAKERS[8:]), set(SPEAKERS[:3]), set(SPEAKERS[3:8])]
    assert not told(data, "list")


@pytest.mark.parametrize("write", ["\r\n", "\\"])
def test_lists_written_elsewhere(tmp_path, write):
    path = lists(commands(tmp_path), SPEAKERS[:3], SPEAKERS[3:8])
    file = path / "testing_list.txt"
    text = file.read_text()
    file.write_bytes((text.replace("\n", "\r\n") if write == "\r\n" else text.replace("/", "\\")).encode())
    assert who(read(path))[2] == set(SPEAKERS[3:8])


def test_files_that_lists_name_and_are_missing_are_counted(tmp_path):
    path = lists(commands(tmp_path), SPEAKERS[:3], [*SPEAKERS[3:8], "ffffffff"])
    data = read(path)
    assert told(data, "^testing_list.txt: 3 of 18 files are not here, such as bed/ffffffff_nohash_0.wav$")
    assert who(data)[2] == set(SPEAKERS[3:8])


def test_without_the_files_of_the_testing_list_the_validation_list_is_tested(tmp_path):
    data = read(lists(commands(tmp_path), SPEAKERS[:5], ["ffffffff", "eeeeeeee"]))
    assert told(data, "^testing_list.txt names 6 files, of which 0 are here; tested on validation_list.txt$")
    train, validation, test = who(data)
    assert test == set(SPEAKERS[:5]) and len(validation) == 2 and not train & validation
    (tmp_path / "testing_list.txt").unlink()
    again = read(tmp_path)
    assert told(again, "^there is no testing_list.txt; tested on validation_list.txt$")
    assert again.digest == data.digest


def test_a_testing_list_of_which_nearly_nothing_is_here_is_not_used(tmp_path):
    strangers = [f"f{number:07x}" for number in range(100)]
    path = lists(commands(tmp_path), SPEAKERS[:5], strangers)
    with (path / "testing_list.txt").open("a") as file:
        file.write(f"bed/{SPEAKERS[9]}_nohash_0.wav\n")
    data = read(path)
    assert who(data)[2] == set(SPEAKERS[:5])
    assert told(
        data, "^testing_list.txt names 301 files, of which 1 are here; tested on validation_list.txt$"
    )


def test_lists_of_other_files_are_of_no_use(tmp_path):
    data = read(lists(commands(tmp_path), ["eeeeeeee"], ["ffffffff"]))
    assert told(
        data, "^testing_list.txt names 3 files, of which 0 are here; tested on a share of the speakers$"
    )
    assert data.digest == read(commands(tmp_path / "plain")).digest


def test_speakers_of_the_test_are_taken_out_of_the_training(tmp_path):
    path = commands(tmp_path)
    (path / "testing_list.txt").write_text(
        f"bed/{SPEAKERS[0]}_nohash_0.wav\ncat/{SPEAKERS[1]}_nohash_0.wav\n"
    )
    (path / "validation_list.txt").write_text(
        f"cat/{SPEAKERS[0]}_nohash_0.wav\nbed/{SPEAKERS[2]}_nohash_0.wav\n"
    )
    data = read(path)
    assert who(data) == [set(SPEAKERS[3:]), {SPEAKERS[2]}, {SPEAKERS[0], SPEAKERS[1]}]
    assert told(data, f"4 left out, since their speakers are in the test, such as bed/{SPEAKERS[1]}")
    assert told(
        data,
        f"2 left out, since their speakers are in the validation, such as cat/{SPEAKERS[2]}",
    )


def test_a_word_that_is_in_the_test_alone(tmp_path):
    path = lists(commands(tmp_path), SPEAKERS[:3], SPEAKERS[3:8])
    for speaker in SPEAKERS[3:8]:
        for take in range(3):
            save(path / "owl" / f"{speaker}_nohash_{take}.wav")
    owls = "".join(f"owl/{speaker}_nohash_{take}.wav\n" for speaker in SPEAKERS[3:8] for take in range(3))
    (path / "testing_list.txt").write_text((path / "testing_list.txt").read_text() + owls)
    data = read(path)
    assert data.words == ["bed", "cat", "dog"] and told(data, "since all their recordings are held out: owl")
    with pytest.raises(DataError, match="no recording of 'owl' to learn from: all are held out"):
        read(path, words=["bed", "owl"])


def test_files_of_one_content(tmp_path):
    path = lists(commands(tmp_path), SPEAKERS[:3], SPEAKERS[3:8])
    learned, held = (path / "bed" / f"{SPEAKERS[k]}_nohash_0.wav" for k in (10, 4))
    shutil.copy(learned, path / "bed" / "aaaaaaaa_nohash_0.wav")  # twice in the training
    shutil.copy(held, path / "bed" / "00000000_nohash_0.wav")  # in the training and in the test
    shutil.copy(
        path / "cat" / f"{SPEAKERS[12]}_nohash_0.wav", path / "dog" / "bbbbbbbb_nohash_0.wav"
    )  # two words
    data = read(path)
    names = set(data.clips.names)
    assert f"bed/{SPEAKERS[10]}_nohash_0.wav" in names and "bed/aaaaaaaa_nohash_0.wav" not in names
    assert f"bed/{SPEAKERS[4]}_nohash_0.wav" in parts(data)[2] and "bed/00000000_nohash_0.wav" not in names
    assert not names & {f"cat/{SPEAKERS[12]}_nohash_0.wav", "dog/bbbbbbbb_nohash_0.wav"}
    assert told(
        data, f"^1 left out, the same recording is there twice: bed/aaaaaaaa_nohash_0.wav .bed/{SPEAKERS[10]}"
    )
    assert told(
        data, f"^1 left out, the same recording is held out: bed/00000000_nohash_0.wav .bed/{SPEAKERS[4]}"
    )
    assert told(
        data, "^2 left out, the same recording is under two words: cat/.*, dog/bbbbbbbb_nohash_0.wav .cat/"
    )


# ---------------------------------------------------------------- folds


def test_one_speaker_is_left_out_at_a_time(tmp_path):
    data = read(digits(tmp_path), folds=4)
    assert [fold.name for fold in data.folds] == ["ann", "bob", "cid", "dee"]
    for number, name in enumerate(["ann", "bob", "cid", "dee"]):
        train, validation, test = who(data, number)
        assert test == {name} and train == {"ann", "bob", "cid", "dee"} - {name} and validation
        assert [len(part) for part in parts(data, number)] == [65, 7, 24]
    assert len(told(data, "validation is on other recordings")) == 1
    assert told(data, "^ann: 65 to learn from, 7 to validate on, 24 to test on$")


def test_folds_hold_each_clip_out_once(tmp_path):
    data = read(commands(tmp_path), folds=3)
    assert [fold.name for fold in data.folds] == ["fold1", "fold2", "fold3"]
    tested = [who(data, number)[2] for number in range(3)]
    assert [len(speakers) for speakers in tested] == [7, 7, 6] and set.union(*tested) == set(SPEAKERS)
    assert not any(who(data, k)[0] & who(data, k)[2] or who(data, k)[0] & who(data, k)[1] for k in range(3))
    assert all(len(who(data, k)[1]) == 1 for k in range(3)), "a tenth of 13 or 14 speakers"
    silences = [{n for n in parts(data, k)[2] if n.startswith("silence/")} for k in range(3)]
    assert all(len(names) == 2 for names in silences) and len(set.union(*silences)) == 6


def test_folds_of_files_and_of_odd_speakers_are_numbered(tmp_path):
    for word in ("on", "off"):
        for number in range(2):
            save(tmp_path / "files" / word / f"{number}.wav")
    assert [f.name for f in read(tmp_path / "files", folds=4, least=1).folds] == [
        "fold1",
        "fold2",
        "fold3",
        "fold4",
    ]
    digits(tmp_path / "dots", speakers=["a", "a.b", "c"])
    assert [f.name for f in read(tmp_path / "dots", folds=3).folds] == ["fold1", "fold2", "fold3"]


def test_folds_without_validation(tmp_path):
    data = read(digits(tmp_path), folds=4, validation_share=0)
    assert [len(part) for part in parts(data)] == [72, 0, 24]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"folds": 5}, ConfigError, "--data.folds 5: .* has 4 speakers; use 2 to 4 folds"),
        ({"folds": 1}, ConfigError, "--data.folds 1: cross-validation needs 2 folds or more"),
        ({"folds": 2, "test_path": "x"}, ConfigError, "--data.folds and --data.test_path exclude each other"),
        ({"test_share": 1.0}, ConfigError, "--data.test_share 1.0"),
        ({"validation_share": 1.0}, ConfigError, "--data.validation_share 1.0 must lie"),
        ({"rate": 10}, ConfigError, "--data.rate 10 must lie between"),
        ({"duration": 0.0}, ConfigError, "--data.duration 0.0 must lie between"),
        ({"unknown": -1.0}, ConfigError, "--data.unknown -1.0 must not be negative"),
        ({"replay": -1}, ConfigError, "--data.replay -1 must not be negative"),
        (
            {"old_path": "x"},
            ConfigError,
            "--data.old_path is for new words of a trained model; give --extend.model",
        ),
        ({"name": "synthetic"}, ConfigError, "--data.name synthetic takes no path"),
        ({"noise_path": "nowhere"}, DataError, "--data.noise_path nowhere: there is no such folder"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        read(digits(tmp_path), **options)


# ---------------------------------------------------------------- test folders


def test_a_test_folder_is_tested_whole(tmp_path):
    path = commands(tmp_path / "train", speakers=SPEAKERS[:12])
    other = commands(tmp_path / "test", ["bed", "cat", "owl"], SPEAKERS[12:], noise=False)
    data = read(path, test_path=str(other), unknown=0.0)
    assert who(data)[2] == set(SPEAKERS[12:]) and who(data)[0] | who(data)[1] == set(SPEAKERS[:12])
    assert counts(data, data.folds[0].test) == {"silence": 2, "bed": 8, "cat": 8}
    assert told(data, "no recordings to test on: dog")


def test_recordings_and_speakers_of_the_test_folder_are_not_learned(tmp_path):
    path = lists(commands(tmp_path / "train"), SPEAKERS[:2], SPEAKERS[2:4])
    other = tmp_path / "test"
    save(other / "bed" / f"{SPEAKERS[5]}_nohash_9.wav")
    (other / "cat").mkdir()
    shutil.copy(path / "cat" / f"{SPEAKERS[6]}_nohash_0.wav", other / "cat" / "without_speaker.wav")
    data = read(path, test_path=str(other))
    names = set(data.clips.names)
    assert not any(SPEAKERS[5] in name for name in names - parts(data)[2])
    assert (
        f"cat/{SPEAKERS[6]}_nohash_0.wav" not in names and f"bed/{SPEAKERS[6]}_nohash_0.wav" in parts(data)[0]
    )
    assert told(data, "3 left out, since their speakers are in the test")
    assert told(data, "1 left out, the same recording is held out: .*cat/without_speaker.wav")
    assert told(data, "train: 6 that testing_list.txt names are not used: --data.test_path is tested")
    assert not any(speaker in name for speaker in SPEAKERS[2:4] for name in names)


@pytest.mark.parametrize("make", [commands, digits])
def test_nothing_is_left_to_learn_if_the_test_has_all_speakers(tmp_path, make):
    path = str(make(tmp_path / "words"))
    message = "words: no recording is left to learn from: their speakers are all in the test .* of --data.test_path$"
    with pytest.raises(DataError, match=message):
        read(path, test_path=path)
    with pytest.raises(DataError, match=message):
        read(path, test_path=path, words=["bed", "cat"] if make is commands else ["0", "1"])


def test_nothing_is_left_to_learn_if_a_list_names_all(tmp_path):
    path = lists(commands(tmp_path), testing=SPEAKERS)
    with pytest.raises(
        DataError, match=r"no recording is left to learn from: .* named by testing_list\.txt and"
    ):
        read(path)


def test_files_without_speakers_are_not_learned_if_they_are_tested(tmp_path):
    for word in ("on", "off"):
        for number in range(12):
            save(tmp_path / word / f"{number}.wav")
    with pytest.raises(DataError, match="no recording is left to learn from"):
        read(tmp_path, test_path=str(tmp_path))


def test_a_model_of_folds_is_tested_on_a_folder_alone(tmp_path):
    other = str(commands(tmp_path, ["bed", "owl"], noise=False))
    for folds in (1, 4):
        for name in ("auto", "folder"):
            data = read(test_path=other, words=["cat", "bed"], folds=folds, name=name)
            assert data.digest == read(test_path=other, words=["cat", "bed"]).digest
            assert [fold.name for fold in data.folds] == ["model"]


def test_a_model_is_tested_on_a_folder_alone(tmp_path):
    other = commands(tmp_path, ["bed", "owl"], noise=False)
    data = read(test_path=str(other), words=["cat", "bed"])
    assert data.classes == ["silence", "unknown", "cat", "bed"], "those of the model, whatever is there"
    assert [len(part) for part in parts(data)] == [0, 0, 40]
    assert counts(data, data.folds[0].test) == {"unknown": 20, "bed": 20}
    assert told(data, "no recordings to test on: silence, cat")
    foreign = read(None, test_path=str(other), words=["cat"])
    assert counts(foreign, foreign.folds[0].test) == {"unknown": 40}, "a test of false alarms"
    with pytest.raises(ConfigError, match=r"--data\.test_path alone needs --data\.words"):
        read(test_path=str(other))


# ---------------------------------------------------------------- new words for a trained model


OLD = ["silence", "unknown", "dog", "bed"]


def test_new_words_are_added_to_old_ones(tmp_path):
    old = lists(commands(tmp_path / "old", words=["bed", "cat", "dog"]), SPEAKERS[:3], SPEAKERS[3:8])
    new = commands(tmp_path / "new", ["yes", "go", "bed"], [f"new{k}" for k in range(20)], noise=False)
    data = read(new, old_path=str(old), old_words=OLD, replay=4, unknown=0.5)
    assert data.classes == [*OLD, "go", "yes"] and data.extends == 4
    train, test = data.folds[0].train, data.folds[0].test
    old_train, old_test = train[data.clips.old[train]], test[data.clips.old[test]]
    assert counts(data, old_train) == {"unknown": 4, "dog": 4, "bed": 4}
    kept = {data.clips.names[i] for i in old_train if data.classes[data.clips.labels[i]] == "dog"}
    possible = [f"dog/{speaker}_nohash_0.wav" for speaker in SPEAKERS[8:]]
    assert kept == set(sorted(possible, key=lambda n: hashlib.sha256(n.encode()).hexdigest())[:4])
    assert counts(data, old_test) == {"unknown": 5, "dog": 5, "bed": 5}
    assert counts(data, train[~data.clips.old[train]]) == {"bed": 14, "go": 14, "yes": 14}
    assert counts(data, test)["silence"] >= 1 and len(data.noise) == 2
    chosen = read(new, old_path=str(old), old_words=OLD, replay=4, unknown=0.5, words=["yes"])
    assert chosen.classes == [*OLD, "yes"]
    same = read(new, old_path=str(old), old_words=OLD, replay=4, unknown=0.5, words=data.words)
    assert same.digest == data.digest, "as the trained model says it"


def test_new_words_without_the_old_data(tmp_path):
    new = commands(tmp_path / "new", ["yes", "go", "bed"], noise=False)
    data = read(new, old_words=OLD)
    assert data.classes == [*OLD, "go", "yes"] and data.extends == 4 and not data.clips.old.any()
    assert counts(data, data.folds[0].train) == {"bed": 14, "go": 14, "yes": 14}
    assert told(data, "nothing of the old words is rehearsed or tested; --data.old_path")
    alone = read(test_path=str(new), old_words=OLD, words=[*OLD[2:], "go", "yes"])
    assert alone.classes == data.classes and counts(data, alone.folds[0].test)["yes"] == 20
    with pytest.raises(DataError, match="no new word has 10 recordings"):
        read(commands(tmp_path / "old", ["dog", "bed"]), old_words=OLD)


def test_old_words_are_split_as_they_were(tmp_path):
    """Whatever the options of the new run: what the model was tested on is tested, the rest is rehearsed."""
    old = commands(tmp_path / "old", words=["bed", "cat", "dog"])
    for word in ("bed", "cat", "dog"):  # no speaker by the names that are understood
        for speaker in SPEAKERS:
            (old / word / f"{speaker}_nohash_0.wav").rename(old / word / f"{speaker}.wav")
    split = {"test_share": 0.4, "validation_share": 0.25, "speaker": "0(.+)[.]", "test_path": None}
    shares = {name: split[name] for name in ("test_share", "validation_share", "speaker")}
    base = read(old, words=["dog", "bed"], unknown=1.0, **shares)
    new = commands(tmp_path / "new", ["yes", "go"], [f"new{k}" for k in range(20)], noise=False)
    data = read(
        new, old_path=str(old), old_words=OLD, old_split=split, replay=99, unknown=1.0, test_share=0.1
    )
    held = (data.folds[0].train, data.folds[0].validation, data.folds[0].test)
    theirs = [{data.clips.names[i] for i in part if data.clips.old[i]} for part in held]
    assert theirs == [{name for name in part if "silence" not in name} for part in parts(base)]
    assert [len(part) for part in theirs] == [27, 9, 24]
    new_test = [i for i in held[2] if not data.clips.old[i] and data.clips.labels[i] >= 4]
    assert len(new_test) == 4, "two of twenty speakers, by the share of the new run"


def test_a_word_of_the_new_run_does_not_change_how_old_ones_were_split(tmp_path):
    """A word with one speaker was held out as one of the others; it is not spared for being new now."""
    old = commands(tmp_path / "old", words=["bed", "dog"])
    held = sorted(SPEAKERS, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[0]
    save(old / "go" / f"{held}_nohash_0.wav")
    new = commands(tmp_path / "new", ["go"], [f"new{k}" for k in range(20)], noise=False)
    data = read(new, old_path=str(old), old_words=OLD, replay=99)
    assert f"go/{held}_nohash_0.wav" in parts(data)[2]
    assert who(data)[2] & set(SPEAKERS) == who(read(old, words=["dog", "bed"]))[2]


def test_old_words_that_were_tested_on_a_folder(tmp_path):
    old = lists(commands(tmp_path / "old"), SPEAKERS[:2], SPEAKERS[2:4])
    tests = commands(tmp_path / "tests", ["bed", "dog"], [f"{k:08x}" for k in range(6)], noise=False)
    save(tests / "_background_noise_" / "rain.wav", sound("rain", 10 * RATE))
    new = commands(tmp_path / "new", ["yes", "go"], [f"new{k}" for k in range(20)], noise=False)
    split = {"test_share": 0.2, "validation_share": 0.1, "speaker": None, "test_path": str(tests)}
    options = {"old_path": str(old), "old_words": OLD, "old_split": split, "replay": 99, "unknown": 0.0}
    data = read(new, **options)
    train, validation, test = who(data)
    assert train & set(SPEAKERS) == set(SPEAKERS[4:]) and validation & set(SPEAKERS) == set(SPEAKERS[:2])
    assert not test & set(SPEAKERS) and {f"{k:08x}" for k in range(6)} < test
    assert {data.classes[data.clips.labels[i]] for i in data.folds[0].test if data.clips.old[i]} == {
        "bed",
        "dog",
    }
    assert len(data.noise) == 2, "noise of the test is not learned"
    shutil.rmtree(tests)
    without = read(new, **options)
    assert [who(without)[k] & set(SPEAKERS) for k in range(3)] == [
        set(SPEAKERS[4:]),
        set(SPEAKERS[:2]),
        set(),
    ]
    assert not without.clips.old[without.folds[0].test].any()
    assert told(
        without, f"^old: nothing of the old words is tested: {tests}, the test of their model, is not there$"
    )
    assert told(without, "no recordings to test on: unknown, dog, bed")
