"""Scores of a stream against those of its windows one by one, and what is heard in scores made by hand."""

import math

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from tasks.speech.config import FeatureConfig, SpeechScoringConfig
from tasks.speech.frontend import FrontEnd
from tasks.speech.models.resnets import ResNet
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import Detector, OperatingPoints, check_scoring, score_stream
from tasks.speech.windows import BATCH, WindowScorer, round_hop

CLASSES = ["silence", "unknown", "cat", "dog"]


def make_spotter(rate=16000, samples=16000, **features):
    torch.manual_seed(0)
    network = ResNet(4, width=4, layers=2)
    # Norms that fit the features, and an output that leaves no score near 0 or 1.
    front = FrontEnd(FeatureConfig(**features), rate)
    clips = torch.from_numpy(audio(8 * samples, seed=9).reshape(8, samples))
    for _ in range(30):
        network(front(clips))
    network.output.weight.data *= 3
    settings = {"classes": CLASSES, "rate": rate, "samples": samples, "features": features}
    return Spotter(settings, {"model": network}, {})


def audio(length, seed=0):
    """Noise that comes and goes, with digital silence in it."""
    samples = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    samples *= 0.2 * np.sin(np.arange(length) / 3000) ** 2
    samples[length // 3 : length // 3 + 3000] = 0
    return samples


def one_by_one(spotter, samples, hop):
    """Every window as a recording of its own: ends, features and scores."""
    starts = range(0, len(samples) - spotter.length + 1, hop)
    clips = np.stack([samples[start : start + spotter.length] for start in starts])
    ends = np.array([(start + spotter.length) / spotter.rate for start in starts])
    return ends, spotter.front(torch.from_numpy(clips)).numpy(), spotter.scores(clips)


def in_a_stream(spotter, parts, hop):
    """The same of a stream."""
    features, score = [], spotter.feature_scores
    spotter.feature_scores = lambda new, fold=None: features.append(new.numpy()) or score(new)
    times, scores = score_stream(spotter, parts, hop)
    spotter.feature_scores = score
    return times, np.concatenate(features), scores


def assert_same(stream, expected):
    for given, wanted, tolerance in zip(stream, expected, (1e-12, 1e-4, 1e-5), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=0, atol=tolerance)


def blocks(samples, size):
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@pytest.mark.parametrize("pad", ["reflect", "constant"])
@pytest.mark.parametrize("kind", ["mfcc", "logmel", "pcen"])
def test_a_stream_scores_as_its_windows(kind, pad):
    spotter, samples = make_spotter(kind=kind, pad=pad), audio(30_000)
    expected = one_by_one(spotter, samples, 1600)
    assert np.ptp(expected[2], axis=0).max() > 0.01
    for size in (37, 1600, 16_000, 30_000):
        assert_same(in_a_stream(spotter, blocks(samples, size), 0.1), expected)


@pytest.mark.parametrize(
    ("settings", "hop"),
    [
        ({"n_fft": 512}, 0.01),  # every frame begins a window
        ({"window": 400, "n_fft": 1024, "hop": 256}, 0.256),
        ({"samples": 12_345}, 0.13),
        ({"samples": 3000}, 0.5),  # gaps between windows
        ({"samples": 700, "n_fft": 1024}, 0.1),  # all frames reach over an end
        ({"rate": 8000, "samples": 8000, "window": 240, "hop": 80}, 0.1),
        ({"window": 401}, 0.1),
    ],
)
def test_other_sizes(settings, hop):
    spotter, samples = make_spotter(**settings), audio(40_000, seed=1)
    expected = one_by_one(spotter, samples, round(hop * spotter.rate))
    for size in (1111, len(samples)):
        assert_same(in_a_stream(spotter, blocks(samples, size), hop), expected)


def test_a_window_is_scored_as_soon_as_it_is_complete():
    scorer, samples = WindowScorer(make_spotter(), 0.1), audio(20_000)
    assert len(scorer.feed(samples[:15_999])[0]) == 0
    assert scorer.feed(samples[15_999:16_000])[0].tolist() == [1.0]
    assert scorer.feed(samples[16_000:19_199])[0].tolist() == [1.1]
    assert len(scorer.feed(samples[:0])[0]) == 0


def test_memory_does_not_grow():
    spotter = make_spotter()
    for hop in (0.1, 3.0):
        scorer, sizes = WindowScorer(spotter, hop), []
        for _ in range(40):
            scorer.feed(audio(8000))
            sizes.append((len(scorer._samples), len(scorer._energies)))
        assert max(samples for samples, _ in sizes) <= spotter.length + scorer.hop + 8000
        assert max(frames for _, frames in sizes) <= 101 + scorer.frames_apart
    # One feed of many windows is worked on in parts.
    seen = []
    whole = spotter.feature_scores
    spotter.feature_scores = lambda features: seen.append(len(features)) or whole(features)
    score_stream(spotter, audio(16_000 + 160 * 3 * BATCH), 0.01)
    assert max(seen) <= BATCH and sum(seen) == 3 * BATCH + 1


def test_a_stream_shorter_than_a_window_is_set_amid_zeros():
    spotter, samples = make_spotter(), audio(9000)
    times, scores = score_stream(spotter, blocks(samples, 1000), 0.1)
    np.testing.assert_allclose(scores, spotter.scores(np.pad(samples, (3500, 3500))[None]), atol=1e-6)
    assert times.tolist() == [9000 / 16000]
    times, scores = score_stream(spotter, [], 0.1)
    assert times.shape == (0,) and scores.shape == (0, 4)
    # A whole window is scored once.
    assert len(score_stream(spotter, audio(16_000), 0.1)[0]) == 1


@pytest.mark.parametrize(
    ("settings", "hop", "true"),
    [
        ({"rate": 22050, "samples": 22050}, 0.1, 2240),  # 13.8 frames
        ({"rate": 44100, "samples": 44100}, 0.1, 4480),  # 27.6 frames
        ({"hop": 128}, 0.1, 1536),  # 12.5 frames
        ({}, 0.104, 1600),
        ({}, 0.001, 160),
    ],
)
def test_a_hop_is_the_nearest_whole_number_of_frames(settings, hop, true):
    spotter = make_spotter(**settings)
    samples = audio(spotter.length + 5 * true, seed=2)
    expected = one_by_one(spotter, samples, true)
    assert_same(in_a_stream(spotter, blocks(samples, 5000), hop), expected)
    assert round_hop(spotter, hop) == true / spotter.rate


@pytest.mark.parametrize("hop", [0.0, -0.1, math.nan, math.inf])
def test_a_hop_is_a_time(hop):
    with pytest.raises(
        ConfigError, match=r"^--scoring\.hop .* \(of predict: --hop\) must be a finite time above 0 s$"
    ):
        WindowScorer(make_spotter(), hop)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0.0}, r"^--scoring\.hop 0 must be a finite time above 0 s$"),
        ({"hop": math.nan}, r"^--scoring\.hop nan must be"),
        ({"average": -0.1}, r"^--scoring\.average -0\.1 must be finite and not negative$"),
        ({"average": math.inf}, r"^--scoring\.average inf must be"),
        ({"refractory": -1.0}, r"^--scoring\.refractory -1 must be"),
        ({"false_alarms": math.nan}, r"^--scoring\.false_alarms nan must be"),
    ],
)
def test_options_of_scoring_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        check_scoring(SpeechScoringConfig(**options))


