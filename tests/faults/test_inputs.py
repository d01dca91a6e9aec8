"""Some of the bad inputs of ``python -m tests.faults --only inputs``, for every task."""

from __future__ import annotations

import pytest

from tests.faults.inputs import prepare, tried
from tests.faults.inputs.domains import DOMAINS

COUNT = 8
SEED = 7


@pytest.mark.parametrize("domain", DOMAINS, ids=[domain.name for domain in DOMAINS])
def test_bad_inputs_are_refused_in_one_line_and_cost_nothing(domain, tmp_path):
    good = prepare(domain, tmp_path / domain.name)
    answers = list(tried(good, COUNT, SEED))
    assert len(answers) == COUNT
    assert [f"{case.text}: {answer.wrong} {answer.error}" for case, answer in answers if answer.wrong] == []
    assert {answer.code for _, answer in answers} - {0}, "some of them are refused"
