"""Which network has not learned from a record: by the signal, or else by the patient's name."""

from dataclasses import replace

import numpy as np
import pytest
from scored_records import made_data

from tasks.ecg.unseen import folds_of, own_networks, same_folds


@pytest.fixture(scope="module")
def data():
    return made_data(40, folds=5)


def home(data):
    return [next(fold.name for fold in data.folds if i in fold.test) for i in range(data.size)]


def test_records_are_found_again_under_other_names_and_in_another_order(data):
    order = np.random.default_rng(0).permutation(40)
    moved = replace(
        data,
        names=[f"other/{i}" for i in range(40)],
        patients=[f"other/{i}" for i in range(40)],
        signals=[data.signals[i] for i in order],
    )
    assert own_networks(folds_of(data), moved) == [home(data)[i] for i in order]


def test_records_that_were_filtered_in_another_way_are_found_by_their_patients(data):
    changed = replace(data, signals=[signal + 1e-3 for signal in data.signals])
    assert own_networks(folds_of(data), changed) == home(data)
    strange = replace(changed, patients=[f"Q{i}" for i in range(40)])
    assert own_networks(folds_of(data), strange) == [None] * 40


def test_an_equal_signal_counts_more_than_an_equal_name(data):
    turned = replace(data, signals=data.signals[::-1])
    assert own_networks(folds_of(data), turned) == home(data)[::-1]


def test_folds_are_the_same_only_if_no_network_has_seen_what_it_is_asked(data):
    stored = folds_of(data)
    assert same_folds(stored, data)
    assert same_folds(stored, replace(data, labels=~data.labels, classes=["a", "b", "c", "d"]))
    first, second, *others = data.folds
    for one, other in (
        (replace(first, test=second.test), replace(second, test=first.test)),
        (replace(first, validation=first.train[-2:]), second),
        (replace(first, name="model"), second),
    ):
        assert not same_folds(stored, replace(data, folds=[one, other, *others]))
    new = replace(
        data, signals=[*data.signals[:-1], data.signals[-1] + 1], patients=[*data.patients[:-1], "new"]
    )
    assert not same_folds(stored, new)


def test_equal_records_of_two_official_folds_belong_to_both(data):
    twins = replace(data, signals=data.signals.copy(), patients=data.patients.copy())
    twins.signals[2], twins.patients[2:4] = twins.signals[0], twins.patients[0:2]
    assert home(data)[0] != home(data)[2]
    assert same_folds(folds_of(twins), twins)
    assert own_networks(folds_of(twins), twins)[0] in (home(data)[0], home(data)[2])


def test_marks_tell_no_names(data):
    stored = folds_of(replace(data, patients=[f"Jane Doe {i}" for i in range(40)]))
    marks = [mark for fold in stored.values() for part in fold.values() for mark in part]
    assert all(len(mark) == 16 and set(mark) <= set("0123456789abcdef") for mark in marks)