def test_options_of_scoring_at_their_ends():
    check_scoring(SpeechScoringConfig())
    check_scoring(SpeechScoringConfig(average=1000.0))
    check_scoring(SpeechScoringConfig(average=0.0, refractory=0.0, false_alarms=0.0))


def hear(cat, dog=None, *, threshold=0.5, average=0.1, refractory=0.5, size=None, silence=0.0):
    """Events of a score for cat and one for dog every 0.1 s, from 1.0 s on, as (window, word)."""
    scores = np.zeros((len(cat), 4))
    scores[:, 0], scores[:, 1], scores[:, 2] = silence, silence, cat
    scores[:, 3] = 0 if dog is None else dog
    times = 1 + 0.1 * np.arange(len(cat))
    detector, events = Detector(CLASSES, threshold, average, refractory, 0.1), []
    for i in range(0, len(cat), size or len(cat)):
        events += detector.update(times[i : i + (size or len(cat))], scores[i : i + (size or len(cat))])
    events += detector.finish()
    return [(round(10 * event.time) - 10, event.word, round(event.score, 6)) for event in events]


def test_a_held_score_is_one_event():
    assert hear([0, 0.9, 0.8] + 30 * [0.9] + [0]) == [(1, "cat", 0.9)]
    assert hear([0, 0.5, 0]) == [(1, "cat", 0.5)]
    assert hear([0, 0.49, 0]) == []


