"""The word of each recording: CSV files and requests."""

import base64
import json
import math

import numpy as np
import pandas as pd
import pytest
import soundfile

from core.errors import ConfigError, DataError
from tasks.speech.config import SpeechPredictConfig
from tasks.speech.serving import example_request, predict_files, serve_frame
from tasks.speech.spotter import Spotter

RATE = 16000
COLUMNS = ["file", "word", "score", "start", "silence", "unknown", "low", "high"]


def tone(pitch, seconds=0.5, rate=RATE):
    count = int(seconds * rate)
    return 0.3 * np.hanning(count) * np.sin(2 * np.pi * pitch * np.arange(count) / rate)


def write(path, samples, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)


@pytest.fixture
def folder(tmp_path):
    """Recordings of all kinds."""
    root = tmp_path / "in"
    write(root / "a low.wav", tone(300, 1))
    write(root / "b" / "high.flac", tone(3000))
    write(root / "c_8k.wav", tone(300, 0.7, 8000), 8000, subtype="PCM_24")
    write(root / "d_silent.wav", np.zeros(RATE))
    late = np.zeros(5 * RATE)
    late[3 * RATE : 3 * RATE + RATE // 2] = tone(3000)
    write(root / "e_long.ogg", np.stack([late, late], 1))
    write(root / ".hidden.wav", tone(300))
    write(root / ".git" / "x.wav", tone(300))
    (root / "notes.txt").write_text("x")
    return root


def spoil(root):
    """Files that cannot be used."""
    (root / "empty.wav").touch()
    write(root / "nan.wav", np.full(RATE, np.nan), subtype="FLOAT")
    write(root / "none.wav", np.zeros(0))
    whole = (root / "a low.wav").read_bytes()
    (root / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (root / "phone.m4a").write_bytes(b"x" * 100)


def run(spotter, source, output, **options):
    return predict_files(spotter, SpeechPredictConfig(input=str(source), output=str(output), **options))


def test_a_folder(tone_spotter, folder, tmp_path, capsys):
    target = tmp_path / "new" / "out.csv"
    assert run(tone_spotter, folder, target) == []
    table = pd.read_csv(target)
    assert table.columns.tolist() == COLUMNS
    assert table["file"].tolist() == ["a low.wav", "b/high.flac", "c_8k.wav", "d_silent.wav", "e_long.ogg"]
    assert table["word"].tolist() == ["low", "high", "low", "silence", "high"]
    assert table["start"].iloc[:4].tolist() == [0, 0, 0, 0]
    assert 2.4 < table["start"].iloc[4] < 3.4
    classes = table[COLUMNS[4:]]
    np.testing.assert_allclose(classes.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(classes.max(axis=1), table["score"])
    printed = capsys.readouterr().out
    assert "b/high.flac" in printed and f"written    {target}: 5 recordings" in printed
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]


def test_bad_files_are_left_out(tone_spotter, folder, tmp_path, capsys):
    spoil(folder)
    target = tmp_path / "out.csv"
    failures = run(tone_spotter, folder, target)
    assert [name for name in ("cut", "empty", "nan", "none", "phone") if name not in str(failures)] == []
    assert len(failures) == 5 and all(str(folder) in line and "\n" not in line for line in failures)
    assert len(pd.read_csv(target)) == 5
    capsys.readouterr()
    with pytest.raises(DataError, match=r"cut\.wav: is cut off"):
        run(tone_spotter, folder, target, strict=True)
    assert capsys.readouterr() == ("", "")  # what follows is the error, and no empty line before it
    with pytest.raises(DataError, match=r"nan\.wav: .*NaN"):
        run(tone_spotter, folder / "nan.wav", target)
    # What was there stays.
    assert len(pd.read_csv(target)) == 5
    for path in folder.rglob("*.*"):
        if path.stem not in ("empty", "nan"):
            path.unlink(missing_ok=True) if path.is_file() else None
    assert len(run(tone_spotter, folder, target)) == 2
    assert len(pd.read_csv(target)) == 5


def test_one_file(tone_spotter, folder, tmp_path, monkeypatch, capsys):
    assert run(tone_spotter, folder / "a low.wav", tmp_path) == []
    assert pd.read_csv(tmp_path / "words.csv")["file"].tolist() == ["a low.wav"]
    assert capsys.readouterr().out.rstrip().endswith(": 1 recording")
    long = folder / "e_long.ogg"
    run(tone_spotter, long, tmp_path / "out.csv", hop=1.5)
    assert pd.read_csv(tmp_path / "out.csv")["start"].tolist() == [3.0]
    # What the options leave open is as in the training.
    tone_spotter.metadata["options"] = {"scoring": {"hop": 1.5}}
    run(tone_spotter, long, tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["start"].tolist() == [3.0]
    run(tone_spotter, long, tmp_path / "out.csv", hop=0.9)
    assert pd.read_csv(tmp_path / "out.csv")["start"].tolist() == [2.7]
    # A relative name has no folder.
    monkeypatch.chdir(tmp_path)
    run(tone_spotter, long, "here.csv")
    assert (tmp_path / "here.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "a.txt"}, r"^--output .*a\.txt: write a \.csv file$"),
        ({"output": "taken/a.csv"}, r"^--output .*taken cannot be made a folder"),
        ({"input": "-"}, r"^--input - needs --stream$"),
        ({"input": "microphone"}, r"^--input microphone needs --stream$"),
        ({"hop": 0.0}, r"^--hop 0 must be a finite time above 0 s$"),
        ({"threshold": 0.5}, r"^--threshold is only for --stream$"),
        ({"average": 0.3}, r"^--average is only for --stream$"),
        ({"refractory": 1.0}, r"^--refractory is only for --stream$"),
        ({"false_alarms": 0.0}, r"^--false_alarms is only for --stream$"),
        ({"rate": 16000}, r"^--rate is only for --input - and microphone"),
    ],
)
def test_wrong_options(tone_spotter, folder, tmp_path, options, message):
    (tmp_path / "taken").touch()
    given = {"input": str(folder), "output": "words.csv"} | options
    given["output"] = str(tmp_path / given["output"])
    with pytest.raises(ConfigError, match=message):
        predict_files(tone_spotter, SpeechPredictConfig(**given))
    assert not list(tmp_path.glob("*.csv"))


def test_a_folder_without_recordings(tone_spotter, tmp_path):
    with pytest.raises(DataError, match=r"no recordings in this folder; give one with files of \.wav"):
        run(tone_spotter, tmp_path, tmp_path / "a.csv")


def test_a_class_may_be_named_as_a_column(tone_spotter, folder, tmp_path):
    tone_spotter.classes[3] = "start"
    run(tone_spotter, folder / "b" / "high.flac", tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv")
    assert table["word"].tolist() == ["start"] and table["start"].tolist() == [0]
    assert table["start (class)"].tolist() == table["score"].tolist()


def test_requests(tone_spotter, folder):
    names = ["a low.wav", "b/high.flac", "e_long.ogg"]
    frame = pd.DataFrame({"audio": [base64.b64encode((folder / n).read_bytes()).decode() for n in names]})
    answer = serve_frame(tone_spotter, frame, {})
    assert answer.columns.tolist() == COLUMNS[1:]
    assert answer["word"].tolist() == ["low", "high", "high"]
    assert 2.4 < answer["start"].iloc[2] < 3.4
    assert serve_frame(tone_spotter, frame, {"hop": 1.5})["start"].tolist() == [0, 0, 3]


def test_bad_requests(tone_spotter, folder):
    def ask(*texts):
        serve_frame(tone_spotter, pd.DataFrame({"audio": list(texts)}), {})

    good, request = base64.b64encode((folder / "a low.wav").read_bytes()).decode(), pd.DataFrame({"a": [1]})
    with pytest.raises(DataError, match=r"^the request needs a column 'audio'"):
        serve_frame(tone_spotter, request, {})
    with pytest.raises(DataError, match=r"^row 1: audio is not base64 text of an audio file$"):
        ask(good, "no base64")
    with pytest.raises(DataError, match=r"^row 0: audio is not base64"):
        ask(None)
    with pytest.raises(DataError, match=r"^row 2: is not audio that can be read"):
        ask(good, good, base64.b64encode(b"not audio at all").decode())
    with pytest.raises(DataError, match=r"^row 0: .*is empty"):
        ask("")


def test_the_example_request_can_be_served(tone_spotter):
    frame, params = example_request(tone_spotter)
    json.dumps(params)
    answer = serve_frame(tone_spotter, frame, params)
    assert answer["word"].tolist() == ["low"]
    # A model whose frames are no parts of 0.1 s apart.
    settings = {"classes": ["a", "b", "c", "d"], "rate": 22050, "samples": 22050}
    other = Spotter(settings | {"features": {"kind": "logmel", "hop": 300}}, tone_spotter.networks, {})
    frame, params = example_request(other)
    assert len(serve_frame(other, frame, params)) == len(serve_frame(other, frame, {})) == 1
    # The default is that of the training.
    other.metadata["options"] = {"scoring": {"hop": 0.2}}
    assert example_request(other)[1] == {"hop": 0.2}
    for hop in (np.float32(0.1), 1):
        assert len(serve_frame(other, frame, {"hop": hop})) == 1
    for hop in (0, -1.0, math.nan, math.inf, "fast", None):
        with pytest.raises(DataError, match=r"^the parameter hop must be a finite time above 0 s, not"):
            serve_frame(other, frame, {"hop": hop})
