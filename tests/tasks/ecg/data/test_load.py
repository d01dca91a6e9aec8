"""Folders of every layout to records, classes and splits; what is wrong is told in one line."""

import numpy as np
import pytest
from record_folders import LEADS, challenge_folder, ptbxl_folder, table_folder, wave, wfdb_record, write_csv

from core.errors import ConfigError, DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.load import load_data

SHARES = {"test_share": 0.3, "validation_share": 0.3, "input_rate": 100, "least": 1}
STATEMENTS = [
    ["NORM", "normal", "1.0", "", "", "NORM", "NORM"],
    ["IMI", "inferior infarction", "1.0", "", "", "MI", "IMI"],
    ["ASMI", "anteroseptal infarction", "1.0", "", "", "MI", "AMI"],
    ["ABQRS", "abnormal QRS", "", "1.0", "", "", ""],
    ["NDT", "T wave changes", "1.0", "1.0", "", "STTC", "STTC"],
    ["SR", "sinus rhythm", "", "", "1.0", "", ""],
    ["AFIB", "atrial fibrillation", "", "", "1.0", "", ""],
]
CODES = [
    {"NORM": 100.0, "SR": 0.0},
    {"IMI": 15.0, "ASMI": 0.0, "ABQRS": 0.0, "AFIB": 0.0},
    {"NDT": 50.0, "SR": 0.0},
    {"SR": 0.0, "ABQRS": 0.0},
]


def rows(count, labels=("a", "b", "a;b")):
    return [[f"r{i}.npy", f"p{i // 2}", labels[i % len(labels)]] for i in range(count)]


def load(path, **options):
    return load_data(DataConfig(path=str(path), **{**SHARES, **options}))


def told(data):
    return "\n".join(data.notes)


def labels_of(data):
    return {
        name: {data.classes[i] for i in np.flatnonzero(row)}
        for name, row in zip(data.names, data.labels, strict=True)
    }


