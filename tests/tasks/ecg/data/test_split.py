"""Splits by patient: nobody on two sides, every label its share, the same whatever the order."""

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.split import split_records, stratified


@pytest.fixture
def cohort():
    rng = np.random.default_rng(4)
    patients = [f"p{i}" for i in rng.integers(0, 150, 400)]
    labels = rng.uniform(size=(400, 4)) < [0.5, 0.2, 0.1, 0.03]
    return patients, labels


def split(patients, labels, official=None, first=None, **options):
    count = len(patients)
    first = count if first is None else first
    return split_records(patients, labels, official or [None] * count, first, DataConfig(**options))


def owners(patients, indices):
    return {patients[i] for i in indices}


@pytest.mark.parametrize("folds", [0, 5])
def test_no_patient_is_on_two_sides_and_every_record_on_one(cohort, folds):
    patients, labels = cohort
    found, _ = split(patients, labels, folds=folds)
    assert [fold.name for fold in found] == ([f"fold{k + 1}" for k in range(5)] if folds else ["model"])
    for fold in found:
        sides = [owners(patients, part) for part in (fold.train, fold.validation, fold.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        together = np.concatenate([fold.train, fold.validation, fold.test])
        assert np.array_equal(np.sort(together), np.arange(400)) and together.dtype == np.int64
        assert len(fold.validation) == pytest.approx(0.1 * (400 - len(fold.test)), abs=4)
    if folds:
        assert np.array_equal(np.sort(np.concatenate([fold.test for fold in found])), np.arange(400))


def test_every_fold_has_its_share_of_rare_labels(cohort):
    patients, labels = cohort
    part = stratified(patients, labels, [0.2] * 5)
    counts = np.array([labels[part == k].sum(0) for k in range(5)])
    wanted = labels.sum(0) / 5
    assert (np.abs(counts - wanted) <= np.maximum(2, 0.1 * wanted)).all()
    assert np.abs(np.bincount(part) - 80).max() <= 8


def test_ten_patients_with_a_label_go_two_to_each_of_five_folds():
    labels = np.zeros((50, 1), bool)
    labels[:10] = True
    part = stratified([f"r{i}" for i in range(50)], labels, [0.2] * 5)
    assert np.bincount(part[:10]).tolist() == [2] * 5 and np.bincount(part).tolist() == [10] * 5


def test_folds_do_not_depend_on_the_order_of_the_records(cohort):
    patients, labels = cohort
    order = np.random.default_rng(0).permutation(400)
    part = stratified(patients, labels, [0.7, 0.3])
    again = stratified([patients[i] for i in order], labels[order], [0.7, 0.3])
    assert np.array_equal(part[order], again)


def test_one_patient_more_moves_one_at_most_to_the_test(cohort):
    patients, labels = cohort
    before = owners(patients, split(patients, labels)[0][0].test)
    more, _ = split([*patients, "new"], np.concatenate([labels, labels[:1]]))
    after = owners([*patients, "new"], more[0].test)
    assert len((after ^ before) - {"new"}) <= 1


def test_a_test_folder_is_tested_and_nothing_else(cohort):
    patients, labels = cohort
    patients = [f"{name}{'t' if i >= 300 else ''}" for i, name in enumerate(patients)]
    (fold,), _ = split(patients, labels, first=300)
    assert np.array_equal(fold.test, np.arange(300, 400)) and len(fold.train) + len(fold.validation) == 300
    (alone,), _ = split(patients[300:], labels[300:], first=0)
    assert len(alone.test) == 100 and not len(alone.train) and not len(alone.validation)


def test_official_folds_with_a_test_folder_leave_the_tenth_to_learn_from():
    labels = np.ones((24, 1), bool)
    official = [*(i % 10 + 1 for i in range(20)), *[10] * 4]
    (fold,), notes = split([f"r{i}" for i in range(24)], labels, official, 20)
    assert fold.test.tolist() == [20, 21, 22, 23] and fold.validation.tolist() == [8, 18]
    assert {9, 19} <= {*fold.train.tolist()} and "official folds: 9 is validated on" in notes


def test_official_folds_that_part_a_patient_stay_without_the_records_that_would_leak():
    labels = np.ones((20, 1), bool)
    official = [i % 10 + 1 for i in range(20)]
    patients = [f"r{i}" for i in range(20)]
    patients[0] = patients[8] = patients[9]  # in 1 and 9, and tested
    patients[1] = patients[18]  # in 2, and validated on
    (fold,), notes = split(patients, labels, official)
    assert fold.test.tolist() == [9, 19] and fold.validation.tolist() == [18]
    assert fold.train.tolist() == [*range(2, 8), *range(10, 18)]
    assert notes[0] == "official folds: 10 is tested, 9 validated on"
    assert notes[1].startswith("3 records are not learned from or validated on: the official folds")
    (fold,), _ = split([*patients, "t"], np.ones((21, 1), bool), [*official, None], 20)
    assert fold.test.tolist() == [20] and fold.validation.tolist() == [8, 18]
    assert fold.train.tolist() == [*range(2, 8), *range(10, 18), 19], "what is tested is in the other folder"
    folds, notes = split(patients, labels, official, folds=10)
    assert [fold.test.tolist() for fold in folds] == [[k, k + 10] for k in range(10)]
    for fold in folds:
        sides = [owners(patients, part) for part in (fold.train, fold.validation, fold.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert "records are not learned from or validated on in some fold" in notes[0]


def test_no_validation_share_is_no_validation(cohort):
    (fold,), _ = split(*cohort, validation_share=0.0)
    assert not len(fold.validation) and len(fold.train) + len(fold.test) == 400


def test_too_few_patients_are_told():
    labels = np.ones((4, 1), bool)
    with pytest.raises(DataError, match="all records are of one patient, p"):
        split(["p"] * 4, labels)
    with pytest.raises(ConfigError, match=r"--data.folds 3: there are 2 patients; use 2 to 2 folds"):
        split(["p", "p", "q", "q"], labels, folds=3)