def test_a_word_is_heard_again_after_a_fall_and_the_refractory_time():
    assert hear([0.9, 0, 0, 0, 0, 0.9]) == [(0, "cat", 0.9), (5, "cat", 0.9)]
    assert hear([0.9, 0, 0, 0, 0.9, 0]) == [(0, "cat", 0.9)]
    # Still high when the time is over: it is another one.
    assert hear([0.9, 0, 0, 0.8, 0.8, 0.7, 0.6]) == [(0, "cat", 0.9), (5, "cat", 0.7)]
    assert hear([0.9, 0, 0.9, 0, 0.9], refractory=0) == [(0, "cat", 0.9), (2, "cat", 0.9), (4, "cat", 0.9)]
    # Each word has its own time.
    assert hear([0.9, 0, 0], [0, 0.8, 0]) == [(0, "cat", 0.9), (1, "dog", 0.8)]


def test_scores_are_averaged():
    # A full average is waited for, a single peak is not enough.
    assert hear([0.9, 0.9, 0.9, 0.9], average=0.3) == [(2, "cat", 0.9)]
    assert hear([0, 0, 0.9, 0, 0, 0], average=0.3) == []
    assert hear([0, 0, 0.9, 0.3, 0.6, 0], average=0.3) == [(4, "cat", 0.6)]
    # 0.25 s are two windows and a half, which rounds to two.
    assert hear([0, 0.4, 0.6, 0, 0], average=0.25) == [(2, "cat", 0.5)]
    assert hear([0, 0.9, 0], average=0) == [(1, "cat", 0.9)]


def test_a_stream_shorter_than_the_average_is_judged_at_its_end():
    assert hear([0.9], average=0.3) == [(0, "cat", 0.9)]
    assert hear([0.9, 0.3], average=0.3) == [(1, "cat", 0.6)]
    assert hear([0.9, 0.0], average=0.3) == []
    assert Detector(CLASSES, 0.5, 0.3, 1, 0.1).finish() == []


def test_the_best_word_wins_and_other_classes_are_never_heard():
    assert hear([0.4, 0.4], [0.3, 0.3], threshold=0.2) == [(0, "cat", 0.4)]
    assert hear([0.4, 0.2], [0.3, 0.3], threshold=0.2) == [(0, "cat", 0.4), (1, "dog", 0.3)]
    assert hear([0.1, 0.3], threshold=0.2, silence=0.9) == [(1, "cat", 0.3)]
    assert hear([0.1, 0.1], threshold=0.2, silence=0.9) == []


def test_events_do_not_depend_on_the_blocks():
    rng = np.random.default_rng(0)
    cat, dog = rng.random((2, 400))
    whole = hear(cat, dog, threshold=0.6, average=0.3)
    assert 10 < len(whole) < 100 and {word for _, word, _ in whole} == {"cat", "dog"}
    for size in (1, 2, 7):
        assert hear(cat, dog, threshold=0.6, average=0.3, size=size) == whole


def test_operating_points():
    points = OperatingPoints([0.2, 0.5, 0.8, 0.9], [1.0, 0.9, 0.6, 0.5], [0.4, 6.0, 1.0, 0.0], 2.0, "x")
    assert [points.choose(budget) for budget in (7, 6, 5.9, 1, 0.5, 0)] == [0.2, 0.2, 0.8, 0.8, 0.9, 0.9]
    # 0.2 has few since its score never falls; none keeps to a budget below the least.
    assert OperatingPoints([0.2, 0.9], [1, 1], [5, 3], 1, "x").choose(1) == 0.9
    assert points.recall_at(0.65) == pytest.approx(0.75) and points.recall_at(0.95) == 0.5
    assert points.false_alarms_at(0.85) == pytest.approx(0.5)


def test_points_say_what_speaks_against_a_threshold():
    def doubt(budget, hours=2.0, alarms=(6.0, 0.5)):
        return OperatingPoints([0.5, 0.9], [0.9, 0.5], list(alarms), hours, "x").doubt(budget)

    assert doubt(1) == "" and doubt(0.5) == ""
    assert doubt(0.4) == "no threshold keeps to 0.4 an hour"
    assert doubt(1, hours=0.25, alarms=(8, 0)).startswith(
        "0.25 h are too short to tell 1 an hour: more noise"
    )
    assert doubt(4, hours=0.25, alarms=(8, 0)) == ""