@pytest.fixture
def ptbxl(tmp_path):
    records = [(i + 1, i // 2, CODES[i % 4], i // 2 % 10 + 1) for i in range(24)]
    return ptbxl_folder(tmp_path / "ptbxl", records, STATEMENTS)


def test_a_table_gives_names_patients_labels_and_signals(tmp_path):
    data = load(table_folder(tmp_path / "mine", rows(12)))
    assert (data.name, data.classes, data.codes, data.rate, data.size) == (
        "mine",
        ["a", "b"],
        ["", ""],
        100,
        12,
    )
    assert labels_of(data)["r0"] == {"a"} and labels_of(data)["r2"] == {"a", "b"}
    assert data.patients == [f"p{i // 2}" for i in range(12)] and not data.synthetic
    assert data.present.shape == (12, 12) and data.present.all()
    assert data.leads == list(LEADS) and data.signals[3].dtype == np.float32
    expected = wave(3) - np.median(wave(3), 1, keepdims=True)
    np.testing.assert_allclose(data.signals[3], expected, atol=1e-6)


def test_columns_of_zero_and_one_are_classes_in_their_order(tmp_path):
    header = ("file", "age", "zeta", "alpha")
    table_folder(tmp_path / "t", [[f"r{i}.npy", 60, i % 2, "1.0"] for i in range(8)], header)
    data = load(tmp_path / "t")
    assert data.classes == ["zeta", "alpha"]
    assert data.labels.sum(0).tolist() == [4, 8] and data.patients == data.names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([["r0.npy", "p", "a"], ["r0.npy", "p", "b"]], "rows 1 and 2 name the same file r0.npy"),
        ([["", "p", "a"]], "row 1 names no file"),
        ([["gone.npy", "p", "a"]], "row 1 names gone.npy, which is not in"),
        ([["r0.npy", "p"]], "row 1 has not 3 fields"),
        ([], "has no rows"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, change, message):
    folder = table_folder(tmp_path / "t", rows(2))
    write_csv(folder / "labels.csv", [["file", "patient", "labels"], *change])
    with pytest.raises(DataError, match=message):
        load(folder)


def test_a_class_column_holds_nothing_but_zero_and_one(tmp_path):
    table_folder(tmp_path / "t", [["r0.npy", "1"], ["r1.npy", "maybe"]], ("file", "a"))
    with pytest.raises(DataError, match=r"labels.csv: row 2, column a: 'maybe' is neither 0 nor 1"):
        load(tmp_path / "t")


def test_other_columns_may_hold_anything_where_the_classes_are_named(tmp_path):
    header = ("file", "weight", "fast", "slow")
    table_folder(tmp_path / "t", [[f"r{i}.npy", 60 + i, i % 2, 1 - i % 2] for i in range(8)], header)
    with pytest.raises(DataError, match=r"column weight: '60' is neither 0 nor 1; .* by --data.labels"):
        load(tmp_path / "t")
    data = load(tmp_path / "t", labels=["Fast"])
    assert data.classes == ["Fast"] and data.labels[:, 0].tolist() == [0, 1] * 4
    assert "columns that are no labels are not used: weight" in told(data)
    with pytest.raises(DataError, match=r"column weight: '60' is neither 0 nor 1"):
        load(tmp_path / "t", labels=["fast", "weight"])
    with pytest.raises(ConfigError, match=r"no records with 'slwo'; nearest: slow"):
        load(tmp_path / "t", labels=["slwo"])


def test_tables_are_no_records_that_are_not_listed(tmp_path):
    folder = table_folder(tmp_path / "t", rows(8))
    write_csv(folder / "l2.csv", [["file", "labels"], *([f"r{i}.npy", "a"] for i in range(8))])
    assert "not used" not in told(load(folder, table="l2.csv"))
    np.save(folder / "more.npy", wave(9))
    assert f"1 record under {folder} is not in l2.csv and not used" in told(load(folder, table="l2.csv"))


@pytest.mark.parametrize(
    ("header", "message"),
    [(("name", "labels"), "has no column file; it has name"), (("file",), "has no labels")],
)
def test_a_table_without_its_columns_is_refused(tmp_path, header, message):
    (tmp_path / "t").mkdir()
    write_csv(tmp_path / "t" / "labels.csv", [header, ["r0.npy", "a"][: len(header)]])
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t")


def test_scored_codes_are_classes_and_the_two_of_a_pair_are_one(tmp_path):
    codes = {
        "g1/A1": "426783006",
        "g1/A2": "713427006,426783006",
        "g2/A3": "59118001",
        "g2/A4": "164889003,164873001",
        "g2/A5": "999,426783006",
        "A6": "164889003",
    }
    data = load(challenge_folder(tmp_path / "ch", codes))
    assert data.classes == ["atrial fibrillation", "right bundle branch block", "sinus rhythm"]
    assert data.codes == ["164889003", "713427006|59118001", "426783006"]
    found = labels_of(data)
    assert found["g2/A3"] == {"right bundle branch block"}
    assert found["g1/A2"] == {"right bundle branch block", "sinus rhythm"}
    assert found["g2/A4"] == {"atrial fibrillation"}
    assert "left ventricular hypertrophy (164873001) 1" in told(data)
    assert "1 unknown codes are no classes; most frequent: 999 1" in told(data)


def test_classes_are_named_by_abbreviation_code_or_name_in_the_order_given(tmp_path):
    codes = {f"A{i}": "426783006,164889003,164873001,164884008" for i in range(4)}
    folder = challenge_folder(tmp_path / "ch", codes)
    data = load(folder, labels=["164873001", "NSR", "Atrial Fibrillation", "sinus rhythm", "164884008"])
    assert data.classes[1:3] == ["sinus rhythm", "Atrial Fibrillation"] and len(data.classes) == 4
    assert data.codes == ["164873001", "426783006", "164889003", "164884008"]
    assert data.labels.all()


def test_classes_go_by_any_of_their_names_where_the_data_has_none_of_its_own(tmp_path):
    labels = ("Sinus rhythm", "Atrial fibrillation", "Sinus rhythm;LBBB")
    folder = table_folder(tmp_path / "t", rows(12, labels))
    data = load(folder, labels=["sinus rhythm", "AF", "733534002|164909002"])
    assert data.classes == ["sinus rhythm", "AF", "733534002|164909002"]
    assert data.labels.sum(0).tolist() == [8, 4, 4]
    twice = table_folder(tmp_path / "twice", rows(12, ("LBBB", "complete left bundle branch block")))
    assert load(twice).labels.sum(0).tolist() == [6, 6], "what the data tells apart stays apart"
    assert load(twice, labels=["LBBB"]).labels.sum(0).tolist() == [6]
    assert load(twice, labels=["lbbb"]).labels.sum(0).tolist() == [12]


def test_a_test_folder_may_have_other_names_of_the_classes(tmp_path):
    train = table_folder(tmp_path / "t", rows(12, ("Sinus rhythm", "Atrial fibrillation")))
    codes = {"A1": "426783006", "A2": "164889003,426783006", "A3": "164889003"}
    for seed, (name, code) in enumerate(codes.items()):
        wfdb_record(tmp_path / "ch" / name, wave(50 + seed), comments=[f"Dx: {code}"])
    data = load(train, test_path=str(tmp_path / "ch"))
    assert data.classes == ["Atrial fibrillation", "Sinus rhythm"]
    (fold,) = data.folds
    assert data.labels[fold.test].tolist() == [[False, True], [True, True], [True, False]]


def test_the_split_is_the_same_for_all_choices_of_classes(tmp_path):
    labels = [
        ";".join(name for k, name in enumerate("abcd") if (i * 7 + k) % (k + 2) == 0) for i in range(40)
    ]
    folder = table_folder(tmp_path / "t", [[f"r{i}.npy", f"p{i}", labels[i]] for i in range(40)])
    whole, part = load(folder, folds=4), load(folder, folds=4, labels=["D"])
    assert whole.classes == ["a", "b", "c", "d"] and part.classes == ["D"]
    for one, other in zip(whole.folds, part.folds, strict=True):
        assert np.array_equal(one.test, other.test) and np.array_equal(one.validation, other.validation)


def test_records_that_leave_are_not_counted_for_the_classes(tmp_path):
    train = table_folder(tmp_path / "train", rows(12, ("a", "a", "b")))
    test = table_folder(tmp_path / "test", [["x.npy", "q", "a"]])
    np.save(test / "x.npy", wave(2))  # one of the four with b
    data = load(train, test_path=str(test), least=4)
    assert data.classes == ["a"] and "no classes: b 3" in told(data)


def test_a_class_without_records_is_refused_with_near_names(tmp_path):
    folder = challenge_folder(tmp_path / "ch", dict.fromkeys(("A1", "A2"), "426783006"))
    with pytest.raises(ConfigError, match=r"no records with 'LAD'; nearest: sinus rhythm"):
        load(folder, labels=["LAD"])
    with pytest.raises(ConfigError, match=r"no records with 'sinus rythm'; nearest: sinus rhythm"):
        load(folder, labels=["sinus rythm"])


def test_rare_labels_are_no_classes_and_none_at_all_is_an_error(tmp_path):
    folder = table_folder(tmp_path / "t", rows(9, ("a", "a", "b;c")))
    data = load(folder, least=4)
    assert data.classes == ["a"] and "2 labels with fewer than 4 records are no classes: b 3, c 3" in told(
        data
    )
    assert "3 of 9 records are positive for no class" in told(data)
    with pytest.raises(DataError, match=r"no class has 7 positive records \(most: a 6"):
        load(folder, least=7)


def test_ludb_reads_its_own_table(tmp_path):
    header = [
        "ID", "Sex", "Age", "Rhythms", "Electric axis of the heart", "Conduction abnormalities", "Extrasystolies",
        "Hypertrophies", "Cardiac pacing", "Ischemia", "Non-specific repolarization abnormalities", "Other states",
    ]  # fmt: skip
    fields = [
        [i, "M\n", "56\n", ("Sinus rhythm", "Atrial fibrillation")[i % 2], "", "", "", "", "", "", "", ""]
        for i in range(1, 7)
    ]
    write_csv(tmp_path / "ludb" / "ludb.csv", [header, *fields])
    for i in range(1, 6):
        wfdb_record(tmp_path / "ludb" / "data" / str(i), wave(i, rate=500), 500)
    data = load(tmp_path / "ludb")
    assert data.names == data.patients == [*"12345"]
    assert data.classes == ["Atrial fibrillation", "Sinus rhythm"] and data.labels[:, 0].tolist() == [
        1,
        0,
        1,
        0,
        1,
    ]
    assert data.signals[0].shape == (12, 200) and "1 of the 6 records of ludb.csv are not there" in told(data)


@pytest.mark.parametrize(
    ("label_set", "classes", "size"),
    [
        ("superdiagnostic", ["MI", "NORM", "STTC"], 18),
        ("subdiagnostic", ["AMI", "IMI", "NORM", "STTC"], 18),
        ("diagnostic", ["ASMI", "IMI", "NDT", "NORM"], 18),
        ("form", ["ABQRS", "NDT"], 18),
        ("rhythm", ["AFIB", "SR"], 24),
        ("all", ["ABQRS", "AFIB", "ASMI", "IMI", "NDT", "NORM", "SR"], 24),
    ],
)
def test_label_sets_of_ptbxl_are_the_benchmarks(ptbxl, label_set, classes, size):
    data = load(ptbxl, label_set=label_set)
    assert (data.classes, data.size) == (classes, size)
    assert data.codes == (["" for _ in classes] if "sub" in label_set or "super" in label_set else classes)
    if size < 24:
        assert f"{24 - size} records left out: they have no {label_set} statement" in told(data)


def test_ptbxl_is_split_by_its_official_folds(ptbxl):
    data = load(ptbxl, label_set="all")
    (fold,) = data.folds
    place = {name: i // 2 % 10 + 1 for i, name in enumerate(data.names)}
    assert {place[data.names[i]] for i in fold.test} == {10}
    assert {place[data.names[i]] for i in fold.validation} == {9}
    assert len(fold.train) + len(fold.test) + len(fold.validation) == 24
    folds = load(ptbxl, label_set="all", folds=10).folds
    assert [{place[data.names[i]] for i in fold.test} for fold in folds] == [{k + 1} for k in range(10)]
    assert [{place[data.names[i]] for i in fold.validation} for fold in folds] == [
        {10},
        *({k} for k in range(1, 10)),
    ]


def test_ptbxl_takes_the_rate_that_is_not_below_the_wanted_one(ptbxl, tmp_path):
    assert load(ptbxl).names[0] == "records100/00000/00001_lr"
    faster = load(ptbxl, rate=250)
    assert faster.names[0] == "records500/00000/00001_hr" and faster.signals[0].shape == (12, 500)
    records = [(i + 1, i, CODES[0], 1) for i in range(4)]
    half = ptbxl_folder(tmp_path / "half", records, STATEMENTS, rates=(500,))
    data = load(half)
    assert data.names[0].endswith("_hr") and data.signals[0].shape == (12, 200)
    assert "the records of 500 Hz are taken" in told(data)


def test_a_damaged_table_of_ptbxl_is_refused_with_its_row(ptbxl):
    path = ptbxl / "ptbxl_database.csv"
    text = path.read_text()
    path.write_text(text.replace("{'NORM': 100.0, 'SR': 0.0}", "NORM", 1))
    with pytest.raises(DataError, match=r"ptbxl_database.csv: row 1, scp_codes: 'NORM' is not a dictionary"):
        load(ptbxl)
    path.write_text(text.replace(",1,records", ",11,records", 1))
    with pytest.raises(DataError, match=r"row 1, strat_fold: '11' is not a fold from 1 to 10"):
        load(ptbxl)
    (ptbxl / "scp_statements.csv").unlink()
    with pytest.raises(DataError, match=r"scp_statements.csv: cannot be read"):
        load(ptbxl)


def test_two_equal_records_do_not_cost_ptbxl_its_official_folds(ptbxl):
    for ending in ("hea", "dat"):  # of the first record, in fold 1, and of patient 9, in 10
        text = (ptbxl / f"records100/00000/00001_lr.{ending}").read_bytes()
        (ptbxl / f"records100/00000/00019_lr.{ending}").write_bytes(text.replace(b"00001_lr", b"00019_lr"))
    data = load(ptbxl, label_set="all")
    (fold,) = data.folds
    tested = {data.names[i][-8:] for i in fold.test}
    assert tested == {"00019_lr", "00020_lr"} and len(fold.validation) == 2 and len(fold.train) == 18
    assert "2 records are not learned from" in told(data) and "10 is tested, 9 validated on" in told(data)


def test_bad_records_are_left_out_with_a_line_each_kind(tmp_path):
    folder = table_folder(tmp_path / "t", rows(10))
    np.save(folder / "r0.npy", np.zeros((12, 200)))
    np.save(folder / "r1.npy", wave(1, seconds=0.5))
    np.save(folder / "r2.npy", wave(2, seconds=0.7))
    (folder / "r3.npy").write_bytes(b"")
    data = load(folder)
    assert data.names == [f"r{i}" for i in range(4, 10)]
    assert "r0: left out: no lead has a signal" in told(data)
    assert "2 records: left out: it lasts 0.5 s, less than 1 s, such as r1" in told(data)
    assert "r3: left out: is empty" in told(data)
    for i in range(4, 10):
        (folder / f"r{i}.npy").write_bytes(b"")
    with pytest.raises(DataError, match="no usable record"):
        load(folder)


def test_a_folder_of_no_layout_is_told_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        load(tmp_path / "gone")
    wfdb_record(tmp_path / "bare" / "x", wave(0), comments=["Age: 3"])
    with pytest.raises(
        DataError, match=r"neither ptbxl_database.csv, nor ludb.csv, nor labels.csv .* line Dx:"
    ):
        load(tmp_path / "bare")


def test_records_that_the_test_folder_has_too_are_not_learned_from(tmp_path):
    train = table_folder(tmp_path / "train", rows(10))
    test = table_folder(
        tmp_path / "test", [["x0.npy", "q0", "a"], ["x1.npy", "p4", "b"], ["r5.npy", "q1", "b"]], first=50
    )
    np.save(test / "x0.npy", wave(0))
    data = load(train, test_path=str(test))
    assert "1 records to learn from left out: the test has the same, such as r0 (x0)" in told(data)
    assert "2 records to learn from left out: their patients are tested, such as r8" in told(data)
    (fold,) = data.folds
    assert [data.names[i] for i in fold.test] == ["x0", "x1", "r5#2"]
    learned = [data.names[i] for i in sorted([*fold.train, *fold.validation])]
    assert learned == [f"r{i}" for i in range(1, 8)]
    with pytest.raises(DataError, match="no record is left to learn from"):
        load(train, test_path=str(train))


def test_a_test_folder_alone_is_tested_whole_with_the_classes_that_are_named(tmp_path):
    test = table_folder(tmp_path / "test", rows(4))
    data = load_data(DataConfig(test_path=str(test), labels=["b", "c"], input_rate=100, folds=5))
    assert data.classes == ["b", "c"] and data.labels.sum(0).tolist() == [2, 0]
    (fold,) = data.folds
    assert fold.test.tolist() == [0, 1, 2, 3] and not len(fold.train) and not len(fold.validation)
    assert "no record to test on is positive for: c" in told(data)


def test_equal_records_of_two_patients_stay_on_one_side(tmp_path):
    folder = table_folder(tmp_path / "t", [[f"r{i}.npy", f"p{i}", "a"] for i in range(20)])
    np.save(folder / "r19.npy", wave(0))
    data = load(folder)
    assert data.patients[0] == data.patients[19] == "p0"
    assert "1 records are the same as one of another patient" in told(data)


def test_a_pattern_names_the_patient(tmp_path):
    folder = challenge_folder(tmp_path / "ch", {f"P{i // 3}_{i}": "426783006" for i in range(12)})
    assert load(folder, patient=r"P\d+").patients == [f"P{i // 3}" for i in range(12)]
    with pytest.raises(ConfigError, match=r"--data.patient 'Q' finds nothing in the name P0_0"):
        load(folder, patient="Q")


def test_a_pattern_for_other_names_is_not_used_in_a_test_folder(tmp_path):
    folder = challenge_folder(tmp_path / "ch", dict.fromkeys(("A1", "A2", "P7_1"), "426783006"))
    options = {"labels": ["NSR"], "patient": r"P\d+"}
    data = load_data(DataConfig(test_path=str(folder), **options))
    assert data.patients == ["A1", "A2", "P7_1"]
    assert r"--data.patient 'P\\d+' finds nothing in 2 of 3 names, such as A1: not used" in told(data)
    with pytest.raises(ConfigError, match="is not a regular expression"):
        load_data(DataConfig(test_path=str(folder), labels=["NSR"], patient="("))


def test_leads_rate_and_missing_leads_follow_the_options(tmp_path):
    folder = tmp_path / "t"
    table_folder(folder, rows(6))
    for i in range(6):
        wfdb_record(folder / f"w{i}", wave(i, rate=250)[:3], 250)
    write_csv(folder / "labels.csv", [["file", "labels"], *([f"w{i}.hea", "a"] for i in range(6))])
    data = load(folder, leads=["V1", "aVF", "II"], rate=50)
    assert data.signals[0].shape == (3, 100) and data.present.tolist() == [[False, True, True]] * 6
    assert not data.signals[0][0].any()
    assert "6 records under" in told(data)
    with pytest.raises(DataError, match=r"no usable record; .*no lead V1"):
        load(folder, leads=["V1", "II"], missing_leads="drop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_share": 1.0}, "--data.test_share 1.0"),
        ({"validation_share": 1.0}, "--data.validation_share 1.0"),
        ({"rate": 5}, "--data.rate 5 must lie between 20 and 5000"),
        ({"input_rate": 0.0}, "--data.input_rate 0.0"),
        ({"least": 0}, "--data.least 0"),
        ({"labels": []}, "--data.labels is an empty list"),
        ({"folds": 1}, "--data.folds 1"),
        ({"path": "x", "folds": 3, "test_path": "y"}, "--data.folds and --data.test_path exclude"),
        ({"name": "ptbxl", "table": "a.csv", "path": "x"}, "--data.table is not for --data.name ptbxl"),
        ({"name": "ludb"}, "--data.name ludb needs --data.path"),
        ({"name": "synthetic", "path": "x"}, "--data.name synthetic takes no folder"),
        ({"leads": ["II", "X9"]}, "X9"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_data(DataConfig(**options))


def test_the_digest_follows_signals_labels_and_split(tmp_path):
    folder = table_folder(tmp_path / "t", rows(12))
    first = load(folder).digest
    assert load(folder).digest == first
    assert load(folder, folds=3).digest != first
    np.save(folder / "r0.npy", wave(99))
    assert load(folder).digest != first
