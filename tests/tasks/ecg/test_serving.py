"""Findings of files and requests."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from peak_network import CLASSES, PeakNet, beats, peak_classifier, settings, small_data

from core.errors import ConfigError, DataError
from tasks.ecg import printing
from tasks.ecg.classifier import Classifier
from tasks.ecg.config import LEADS, AugmentConfig, EcgPredictConfig
from tasks.ecg.printing import explain
from tasks.ecg.remarks import training_records
from tasks.ecg.serving import example_request, predict_files, serve_frame

COLUMNS = ["file", "findings", "notes", *CLASSES]
TALL, LOW = (2.0, 0.4), (0.4, 0.4)


def write(path, heights=TALL, samples=1000, leads=LEADS, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = beats(heights, samples)[[LEADS.index(lead) for lead in leads]]
    np.savez(path, **({"signal": signal, "rate": 100, "leads": np.array(leads), "units": "mV"} | fields))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    write(root / "a.npz")
    write(root / "b" / "both.npz", (2.0, 3.0))
    write(root / "c.npz", LOW)
    write(root / "d.npz", leads=LEADS[:2])
    write(root / ".hidden.npz")
    table = pd.DataFrame(beats(TALL).T, columns=list(LEADS))
    table.insert(0, "time", np.arange(1000) / 100)
    table.to_csv(root / "c.csv", index=False)
    (root / "labels.csv").write_text("file,labels\na,x\n")
    (root / "notes.txt").write_text("x")
    return root


def run(classifier, source, output, **options):
    options = {"page": "none"} | options
    return predict_files(classifier, EcgPredictConfig(input=str(source), output=str(output), **options))


def test_a_folder(folder, tmp_path, capsys):
    target = tmp_path / "new" / "out.csv"
    assert run(peak_classifier(), folder, target) == []
    table = pd.read_csv(target, keep_default_na=False)
    assert table.columns.tolist() == COLUMNS
    assert table["file"].tolist() == ["a.npz", "b/both.npz", "c.csv", "c.npz", "d.npz"]
    assert table["findings"].tolist() == ["tall I", "tall V6;tall I", "tall I", "", "tall I"]
    assert table["notes"][0] == "" and "V6" in table["notes"][4]
    assert table["tall I"][0] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-3)
    printed = capsys.readouterr().out
    assert "tall V6; tall I" in printed and "none" in printed and f"written    {target}: 5 records" in printed
    assert printed.rstrip().endswith("Research software: not a medical device.")
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]


def test_the_result_of_an_earlier_run_is_no_record(folder):
    for _ in range(2):
        assert run(peak_classifier(), folder, folder) == []
        assert len(pd.read_csv(folder / "findings.csv")) == 5


def test_thresholds_are_those_of_the_training_or_one_for_all(folder, tmp_path):
    target = tmp_path / "out.csv"
    run(peak_classifier(thresholds=[0.99, 0.01, 0.5]), folder / "a.npz", target)
    assert pd.read_csv(target)["findings"].tolist() == ["tall V6"]
    run(peak_classifier(thresholds=[0.99, 0.01, 0.5]), folder / "a.npz", target, threshold=0.0)
    assert pd.read_csv(target)["findings"].tolist() == ["tall I;tall V6;never"]


def test_pages_lie_beside_the_table(folder, tmp_path, capsys):
    target = tmp_path / "out" / "f.csv"
    assert run(peak_classifier(), folder, target, page="png") == []
    pages = {path.relative_to(target.parent).as_posix() for path in target.parent.rglob("*.png")}
    assert pages == {"a.png", "b/both.png", "c.csv.png", "c.npz.png", "d.png"}
    assert "5 pages (.png)" in capsys.readouterr().out
    run(peak_classifier(), folder / "a.npz", target, page="pdf", finding="never")
    assert (target.parent / "a.pdf").read_bytes().startswith(b"%PDF")


def test_what_is_doubtful_stands_on_the_console_and_the_page(folder, tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        printing, "draw_page", lambda *given, **named: drawn.append((given, named)) or Figure()
    )
    for name in ("e", "f"):
        write(folder / f"{name}.npz", leads=[lead for lead in LEADS if lead not in ("aVF", "V6")])
    classifier = peak_classifier(records={"always": list(LEADS), "seconds": 10.0})
    target = tmp_path / "out.csv"
    run(classifier, folder, target, page="png")
    notes = ["lead aVF from I, II", "no lead V6: zeros", "the model never learned from a record without V6"]
    table = pd.read_csv(target, keep_default_na=False)
    assert table["notes"][5] == ";".join(notes) and table["notes"][0] == ""
    said = capsys.readouterr().out
    assert f"note       2 records: {notes[2]}, such as e.npz\n" in said
    assert "note       d.npz: the model never learned from a record without V1, V2, V3, V4, V5, V6\n" in said
    (given, named) = drawn[5]
    assert given[4].endswith("\n" + "; ".join(notes)) and named["derived"] == ["aVF"]


def test_a_record_of_another_length_is_noted(tmp_path):
    target = tmp_path / "out.csv"

    def notes_of(samples, **metadata):
        write(tmp_path / "a.npz", samples=samples)
        pool = metadata.pop("pool", None)
        run(peak_classifier(**metadata), tmp_path / "a.npz", target, pool=pool)
        return pd.read_csv(target, keep_default_na=False)["notes"][0]

    assert notes_of(249) == "shorter than the model's window of 2.5 s: zeros follow"
    assert notes_of(249, records={"seconds": 2.0}) == "" == notes_of(250) == notes_of(2000)
    assert notes_of(2001).startswith("lasts 20 s, and records of the training 10 s: the maximum over so many")
    assert notes_of(2001, pool="mean") == "" == notes_of(6000, records={"seconds": 30.0})
    with pytest.raises(DataError, match=r"^a: it lasts 0\.5 s, less than 1 s$"):
        notes_of(50)


def test_a_package_knows_the_records_that_it_was_trained_on():
    data = small_data()
    expected = {"always": list(LEADS[:-1]), "seconds": 6.0}  # the third record, of the training, has no V6
    assert training_records(data, AugmentConfig()) == expected
    assert training_records(data, AugmentConfig(lead_dropout=0.1)) == expected | {"always": []}
    data.folds = [replace(data.folds[0], train=np.array([0, 1]))]
    assert training_records(data, AugmentConfig())["always"] == list(LEADS)


def test_a_model_of_synthetic_records_says_so(folder, tmp_path, capsys):
    run(peak_classifier(synthetic=True), folder / "a.npz", tmp_path / "a.csv")
    assert "not a medical device. The model was trained on synthetic records." in capsys.readouterr().out


def test_bad_files_are_left_out(folder, tmp_path, capsys):
    (folder / "empty.npz").touch()
    (folder / "text.csv").write_text("some,words\nx,y\n")
    (folder / "alone.mat").write_bytes(b"x" * 100)
    (folder / "lost.hea").write_text("lost 1 100 1000\nlost.dat 16 1000/mV 16 0 0 0 0 I\n")
    write(folder / "loud.npz", units="V")
    target = tmp_path / "out.csv"
    failures = run(peak_classifier(), folder, target)
    assert [n for n in ("empty", "text", "alone", "lost", "loud") if n not in str(failures)] == []
    assert len(failures) == 5 and all(str(folder) in line and "\n" not in line for line in failures)
    assert len(pd.read_csv(target)) == 5
    with pytest.raises(DataError, match=r"alone\.mat"):
        run(peak_classifier(), folder, target, strict=True)
    with pytest.raises(DataError, match=r"empty\.npz"):
        run(peak_classifier(), folder / "empty.npz", target)
    assert len(pd.read_csv(target)) == 5  # what was there stays


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "a.txt"}, r"^--output .*a\.txt: write a \.csv file$"),
        ({"output": "taken/a.csv"}, r"^--output .*taken cannot be made a folder"),
        ({"finding": "tall VI"}, r"^--finding 'tall VI' is no class of the model\. Did you mean 'tall"),
        ({"finding": "zzz"}, r"no class of the model\. Classes: tall I, tall V6, never$"),
    ],
)
def test_wrong_options(folder, tmp_path, options, message):
    (tmp_path / "taken").touch()
    options = {"output": "a.csv"} | options
    options["output"] = str(tmp_path / options["output"])
    with pytest.raises(ConfigError, match=message):
        run(peak_classifier(), folder, **options)
    assert not list(tmp_path.glob("*.csv"))


def test_a_folder_without_records(tmp_path):
    (tmp_path / "labels.csv").write_text("file\n")
    with pytest.raises(DataError, match=r"no records in this folder; give one with files of \.hea"):
        run(peak_classifier(), tmp_path, tmp_path / "a.csv")


def test_a_class_may_be_named_as_a_column(folder, tmp_path):
    classifier = Classifier(settings(classes=["notes", "file", "x"]), {"model": PeakNet()}, {})
    run(classifier, folder / "a.npz", tmp_path / "a.csv", page="png")
    table = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert table.columns.tolist() == ["file", "findings", "notes", "notes (class)", "file (class)", "x"]
    assert table["file"].tolist() == ["a.npz"] and table["findings"].tolist() == ["notes"]


def test_the_ten_seconds_that_tell_most():
    signal = beats(LOW, 6000)
    signal[0, 4210] = 2.5
    start, strip = explain(peak_classifier(), signal, 0, None)
    assert start == int(start) and start + 2 < 42.1 < start + 8
    assert strip.shape == (6000,) and abs(strip.argmax() - 4210) < 20
    first = round(start * 100)
    assert not strip[:first].any() and not strip[first + 1000 :].any()
    assert explain(peak_classifier(), signal[:, :900], 0, None)[0] == 0


def ask(*rows, **params):
    texts = [row if isinstance(row, str) or row is None else json.dumps(row) for row in rows]
    return serve_frame(peak_classifier(), pd.DataFrame({"record": texts}), params)


def record(heights=TALL, **changes):
    return {"signal": beats(heights).round(4).tolist(), "rate": 100, "leads": list(LEADS)} | changes


def test_requests():
    plain = record()
    del plain["leads"]
    swapped = record(leads=list(reversed(LEADS)), signal=beats((0.4, 2.0))[::-1].tolist())
    answer = ask(plain, swapped, record(LOW))
    assert answer.columns.tolist() == COLUMNS[1:]
    assert answer["findings"].tolist() == ["tall I", "tall V6", ""]
    pair = record(leads=["I", "II"], signal=beats(TALL)[:2].tolist())
    assert ask(pair)["findings"].tolist() == ["tall I"]
    signal = beats(LOW)
    signal[0, 950] = 2
    late = record(signal=signal.tolist())
    assert ask(late)["tall I"][0] > 0.9 > ask(late, pool="mean")["tall I"][0]


def test_bad_requests():
    with pytest.raises(DataError, match=r"^the request needs a column 'record'"):
        serve_frame(peak_classifier(), pd.DataFrame({"a": [1]}), {})
    with pytest.raises(DataError, match=r"^the parameter pool must be max or mean, not 'sum'$"):
        ask(record(), pool="sum")
    ragged = record(signal=[[0.1, 0.2], [0.1]])
    for bad in ("no json", "[1]", None, "{}", ragged, record(rate="fast"), record(leads=3)):
        with pytest.raises(DataError, match=r"^row 1: record is not JSON text such as"):
            ask(record(), bad)
    with pytest.raises(DataError, match=r"^row 0: signal is 11 x 1000; it must be 12 leads x samples$"):
        ask(record(signal=beats()[:11].tolist()))
    with pytest.raises(DataError, match=r"^row 0: .*rate"):
        ask(record(rate=0))
    with pytest.raises(DataError, match=r"^row 0: .*mV") as error:
        ask(record(signal=(1000 * beats()).tolist()))
    assert "npz" not in str(error.value)
    with pytest.raises(DataError, match=r"^row 0: .*holds no samples"):
        ask(record(signal=[[]] * 12))
    with pytest.raises(DataError, match=r"^row 1: it lasts 0\.5 s, less than 1 s$"):
        ask(record(), record(signal=beats(TALL, 50).tolist()))


def test_the_example_request_can_be_served():
    frame, params = example_request(peak_classifier())
    json.dumps(params)
    answer = serve_frame(peak_classifier(), frame, params)
    assert len(answer) == 1 and answer["notes"].tolist() == [""]  # nothing had to be repaired
    assert example_request(peak_classifier(options={"scoring": {"pool": "mean"}}))[1] == {"pool": "mean"}
