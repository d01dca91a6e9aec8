"""Scalars of YAML 1.2, where PyYAML reads 1.1."""

import math

import pytest
import yaml

from core.yaml12 import load_yaml


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "Yes", "NO", "2026-11-25", "1:30"])
def test_words_stay_words(word):
    expected = {"1:30": 90}.get(word, word)  # sexagesimal numbers are PyYAML's integers still
    assert load_yaml(f"[{word}]") == [expected]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-2.", -2.0),
        ("3", 3),
        ("true", True),
        ("False", False),
        ("~", None),
    ],
)
def test_numbers_and_truth(text, value):
    found = load_yaml(text)
    assert found == value and type(found) is type(value)


def test_what_is_not_finite():
    assert load_yaml(".inf") == math.inf and load_yaml("-.inf") == -math.inf and math.isnan(load_yaml(".nan"))


def test_errors_are_pyyamls():
    with pytest.raises(yaml.YAMLError):
        load_yaml("[1")


def test_aliases_stand_for_what_they_name():
    assert load_yaml("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def aliases(depth):
    rows = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]", *rows])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (aliases(9), "stands for more than"),
        ("a: &a [*a]", "holds itself"),
        ("a: &a {b: [*a]}", "holds itself"),
        ("[" * 100_000, "nested too deeply"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_what_grows_without_end_or_runs_is_refused(text, said):
    assert len(load_yaml(aliases(4))["a3"]) == 9
    with pytest.raises(yaml.YAMLError, match=said):
        load_yaml(text)
