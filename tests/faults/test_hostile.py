"""The quick ones of ``python -m tests.faults --only hostile``: each kind of attack, on few tasks."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest

from tests.faults.hostile import trials, tried
from tests.faults.hostile.trial import MARKER, Harm
from tests.faults.inputs import prepare
from tests.faults.inputs.domains import DOMAINS

WHOLE = "csi"
"""A task of which all is tried."""
SOME = {"text": "detection", "sizes": "denoising"}
"""Group and a task with more files of that kind."""


@pytest.fixture(scope="module")
def goods(tmp_path_factory):
    root = tmp_path_factory.mktemp("goods")
    wanted = {WHOLE, *SOME.values()}
    return {d.name: prepare(d, root / d.name) for d in DOMAINS if d.name in wanted}


def wrong(goods, chosen):
    answers = [(trial, tried(goods[trial.task], trial)) for trial in chosen]
    return [f"{trial.text}: {answer.wrong} {answer.error}" for trial, answer in answers if answer.wrong]


@pytest.mark.parametrize(
    "group", ["packages", "pickles", "text", "sizes", "names", "archives", "special files"]
)
def test_it_is_refused_in_one_line_and_nothing_is_executed(group, goods):
    chosen = [trial for trial in trials([WHOLE]) if trial.group == group]
    if group in SOME:
        chosen += [t for t in trials([SOME[group]]) if t.group == group and "--config" not in t.text]
    assert len(chosen) > 3
    assert wrong(goods, chosen) == []


def test_a_name_that_is_markup_is_text_in_the_report(goods):
    chosen = [trial for trial in trials(["detection"]) if trial.text == "detection: HTML in the report"]
    assert len(chosen) == 1
    assert wrong(goods, chosen) == []


def test_the_pickle_would_do_harm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Harm())).close()
    assert (tmp_path / MARKER).exists()


def test_every_attack_has_a_text_of_its_own():
    texts = Counter((trial.group, trial.text) for trial in trials([domain.name for domain in DOMAINS]))
    assert [text for text, count in texts.items() if count > 1] == []
