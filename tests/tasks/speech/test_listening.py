"""Events of long files, standard input and a microphone."""

import io
import json
import os
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from core.errors import ConfigError, DataError
from tasks.speech.config import SpeechPredictConfig, SpeechScoringConfig
from tasks.speech.listening import Listener, choose_threshold, scoring_of
from tasks.speech.serving import predict_files
from tasks.speech.sources import pcm_blocks
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import OperatingPoints

RATE = 16000


def spoken(seconds, words, rate=RATE):
    """Tones of 0.4 s in silence; words are (start in s, pitch in Hz)."""
    samples = np.zeros(int(seconds * rate))
    time = np.arange(int(0.4 * rate)) / rate
    for start, pitch in words:
        samples[int(start * rate) :][: len(time)] = (
            0.3 * np.sin(2 * np.pi * pitch * time) * np.hanning(len(time))
        )
    return samples


def pcm(samples):
    return np.round(samples * 32767).astype("<i2").tobytes()


def run(spotter, source, output="-", **options):
    config = SpeechPredictConfig(
        input=str(source), output=str(output), stream=True, **{"threshold": 0.8, **options}
    )
    return predict_files(spotter, config)


@pytest.fixture
def events(capsys):
    """Reads what was printed: one event a line."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def feed_stdin(monkeypatch, data, size=None):
    """Standard input from a pipe that gives at most ``size`` bytes at once."""

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.rest = data

        def readable(self):
            return True

        def readinto(self, buffer):
            count = min(size or len(data), len(buffer), len(self.rest))
            buffer[:count], self.rest = self.rest[:count], self.rest[count:]
            return count

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(Pipe())))


def assert_heard(found, words):
    """Each event's window of 1 s holds its word, of 0.4 s, whole or nearly so."""
    assert [event["word"] for event in found] == [word for _, word in words]
    for event, (start, _) in zip(found, words, strict=True):
        assert event["time"] - event["start"] == pytest.approx(1)
        assert event["start"] - 0.1 <= start + 0.2 <= event["time"] + 0.1
        assert 0.8 <= event["score"] <= 1


def test_a_long_file(tone_spotter, tmp_path, events):
    words = [(20 * i + 7.3, ("low", "high")[i % 2]) for i in range(9)]
    samples = spoken(180, [(start, 300 if word == "low" else 3000) for start, word in words], 8000)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    assert run(tone_spotter, tmp_path / "a.wav") == []
    found = events()
    assert list(found[0]) == ["time", "start", "word", "score"]
    assert_heard(found, words)


def test_a_short_file(tone_spotter, tmp_path, events):
    soundfile.write(tmp_path / "a.wav", spoken(0.6, [(0.1, 300)]), RATE)
    run(tone_spotter, tmp_path / "a.wav")
    (event,) = events()
    assert (event["word"], event["start"], event["time"]) == ("low", 0, 0.6)


def test_a_folder_of_files(tone_spotter, tmp_path, capsys):
    for name, pitch in (("a", 300), ("b", 3000)):
        soundfile.write(tmp_path / f"{name}.wav", spoken(4, [(2, pitch)]), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    target = tmp_path / "out" / "events.jsonl"
    (failure,) = run(tone_spotter, tmp_path, target)
    assert "nan.wav: " in failure
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(event["file"], event["word"]) for event in found] == [("a.wav", "low"), ("b.wav", "high")]
    assert next(iter(found[0])) == "file"
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    with pytest.raises(DataError, match="nan"):
        run(tone_spotter, tmp_path, target, strict=True)
    with pytest.raises(DataError, match="nan"):
        run(tone_spotter, tmp_path / "nan.wav", target)


@pytest.mark.parametrize("size", [1001, None])
@pytest.mark.parametrize("rate", [None, 8000])
def test_standard_input(tone_spotter, monkeypatch, events, rate, size):
    words = [(1.5, "high"), (3.5, "low")]
    samples = spoken(6, [(1.5, 3000), (3.5, 300)], rate or RATE)
    feed_stdin(monkeypatch, pcm(samples) + b"\x01", size)
    assert run(tone_spotter, "-", rate=rate) == []
    assert_heard(events(), words)


def test_no_input_is_no_error_and_said(tone_spotter, monkeypatch, capsys):
    for rate, data in ((None, b""), (8000, b""), (None, b"\1"), (None, b"\1\0")):
        feed_stdin(monkeypatch, data)
        assert run(tone_spotter, "-", rate=rate) == []
        printed = capsys.readouterr()
        assert printed.out == ""
        assert ("nothing came from standard input" in printed.err) == (len(data) < 2)
        assert printed.err.count("\n") == 1 + (len(data) < 2)


def test_pcm_is_16_bit_little_endian():
    data = b"\x00\x80\xff\x7f\x01\x00\x05"
    assert np.concatenate([*pcm_blocks(io.BytesIO(data))]).tolist() == [-1, 32767 / 32768, 1 / 32768]


