"""Scores of a spotter that tells tones apart, by hand and by scikit-learn."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score
from torch import nn

from core.data.split import Fold
from tasks.speech import scene as scenes
from tasks.speech.baselines import class_counts, noise_crops, training_clips
from tasks.speech.config import DataConfig, FeatureConfig, SpeechScoringConfig
from tasks.speech.data.clips import Clips, SpeechData
from tasks.speech.scene import Scene, compose, judge, sweep
from tasks.speech.scoring import calibrate, score_baselines, score_spotter
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import Detector, Event, OperatingPoints, score_stream

RATE, LENGTH = 4000, 2000  # a clip is half a second
CLASSES = ["silence", "unknown", "low", "high"]
TONES = {"unknown": 1700.0, "low": 300.0, "high": 900.0}  # Hz
FEATURES = FeatureConfig(kind="logmel", window=200, hop=100, mels=20, high=2000.0, coefficients=20)


class Tones(nn.Module):
    """Logits: energy at the tone of each class; ``wrong`` exchanges the words."""

    def __init__(self, wrong=False):
        super().__init__()
        self.register_buffer("bands", torch.zeros(20, 4))
        for i, name in enumerate(CLASSES[1:], 1):
            wave = torch.from_numpy(tone(name, np.random.default_rng(0)))[None]
            self.bands[self.front(wave).mean((0, 1)).argmax(), i] = 1.0
        self.order = [0, 1, 3, 2] if wrong else [0, 1, 2, 3]

    @staticmethod
    def front(wave):
        from tasks.speech.frontend import FrontEnd

        return FrontEnd(FEATURES, RATE)(wave)

    def forward(self, features):
        energy = features.exp().mean(1) @ self.bands
        logits = 3 * torch.log(energy + 1e-2)
        logits[:, 0] = 3 * math.log(3e-2)
        return logits[:, self.order]


def tone(name, rng):
    if name == "silence":
        return 0.01 * rng.normal(size=LENGTH).astype(np.float32)
    time = np.arange(LENGTH) / RATE
    wave = np.sin(2 * np.pi * TONES[name] * time + rng.uniform(0, 6)) * np.hanning(LENGTH)
    return (0.5 * wave + 0.01 * rng.normal(size=LENGTH)).astype(np.float32)


def data_of(folds=1, each=8, classes=CLASSES, **options):
    rng = np.random.default_rng(1)
    names, waves, labels = [], [], []
    for label, name in enumerate(classes):
        for i in range(3 * each):
            names.append(f"{name}/{i}.wav")
            waves.append(np.round(32767 * tone(name, rng)).astype(np.int16))
            labels.append(label)
    count = len(names)
    clips = Clips(names, np.stack(waves), np.array(labels), [""] * count, np.zeros(count, bool))
    places = np.arange(count)
    parts = [places[(places // folds + shift) % 3 == 0] for shift in range(3)]
    split = [
        Fold(f"fold{f}", *(part[part % folds == f] for part in parts)) if folds > 1 else Fold("model", *parts)
        for f in range(folds)
    ]
    noise = [0.3 * rng.normal(size=7 * RATE).astype(np.float32) for _ in range(4)]
    return SpeechData("tones", list(classes), RATE, clips, split, noise[:2], noise[2:], **options)


def spotter_of(networks=None, **metadata):
    settings = {"classes": CLASSES, "rate": RATE, "samples": LENGTH, "features": asdict(FEATURES)}
    return Spotter(settings, networks or {"model": Tones()}, metadata)


def config_of(stream=False, **data):
    return SimpleNamespace(
        data=DataConfig(rate=RATE, duration=0.5, **data), scoring=scoring_of(stream=stream)
    )


def scoring_of(**options):
    return SpeechScoringConfig(hop=0.05, average=0.1, refractory=0.5, **options)


def flip(data, count=5):
    """Gives some test clips the label of another class, so that there are errors."""
    for fold in data.folds:
        data.clips.labels[fold.test[:: max(1, len(fold.test) // count)]] = 3
    return data


def test_metrics_match_sklearn():
    data = flip(data_of())
    spotter = spotter_of()
    result = score_spotter(spotter, config_of(), data)
    test = data.folds[0].test
    labels = data.clips.labels[test]
    scores = spotter.scores(np.stack([data.clips.wave(i) for i in test]))
    predicted = scores.argmax(1)
    assert 0 < (predicted != labels).sum() < len(labels)
    assert result.metrics["accuracy"] == pytest.approx(100 * accuracy_score(labels, predicted))
    recall = 100 * recall_score(labels, predicted, average=None)
    assert [result.metrics[f"recall/{name}"] for name in CLASSES] == pytest.approx(list(recall))
    assert result.metrics["macro_recall"] == pytest.approx(recall.mean())
    spoken = labels >= 2
    expected = 100 * accuracy_score(labels[spoken], predicted[spoken])
    assert result.metrics["words/accuracy"] == pytest.approx(expected)
    auc = roc_auc_score(np.eye(4)[labels][:, 2:], scores[:, 2:], average="micro")
    assert result.metrics["auc"] == pytest.approx(auc)
    assert not any("std" in name or name.startswith("stream") for name in result.metrics)
    rows = result.rows
    assert list(rows["file"]) == [data.clips.names[i] for i in test]
    assert (rows["label"] == [CLASSES[i] for i in labels]).all()
    assert (rows["correct"] == (rows["label"] == rows["predicted"])).all()
    np.testing.assert_allclose(rows["score"], scores.max(1), rtol=1e-5)
    assert f"accuracy on {len(test)} clips" in result.notes[0]


def test_each_fold_is_scored_by_its_own_network():
    data = data_of(folds=3)
    networks = {"fold0": Tones(), "fold1": Tones(wrong=True), "fold2": Tones()}
    metrics = score_spotter(spotter_of(networks), config_of(), data).metrics
    by_fold = [metrics[f"fold{f}/accuracy"] for f in range(3)]
    # It exchanges the words, and knows the others.
    others = 100 * np.mean(data.clips.labels[data.folds[1].test] < 2)
    assert by_fold[0] == by_fold[2] == 100 and by_fold[1] == pytest.approx(others)
    assert metrics["accuracy_std"] == pytest.approx(np.std(by_fold, ddof=1))
    # Of other data, no fold has a network of its own: the mean of two right networks and a wrong one is right.
    assert score_spotter(spotter_of(networks), config_of(), data_of()).metrics["accuracy"] == 100


def test_old_and_new_words_apart():
    data = data_of(extends=3)
    metrics = score_spotter(spotter_of({"model": Tones(wrong=True)}), config_of(), data).metrics
    assert metrics["old/accuracy"] == pytest.approx(100 * 2 / 3, abs=2) and metrics["new/accuracy"] == 0


def test_classes_without_test_clips_are_said():
    data = data_of()
    fold = data.folds[0]
    fold.test = fold.test[data.clips.labels[fold.test] != 3]
    result = score_spotter(spotter_of(), config_of(), data)
    assert "recall/high" not in result.metrics and result.metrics["macro_recall"] == 100
    assert any("no test clips of high" in note for note in result.notes)


def test_events_against_what_was_spoken():
    spoken = [(1.0, 2.0, "low"), (2.5, 3.5, "high"), (6.0, 7.0, "low"), (9.5, 10.5, "high")]
    recording = Scene(np.zeros(0), spoken, 11.0)
    assert recording.negative == pytest.approx(1.0 + 1.5 + 1.5)  # up to 1, from 4.5 to 6, from 8 to 9.5
    events = [
        Event(0.9, "low", 1.0),  # false alarm: too early
        Event(2.6, "low", 1.0),  # detects the first, though the second has begun
        Event(2.7, "high", 1.0),  # detects the second
        Event(2.9, "low", 1.0),  # confusion: a word is detected once
        Event(6.5, "high", 1.0),  # confusion
        Event(8.0, "low", 1.0),  # detects the third at its last moment
        Event(8.1, "low", 1.0),  # false alarm
    ]
    counts = judge(events, recording)
    assert (counts.detected, counts.confusions, counts.false_alarms, counts.words) == (3, 2, 2, 4)
    assert counts.recall == 0.75 and counts.rate == pytest.approx(2 / (4 / 3600))
    assert (counts + counts).recall == 0.75 and (counts + counts).rate == pytest.approx(counts.rate)


def test_recording_holds_the_clips_at_the_times_it_names():
    data = data_of()
    test = data.folds[0].test
    recording = compose(data, test, [], seed=3)
    assert len(recording.audio) == round(recording.seconds * RATE)
    known = {name: test[data.clips.labels[test] == i] for i, name in enumerate(CLASSES)}
    assert len(recording.words) == len(known["low"]) + len(known["high"])
    left = recording.audio.copy()
    for start, end, word in recording.words:
        first, last = round(start * RATE), round(end * RATE)
        heard = recording.audio[first:last]
        assert any(np.array_equal(heard, data.clips.wave(i)) for i in known[word])
        left[first:last] = 0
    # What is left are the unknown words, and no silence class.
    energy = sum(float((data.clips.wave(i) ** 2).sum()) for i in known["unknown"])
    assert float((left**2).sum()) == pytest.approx(energy, rel=1e-5)
    gaps = np.diff([start for start, _, _ in recording.words])
    assert gaps.min() >= 0.5 + 0.5 - 1 / RATE
    again = compose(data, test, data.noise, seed=3)
    assert again.words == recording.words
    spoken = len(recording.audio)
    noise = again.audio[:spoken] - recording.audio
    # Then each recording of noise, as it is.
    np.testing.assert_array_equal(again.audio[spoken:], np.clip(np.concatenate(data.noise), -1, 1))
    assert 0.5 < noise.std() / (scenes.VOLUME * 0.3) < 1.5
    assert compose(data, test, [], seed=4).words != recording.words


@pytest.mark.parametrize("seconds", [scenes.ALONE, 9.3])
def test_folds_share_out_the_noise(monkeypatch, seconds):
    """Each of them hears another part of all recordings in a row, of the first ``seconds`` where there is more."""
    monkeypatch.setattr(scenes, "ALONE", seconds)
    data, rng = data_of(folds=3), np.random.default_rng(2)
    noise = [rng.uniform(-0.5, 0.5, count).astype(np.float32) for count in (5000, 17_001, 30_000, 700, 9)]
    parts = []
    for number, fold in enumerate(data.folds):
        spoken = len(compose(data, fold.test, [], 3, 3, number).audio)
        parts.append(compose(data, fold.test, noise, 3, 3, number).audio[spoken:])
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(noise)[: int(seconds * RATE)])
    assert np.ptp([len(part) for part in parts]) <= 1


def test_folds_are_scored_on_other_noise(monkeypatch):
    heard, real = [], scenes.compose
    monkeypatch.setattr("tasks.speech.scoring.compose", lambda *args: heard.append(args[4:]) or real(*args))
    calibrate(spotter_of({"fold0": Tones(), "fold1": Tones()}), scoring_of(), data_of(folds=2))
    assert heard == [(2, 0), (2, 1)]


@pytest.mark.parametrize(("hop", "average"), [(0.06, 0.13), (0.05, 1000.0), (0.05, 0.0)])
def test_sweep_with_any_times(hop, average):
    """A hop that is no whole number of frames, of 0.025 s, and an average that is longer than the recording."""
    data = data_of(each=6)
    recording = compose(data, data.folds[0].test, data.noise, seed=0)
    scoring, spotter = replace(scoring_of(), hop=hop, average=average), spotter_of()
    times, scores = score_stream(spotter, recording.audio, hop)
    true = times[1] - times[0]
    assert true == pytest.approx(0.05)
    for threshold, counts in zip((0.1, 0.5), sweep(spotter, recording, scoring, (0.1, 0.5)), strict=True):
        detector = Detector(CLASSES, threshold, average, 0.5, true)
        assert judge([*detector.update(times, scores), *detector.finish()], recording) == counts


def test_sweep_equals_a_detector_that_hears_everything():
    data = data_of(each=6)
    recording = compose(data, data.folds[0].test, data.noise, seed=0)
    scoring = scoring_of()
    thresholds = [0.1, 0.5, 0.9, 0.99]
    spotter = spotter_of({"model": Tones(wrong=True)})
    found = sweep(spotter, recording, scoring, thresholds)
    times, scores = score_stream(spotter, recording.audio, scoring.hop)
    for threshold, counts in zip(thresholds, found, strict=True):
        detector = Detector(CLASSES, threshold, scoring.average, scoring.refractory, scoring.hop)
        assert judge([*detector.update(times, scores), *detector.finish()], recording) == counts
    assert found[0].confusions > 0


def test_threshold_is_chosen_on_validation_and_measured_on_test():
    data = data_of(folds=2)
    networks = {"fold0": Tones(), "fold1": Tones()}
    points = calibrate(spotter_of(networks), scoring_of(), data)
    assert points.source == "validation clips" and points.thresholds == sorted(points.thresholds)
    assert max(points.recall) > 0.9
    spotter = spotter_of(networks, operating_points=asdict(points))
    result = score_spotter(spotter, config_of(stream=True), data)
    metrics = result.metrics
    assert metrics["stream/threshold"] == points.choose(1.0) and metrics["stream/recall"] > 90
    assert result.outputs.calibration == points and result.outputs.stream.source == "test clips"
    assert metrics["stream/hours"] == result.outputs.stream.hours
    assert any("an hour (95 %)" in note for note in result.notes)
    # A wrong network for one of the folds: its words are confused, in the fold's own recording alone.
    networks["fold1"] = Tones(wrong=True)
    spotter = spotter_of(networks, operating_points=asdict(points))
    metrics = score_spotter(spotter, config_of(stream=True), data).metrics
    assert metrics["stream/recall"] == pytest.approx(50, abs=8) and metrics["stream/confusions"] > 40


@pytest.mark.parametrize(
    ("alarms", "hours", "said"),
    [
        (
            [9.0, 5.0],
            3.0,
            "has 5 false alarms an hour in 3 h of validation clips; no threshold keeps to 1 an hour",
        ),
        ([50.0, 0.0], 0.02, "in 0.02 h of validation clips; 0.02 h are too short to tell 1 an hour"),
        ([3.0, 0.5], 2.0, "threshold 0.9 has 0.5 false alarms an hour in 2 h of validation clips"),
    ],
)
def test_how_the_threshold_was_chosen_is_said(alarms, hours, said):
    points = OperatingPoints([0.4, 0.9], [1.0, 0.8], alarms, hours, "validation clips")
    spotter = spotter_of(operating_points=asdict(points))
    notes = score_spotter(spotter, config_of(stream=True), data_of(each=2)).notes
    assert any(said in note for note in notes)
    assert any(
        "no operating points" in n for n in score_spotter(spotter_of(), config_of(True), data_of()).notes
    )


def test_the_model_that_was_extended_knows_more_of_false_alarms():
    data = data_of()
    own = calibrate(spotter_of(), scoring_of(), data)
    base = OperatingPoints(
        [0.0, 0.8, 0.9, 1.0], [1.0, 0.9, 0.8, 0.7], [40.0, 20.0, 0.5, 0.0], 2.5, "validation clips"
    )
    points = calibrate(spotter_of(), scoring_of(), data, base)
    expected = np.maximum(own.false_alarms, np.interp(own.thresholds, base.thresholds, base.false_alarms))
    assert points.false_alarms == pytest.approx(list(expected))
    assert points.recall == own.recall and points.hours == 2.5
    assert points.source == "validation clips, and the false alarms of the extended model where it had more"
    assert own.choose(1.0) < 0.8 < points.choose(1.0) <= 0.9
    # Where the new words have more, these count.
    quiet = replace(base, false_alarms=[0.0] * 4)
    assert calibrate(spotter_of(), scoring_of(), data, quiet).false_alarms == own.false_alarms


def test_it_is_said_that_the_threshold_was_chosen_otherwise():
    points = asdict(OperatingPoints([0.4, 0.9], [1.0, 0.8], [3.0, 0.5], 2.0, "validation clips"))

    def notes(**trained):
        spotter = spotter_of(operating_points=points, options={"scoring": trained})
        return score_spotter(spotter, config_of(stream=True), data_of(each=2)).notes

    assert notes(hop=0.1, average=0.1, refractory=1.0)[-1].startswith(
        "the threshold was chosen with hop 0.1 s, refractory 1 s;"
    )
    assert not any("was chosen with" in note for note in notes(hop=0.05, average=0.1, refractory=0.5))


def test_calibration_never_hears_the_test():
    data = data_of()
    before = calibrate(spotter_of(), scoring_of(), data)
    data.clips.waves[data.folds[0].test] = 0
    data.test_noise = []
    assert calibrate(spotter_of(), scoring_of(), data) == before
    data.folds[0].validation = data.folds[0].validation[:0]
    assert "training clips" in calibrate(spotter_of(), scoring_of(), data).source


def test_baselines_learn_tones_but_not_the_test():
    data = data_of(folds=2)
    results = score_baselines(config_of(), data)
    assert list(results) == ["mfcc_logreg", "majority"]
    assert results["mfcc_logreg"].metrics["accuracy"] > 95 and results["mfcc_logreg"].metrics["auc"] > 0.99
    spotted = score_spotter(spotter_of(), config_of(), data).metrics
    assert set(results["mfcc_logreg"].metrics) == set(spotted)
    shuffled = data_of(folds=2)
    rng = np.random.default_rng(0)
    for fold in shuffled.folds:
        shuffled.clips.labels[fold.test] = rng.permutation(shuffled.clips.labels[fold.test])
    assert score_baselines(config_of(), shuffled)["mfcc_logreg"].metrics["accuracy"] < 50


def test_baselines_see_what_a_network_sees():
    data = data_of(each=10)
    fold, config = data.folds[0], config_of(unknown=0.2, silence=0.3).data
    chosen = training_clips(data, fold, config)
    words = (data.clips.labels[fold.train] >= 2).sum()
    counts = class_counts(data, fold, config)
    assert counts.tolist() == [
        round(0.3 * words),
        round(0.2 * words),
        *np.bincount(data.clips.labels[chosen])[2:],
    ]
    assert set(chosen) <= set(fold.train) and len(noise_crops(data, fold, config)) == counts[0]
    majority = score_baselines(SimpleNamespace(data=config), data)["majority"]
    assert majority.outputs.scores[0] == pytest.approx(counts / counts.sum())
    labels = data.clips.labels[fold.test]
    assert majority.metrics["accuracy"] == pytest.approx(100 * np.mean(labels == counts.argmax()))


def test_nothing_to_learn_from_is_a_guess():
    data = data_of()
    data.folds[0].train = data.folds[0].validation = np.zeros(0, np.int64)
    data.noise = []
    results = score_baselines(config_of(), data)
    assert list(results) == ["guess"]
    metrics = results["guess"].metrics
    assert metrics["accuracy"] == metrics["words/accuracy"] == metrics["recall/low"] == 25
    assert metrics["auc"] == 0.5 and metrics["eer"] == 50
    assert "nothing to learn from" in results["guess"].notes[0]
