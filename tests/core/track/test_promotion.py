from __future__ import annotations

import math

import pytest

from core.errors import ConfigError
from core.track.promotion import Policy, Score, decide, gain, load_policy

DATA, OTHER = "d" * 64, "e" * 64


def lower(value, digest=DATA, baseline=None, metric="mape"):
    return Score(metric, value, False, digest, "naive" if baseline is not None else "", baseline)


def higher(value, baseline=None):
    return Score("dice", value, True, DATA, "otsu" if baseline is not None else "", baseline)


BETTER = Policy()


@pytest.mark.parametrize(
    ("challenger", "champion", "policy", "promoted", "words"),
    [
        (lower(9.0), lower(10.0), BETTER, True, "gains 10.00%"),
        (lower(11.0), lower(10.0), BETTER, False, "no gain"),
        (lower(10.0), lower(10.0), BETTER, False, "no gain"),
        (higher(0.9), higher(0.8), BETTER, True, "gains 12.50%"),
        (higher(0.7), higher(0.8), BETTER, False, "no gain"),
        (lower(9.0), lower(10.0), Policy(min_gain=0.2), False, "less than 20.00%"),
        (lower(7.5), lower(10.0), Policy(min_gain=0.2), True, "gains 25.00%"),
        (lower(9.0), None, BETTER, True, "first champion"),
        (lower(9.0, baseline=8.0), None, BETTER, False, "does not beat the baseline naive"),
        (lower(9.0, baseline=9.0), None, BETTER, False, "does not beat the baseline"),
        (lower(9.0, baseline=8.0), lower(10.0), BETTER, False, "baseline"),
        (higher(0.5, baseline=0.4), None, BETTER, True, "first champion"),
        (higher(0.5, baseline=0.6), None, BETTER, False, "baseline"),
        (lower(9.0, baseline=8.0), lower(10.0), Policy(beat_baseline=False), True, "gains"),
        (lower(9.0), lower(10.0, digest=OTHER), BETTER, False, "could not be scored there"),
        (lower(9.0), lower(10.0, metric="mase"), BETTER, False, "has no mape"),
        (lower(math.nan), None, BETTER, False, "nan"),
        (lower(math.inf), lower(10.0), BETTER, False, "inf"),
        (lower(math.nan), lower(10.0), Policy("always"), False, "nan"),
        (lower(9.0), lower(math.nan), BETTER, True, "champion's mape on the same data is nan"),
        (lower(11.0, baseline=1.0), lower(10.0), Policy("always"), True, "policy is always"),
        (lower(1.0), lower(10.0), Policy("never"), False, "policy is never"),
        (lower(1.0), None, Policy("never"), False, "policy is never"),
        (higher(0.5), higher(0.0), BETTER, True, "gains"),
        (lower(9.0, baseline=math.nan), None, BETTER, False, "baseline"),
    ],
)
def test_decisions(challenger, champion, policy, promoted, words):
    decision = decide(challenger, champion, policy)
    assert decision.promote is promoted
    assert words in decision.reason
    assert "\n" not in decision.reason
    assert decision.reason.startswith("promoted" if promoted else "not promoted")


def test_gain_by_hand():
    assert gain(8.0, 10.0, higher_is_better=False) == pytest.approx(0.2)
    assert gain(8.0, 10.0, higher_is_better=True) == pytest.approx(-0.2)
    assert gain(-8.0, -10.0, higher_is_better=True) == pytest.approx(0.2)
    assert gain(3.0, 0.0, higher_is_better=True) == 3.0


def test_policy_file(tmp_path, monkeypatch):
    (tmp_path / "mlflow").mkdir()
    path = tmp_path / "mlflow" / "registry.yaml"
    monkeypatch.chdir(tmp_path)
    path.write_text("fake: {min_gain: 0.05, beat_baseline: false, promote: never}\n")
    assert load_policy("fake") == Policy("never", 0.05, False)
    assert load_policy("fake", "if-better") == Policy("if-better", 0.05, False)
    assert load_policy("unlisted") == Policy()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fake: {min_gian: 0.05}", "Did you mean 'min_gain'"),
        ("fake: {promote: sometimes}", "sometimes"),
        ("fake: {min_gain: much}", "not a number"),
        ("fake: {min_gain: -1}", "from 0 upwards"),
        ("fake: [1]", "expected task names"),
        ("fake: {", "cannot be read"),
    ],
)
def test_a_wrong_policy_file_is_one_line(tmp_path, monkeypatch, text, words):
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "registry.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words) as caught:
        load_policy("fake")
    assert "\n" not in str(caught.value)