def test_an_event_is_written_at_once(tone_spotter, monkeypatch, capsys):
    samples, seen = spoken(4, [(1.5, 3000)]), []

    class Slow:
        at = 0

        def read1(self, size):
            seen.append(capsys.readouterr().out)
            part = pcm(samples[self.at : self.at + 1600])
            self.at += 1600
            if self.at >= 48_000:
                raise KeyboardInterrupt
            return part

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Slow()))
    assert run(tone_spotter, "-") == []  # interrupted, which is no error
    (at,) = [i for i, text in enumerate(seen) if text]
    event = json.loads(seen[at])
    assert event["time"] == pytest.approx(0.1 * at) and event["time"] < 2.6


def test_an_interrupt_of_a_file_is_one(tone_spotter, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", spoken(3, []), RATE)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tone_spotter, "feature_scores", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tone_spotter, tmp_path / "a.wav")


def test_a_reader_that_goes_away(tone_spotter, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", spoken(3, [(1.5, 300)]), RATE)
    end, start = os.pipe()
    os.close(end)
    with open(start, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run(tone_spotter, tmp_path / "a.wav") == []
        pipe.flush()


class FakeSound:
    """The part of sounddevice that is used."""

    class PortAudioError(Exception):
        pass

    def __init__(self, samples=(), opens=True):
        fake = self
        self.opened = {}

        class InputStream:
            def __init__(self, **settings):
                if not opens:
                    raise fake.PortAudioError("Error querying device -1")
                fake.opened = settings
                self.rest = np.asarray(samples, np.float32)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                fake.closed = True

            def read(self, size):
                if not len(self.rest):
                    raise KeyboardInterrupt
                part, self.rest = self.rest[:size, None], self.rest[size:]
                return part, True

        self.InputStream = InputStream


def test_a_microphone(tone_spotter, monkeypatch, capsys):
    fake = FakeSound(spoken(4, [(1.5, 300)], 8000))
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    assert run(tone_spotter, "microphone", rate=8000, hop=0.2) == []
    printed = capsys.readouterr()
    assert_heard([json.loads(line) for line in printed.out.splitlines()], [(1.5, "low")])
    assert fake.opened == {"samplerate": 8000, "channels": 1, "dtype": "float32", "blocksize": 1600}
    assert fake.closed
    assert printed.err.count("samples are lost") == 1


def test_without_a_microphone(tone_spotter, monkeypatch, tmp_path):
    target = tmp_path / "events.jsonl"
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(
        ConfigError, match=r"^--input microphone needs .* pip install 'skipway\[microphone\]'"
    ):
        run(tone_spotter, "microphone", target)
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound(opens=False))
    with pytest.raises(
        ConfigError, match=r"^--input microphone: no device can be opened at 16000 Hz \(Error"
    ):
        run(tone_spotter, "microphone", target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.1}, "^--threshold 1.1 must lie between 0 and 1$"),
        ({"average": -1.0}, "^--average -1 must be finite and not negative$"),
        ({"refractory": -0.1}, "^--refractory -0.1 must be finite and not negative$"),
        ({"threshold": None, "false_alarms": -1.0}, "^--false_alarms -1 must be finite and not negative$"),
        ({"false_alarms": 1.0}, "^--threshold and --false_alarms exclude each other; leave one of them out$"),
        ({"hop": -0.1}, "^--hop -0.1 must be a finite time above 0 s$"),
        ({"rate": RATE}, "^--rate is only for --input - and microphone; files tell theirs$"),
        ({"source": "-", "rate": 0}, "^--rate 0 must lie between 1000 and 1000000 Hz$"),
        ({"output": "."}, r"^--output \. cannot be written: it is a folder$"),
    ],
)
def test_wrong_options(tone_spotter, tmp_path, options, message):
    soundfile.write(tmp_path / "a.wav", spoken(1, []), RATE)
    with pytest.raises(ConfigError, match=message):
        run(tone_spotter, **{"source": tmp_path / "a.wav", "output": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_the_input_is_not_replaced(tone_spotter, tmp_path):
    soundfile.write(tmp_path / "a.wav", spoken(1, []), RATE)
    before = (tmp_path / "a.wav").read_bytes()
    for source in (tmp_path, tmp_path / "a.wav"):
        with pytest.raises(ConfigError, match=r"would replace the input; name another file$"):
            run(tone_spotter, source, tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == before


def test_the_threshold(tone_spotter):
    def choose(threshold=None, **options):
        return choose_threshold(tone_spotter, threshold, SpeechScoringConfig(**options))

    assert choose() == (0.5, "threshold 0.5; what it costs was not measured for this model")
    assert choose(threshold=0.0)[0] == 0
    points = OperatingPoints([0.3, 0.83, 0.95], [1, 0.94, 0.5], [90.0, 0.9, 0.6], 3.1, "validation clips")
    tone_spotter.metadata["operating_points"] = asdict(points)
    said = (
        "threshold 0.83: 0.9 false alarms an hour in 3.10 h, 94 % of the words detected, on validation clips"
    )
    assert choose() == (0.83, said)
    assert choose(false_alarms=100.0)[0] == 0.3
    threshold, line = choose(false_alarms=0.1)
    assert threshold == 0.95 and line.endswith("; no threshold keeps to 0.1 an hour")
    threshold, line = choose(threshold=0.95)
    assert threshold == 0.95 and line.endswith("50 % of the words detected, on validation clips")
    tone_spotter.metadata["options"] = {"scoring": {"hop": 0.1, "average": 0.5}}
    assert choose()[1].endswith("; measured with average 0.5 s")
    # Three minutes without a false alarm say nothing about one an hour; a threshold that is asked for promises nothing.
    tone_spotter.metadata = {"operating_points": asdict(replace(points, false_alarms=[90, 0, 0], hours=0.05))}
    assert "validation clips; 0.05 h are too short to tell 1 an hour: more noise" in choose()[1]
    assert choose(false_alarms=30.0)[1].endswith("validation clips")
    assert choose(threshold=0.9)[1].endswith("validation clips")


def test_options_are_those_of_the_training(tone_spotter):
    def of(**options):
        return scoring_of(tone_spotter, SpeechPredictConfig(input="a.wav", stream=True, **options))

    assert of() == SpeechScoringConfig()
    trained = SpeechScoringConfig(false_alarms=3.0, hop=0.2, average=0.6, refractory=2.0)
    tone_spotter.metadata["options"] = {"scoring": asdict(trained)}
    assert of() == trained
    given = {"false_alarms": 0.0, "hop": 0.1, "average": 0.0, "refractory": 0.5}
    assert of(**given) == replace(trained, **given)
    assert Listener(tone_spotter, SpeechPredictConfig(input="a.wav", stream=True)).hop == 0.2


def test_times_are_those_of_the_true_hop(tone_spotter, tmp_path, events):
    """A hop of 14.3 frames is one of 14, and an average of 0.36 s has 4 windows of these and 3 of those."""
    rate = 22050
    settings = {
        "classes": tone_spotter.classes,
        "rate": rate,
        "samples": rate,
        "features": {"kind": "logmel"},
    }
    spotter = Spotter(settings, tone_spotter.networks, {})
    soundfile.write(tmp_path / "a.wav", spoken(5, [(2.5, 300)], rate), rate)
    heard = []
    for hop in (0.104, 14 * 160 / rate):
        run(spotter, tmp_path / "a.wav", hop=hop, average=0.36, threshold=0.7)
        heard.append(events())
    assert len(heard[0]) == 1 and heard[0] == heard[1]
    windows = (heard[0][0]["time"] - 1) * rate / (14 * 160)
    assert windows == pytest.approx(round(windows), abs=0.01)


def test_an_older_file_stays_until_recordings_were_heard(tone_spotter, tmp_path, monkeypatch):
    target = tmp_path / "out" / "events.jsonl"
    target.parent.mkdir()
    target.write_text("older\n")
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="nan"):
        run(tone_spotter, tmp_path / "nan.wav", target)
    assert len(run(tone_spotter, tmp_path, target)) == 1  # no recording of the folder could be used
    assert target.read_text() == "older\n"
    soundfile.write(tmp_path / "a.wav", spoken(4, [(2, 300)]), RATE)
    with pytest.raises(DataError, match="nan"):
        run(tone_spotter, tmp_path, target, strict=True)
    assert target.read_text() == "older\n"
    assert len(run(tone_spotter, tmp_path, target)) == 1
    assert json.loads(target.read_text())["word"] == "low"
    # An interrupt keeps what was heard by then, and the older file where that is nothing.
    score, calls = tone_spotter.feature_scores, []

    def stop(features, after):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return score(features)

    target.write_text("older\n")
    soundfile.write(tmp_path / "nan.wav", spoken(4, []), RATE)
    for after in (0, 1):
        calls.clear()
        monkeypatch.setattr(
            tone_spotter, "feature_scores", lambda features, after=after: stop(features, after)
        )
        with pytest.raises(KeyboardInterrupt):
            run(tone_spotter, tmp_path, target)
        assert ("older" in target.read_text()) == (not after)
    assert json.loads(target.read_text())["file"] == "a.wav"
    assert [path.name for path in target.parent.iterdir()] == ["events.jsonl"]


def test_links_and_pipes_stay_what_they_are(tone_spotter, tmp_path):
    soundfile.write(tmp_path / "a.wav", spoken(4, [(2, 300)]), RATE)
    (tmp_path / "real.jsonl").write_text("older\n")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    run(tone_spotter, tmp_path / "a.wav", tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink() and "low" in (tmp_path / "real.jsonl").read_text()
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    run(tone_spotter, tmp_path / "a.wav", tmp_path / "pipe")
    assert b"low" in os.read(end, 1000) and (tmp_path / "pipe").is_fifo()
    os.close(end)


def test_events_of_a_live_input_can_be_read_along(tone_spotter, tmp_path, monkeypatch):
    target, seen = tmp_path / "events.jsonl", []
    samples = spoken(4, [(1.5, 3000)])

    class Slow:
        at = 0

        def read1(self, size):
            seen.append(target.read_text())
            part = pcm(samples[self.at : self.at + 1600])
            self.at += 1600
            return part

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Slow()))
    run(tone_spotter, "-", target)
    assert seen[0] == "" and any("high" in text for text in seen[:-5])
