"""Splits: held out by name, nnU-Net's folds, files of splits, patients, fewer labels."""

import json

import numpy as np
import pytest
from case_folders import load, names, nnunet
from sklearn.model_selection import KFold

from core.data.split import hold_out, name_hash
from core.errors import ConfigError, DataError
from tasks.segmentation.config import DataConfig
from tasks.segmentation.data.cases import Fold
from tasks.segmentation.data.split import check, make_folds, write_splits

NAMES = [f"case_{i:03}" for i in range(200)]
PATIENTS = [f"p{i // 4}_{i % 4}" for i in range(40)]


def folds(names=NAMES, own=(), **options):
    config = DataConfig(path="x", **options)
    check(config)
    return make_folds(sorted(names), set(own), config)


def test_a_share_is_held_out():
    (fold,), notes = folds()
    assert (fold.name, len(fold.train), len(fold.validation), len(fold.test)) == ("model", 144, 16, 40)
    assert list(fold.test) == hold_out(NAMES, 0.2, None, "").test
    assert sorted((*fold.train, *fold.validation, *fold.test)) == list(range(200))
    left = sorted((i for i in range(200) if i not in fold.test), key=lambda i: name_hash(NAMES[i]))
    assert set(fold.validation) == set(left[:16])
    assert notes == ["40 of 200 held out: 40 to test on, 160 to learn from"]


@pytest.mark.parametrize(("count", "validation"), [(5, 0), (6, 1), (7, 1), (25, 2)])
def test_few_cases_give_few_to_validate_on(count, validation):
    (fold,), _ = folds(NAMES[:count])
    assert len(fold.validation) == validation
    (fold,), _ = folds(NAMES[:count], validation_share=0.0)
    assert fold.validation == ()


def test_the_folds_of_nnunet():
    ours, _ = folds(folds=5)
    theirs = KFold(5, shuffle=True, random_state=12345).split(np.array(NAMES))
    for number, (fold, (train, test)) in enumerate(zip(ours, theirs, strict=True)):
        assert fold == Fold(f"fold_{number}", tuple(train), tuple(test), tuple(test))
    one, _ = folds(folds=5, fold=3)
    assert one == ours[3:4]


def test_patients_stay_together():
    for options in ({"folds": 5}, {}, {"label_share": 0.5}):
        result, _ = folds(PATIENTS, subject=r"^(p\d+)_", **options)
        order = sorted(PATIENTS)
        for fold in result:
            who = [{order[i].split("_")[0] for i in part} for part in (fold.train, fold.test)]
            assert who[0] and who[1] and not who[0] & who[1]
    (fold,), notes = folds(PATIENTS, subject=r"^(p\d+)_")
    assert len(fold.test) == 8 and "2 of 10 patients held out" in notes[0]
    held = [{sorted(PATIENTS)[i].split("_")[0] for i in part} for part in (fold.train, fold.validation)]
    assert not held[0] & held[1]
    own = [i for i, name in enumerate(sorted(PATIENTS)) if name in ("p3_0", "p7_2")]
    (fold,), notes = folds(PATIENTS, own, subject=r"^(p\d+)_")
    assert list(fold.test) == own and len(fold.train) + len(fold.validation) == 32
    assert "6 left out of training: patients of the test, such as p3_1" in notes
    with pytest.raises(ConfigError, match=r"--data.subject 'x' finds nothing"):
        folds(PATIENTS, subject="x")
    with pytest.raises(DataError, match=r"10 patients are too few for --data.folds 11"):
        folds(PATIENTS, folds=11, subject=r"^(p\d+)_")


def test_a_test_set_of_its_own_is_tested_in_every_fold():
    result, _ = folds(NAMES[:20], [0, 5], folds=3)
    assert all(fold.test == (0, 5) and len(fold.validation) == 6 for fold in result)
    assert all(not {0, 5} & {*fold.train, *fold.validation} for fold in result)
    (fold,), notes = folds(NAMES[:20], [0, 5])
    assert fold.test == (0, 5) and len(fold.train) == 16 and notes == []
    everything = [Fold("model", (), (), (0, 1, 2))]
    assert folds(NAMES[:3], [2, 0, 1]) == (everything, [])
    assert folds(NAMES[:3], [0, 1, 2], subject="no such name")[0] == everything, "nobody to keep apart"


def test_fewer_labels():
    (full,), _ = folds()
    (tenth,), notes = folds(label_share=0.1)
    (fifth,), _ = folds(label_share=0.2)
    assert len(tenth.train) == 14 and set(tenth.train) < set(fifth.train) < set(full.train)
    assert tenth.test == full.test and tenth.validation == full.validation
    assert "14 of 144 training cases are used (--data.label_share)" in notes


def test_splits_are_written_and_read(tmp_path):
    root = nnunet(tmp_path / "a", 10)
    data = load(root, folds=5)
    path = tmp_path / "out" / "splits_final.json"
    write_splits(data.folds, data.cases, path)
    stored = json.loads(path.read_text())
    assert [set(entry) for entry in stored] == [{"train", "val"}] * 5
    assert stored[2]["val"] == names(data, data.folds[2].test)
    assert load(root, splits=str(path)).folds == data.folds
    assert load(root, splits=str(path), fold=4).folds == data.folds[4:]
    path.write_text(json.dumps([{"train": ["case_00", "case_01", "gone"], "val": ["case_05"]}]))
    other = load(root, splits=str(path))
    assert other.folds == [Fold("fold_0", (0, 1), (5,), (5,))]
    assert "1 of the names in splits_final.json are not used, such as gone" in other.notes
    with pytest.raises(ConfigError, match="has folds 0 to 0"):
        load(root, splits=str(path), fold=1)
    path.write_text(json.dumps([{"train": ["case_00"], "val": ["case_00"]}]))
    with pytest.raises(DataError, match="case_00 is on both sides of fold 0"):
        load(root, splits=str(path))
    path.write_text(json.dumps([{"train": ["case_00"], "val": ["x"]}]))
    with pytest.raises(DataError, match="one side of fold 0 has none of the cases"):
        load(root, splits=str(path))
    path.write_text("{}")
    with pytest.raises(DataError, match="has no folds"):
        load(root, splits=str(path))
    with pytest.raises(ConfigError, match="there is no such file"):
        load(root, splits=str(tmp_path / "none.json"))
