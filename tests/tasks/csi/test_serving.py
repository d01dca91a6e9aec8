"""Files and requests in, the next reports out; programs."""

import base64
import io
import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from core.errors import ConfigError, DataError
from tasks.csi.config import CsiPredictConfig
from tasks.csi.layout import to_complex, to_real
from tasks.csi.programs import export_predictor
from tasks.csi.serving import default_output, example_request, predict_files, read_channels, serve_frame


def run(predictor, source, target, **options):
    return predict_files(predictor, CsiPredictConfig(input=str(source), output=str(target), **options))


@pytest.fixture
def history(exponentials):
    return exponentials(3, 0)[:, :, :16]


@pytest.fixture
def last(history):
    return np.repeat(history[:, :, -1:], 3, 2)


@pytest.mark.parametrize("kind_in", [".npy", ".npz", ".pt"])
@pytest.mark.parametrize("kind_out", [".npy", ".npz", ".pt"])
def test_files_of_every_kind_come_back(last_predictor, history, last, tmp_path, capsys, kind_in, kind_out):
    source, target = tmp_path / f"H{kind_in}", tmp_path / "new" / f"out{kind_out}"
    if kind_in == ".pt":
        torch.save(torch.from_numpy(history), source)
    else:
        (np.save if kind_in == ".npy" else np.savez)(source, history)
    assert run(last_predictor, source, target, batch=2) == []
    found = read_channels(target)
    assert found.dtype == np.complex64
    np.testing.assert_array_equal(found, last)
    said = capsys.readouterr().out
    assert f"written    {target}: 3 samples, 4 antennas, 3 reports, 8 subcarriers" in said
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_one_sample_comes_back_as_one_sample_and_double_precision_is_taken(
    last_predictor, history, last, tmp_path
):
    np.save(tmp_path / "H.npy", history[1].astype(np.complex128))
    run(last_predictor, tmp_path / "H.npy", tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "H_predicted.npy"), last[1])


def test_more_reports_and_other_antennas_are_said(last_predictor, exponentials, tmp_path, capsys):
    longer = exponentials(2, 1, antennas=5)
    np.save(tmp_path / "H.npy", longer)
    run(last_predictor, tmp_path / "H.npy", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy")[:, :, 0], longer[:, :, -1])
    said = capsys.readouterr().out
    assert "the last 16 of 19 reports are used" in said
    assert "5 antennas, and the model was trained with 4" in said


BAD = {
    "real": (np.ones((1, 4, 16, 8)), "holds float64 numbers; a channel is complex"),
    "flat": (np.ones((16, 8), complex), r"has shape \(16, 8\); give \(samples, antennas"),
    "empty": (np.ones((0, 4, 16, 8), complex), "is empty"),
    "wide": (np.ones((1, 4, 16, 9), complex), "has 9 subcarriers, and the model takes 8"),
    "short": (np.ones((1, 4, 15, 8), complex), "has 15 reports, and the model needs 16"),
    "nan": (np.full((1, 4, 16, 8), np.nan, complex), "sample 0 has NaN or infinite values"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_histories_are_one_line_that_names_the_file(last_predictor, tmp_path, name):
    values, message = BAD[name]
    path = tmp_path / f"{name}.npy"
    np.save(path, values)
    with pytest.raises(DataError, match=message) as caught:
        run(last_predictor, path, tmp_path / "out.npy")
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert not (tmp_path / "out.npy").exists()


def test_half_precision_is_taken(last_predictor, history, last, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        half = torch.from_numpy(history).to(torch.complex32)
    torch.save(half, tmp_path / "H.pt")
    run(last_predictor, tmp_path / "H.pt", tmp_path / "out.npy")
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, last, atol=2e-3)


def test_the_imaginary_part_of_a_conjugate_is_real_and_said_to_be(last_predictor, history, tmp_path):
    torch.save(torch.from_numpy(history).conj().imag, tmp_path / "H.pt")
    with pytest.raises(DataError, match="holds float32 numbers"):
        run(last_predictor, tmp_path / "H.pt", tmp_path / "out.npy")


def spoil(folder, history):
    np.save(folder / "ragged.npy", np.array([[1], [1, 2]], dtype=object), allow_pickle=True)
    (folder / "text.npy").write_text("no array")
    (folder / "nothing.pt").touch()
    torch.save({"a": torch.ones(1)}, folder / "state.pt")
    torch.save(torch.ones(2, 2, dtype=torch.bfloat16), folder / "half.pt")
    torch.save(torch.from_numpy(history).to_sparse(), folder / "sparse.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), folder / "quantised.pt")
    torch.save(pd.DataFrame({"a": [1]}), folder / "pickle.pt")
    np.savez(folder / "two.npz", a=history, b=history)
    (folder / "broken.npz").write_bytes(b"PK no archive")


def test_a_folder_leaves_out_what_cannot_be_read_and_truths(last_predictor, history, last, tmp_path, capsys):
    folder, target = tmp_path / "in", tmp_path / "out"
    deep = folder / "regular" / "cm_A"
    deep.mkdir(parents=True)
    torch.save(torch.from_numpy(history), deep / "H_U_hist.pt")
    torch.save(torch.from_numpy(last), deep / "H_U_pred.pt")
    np.savez(folder / "named.npz", history=history, other=np.ones(3))
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.npy").write_text("x")
    spoil(folder, history)
    failures = run(last_predictor, folder, target)
    assert len(failures) == 10 and all("\n" not in line and str(folder) in line for line in failures)
    assert any("state.pt: holds dict" in line for line in failures)
    assert any("half.pt: cannot be read as an array (Got unsupported ScalarType" in line for line in failures)
    assert any("two.npz: has the arrays a, b; call one history" in line for line in failures)
    written = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert written == ["named_predicted.npy", "regular/cm_A/H_U_hist_predicted.npy"]
    np.testing.assert_array_equal(np.load(target / written[1]), last)
    said = capsys.readouterr().out
    assert "1 file left out: _pred" in said and "notes.txt" in said
    with pytest.raises(DataError, match="broken"):
        run(last_predictor, folder, target, strict=True)


def test_outputs_that_cannot_be_written_are_refused(last_predictor, history, tmp_path):
    source = tmp_path / "H.npy"
    np.save(source, history)
    with pytest.raises(ConfigError, match="would replace the input"):
        run(last_predictor, source, source)
    with pytest.raises(ConfigError, match=r"write a file of \.npy"):
        run(last_predictor, source, tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="name a folder"):
        run(last_predictor, tmp_path, source)
    with pytest.raises(ConfigError, match="--batch 0"):
        run(last_predictor, source, tmp_path / "out.npy", batch=0)
    (tmp_path / "none").mkdir()
    (tmp_path / "H.mat").touch()
    with pytest.raises(DataError, match="no histories"):
        run(last_predictor, tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="give a file of"):
        run(last_predictor, tmp_path / "H.mat", tmp_path / "out")
    np.testing.assert_array_equal(np.load(source), history)


def test_results_go_beside_the_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_output(CsiPredictConfig(input="a/H_U_hist.pt")) == "a/H_U_hist_predicted.npy"
    assert default_output(CsiPredictConfig(input=str(tmp_path))) == f"{tmp_path}_predicted"
    assert default_output(CsiPredictConfig(input=".")) == f"{tmp_path}_predicted"
    assert default_output(CsiPredictConfig(input="/")) is None


def encoded(values):
    file = io.BytesIO()
    np.save(file, values)
    return base64.b64encode(file.getvalue()).decode()


def decoded(text):
    return np.load(io.BytesIO(base64.b64decode(text)))


def test_requests_are_answered_row_by_row(last_predictor, history, last):
    answer = serve_frame(
        last_predictor, pd.DataFrame({"history": [encoded(history), encoded(history[0])]}), {}
    )
    assert answer.columns.tolist() == ["prediction"]
    np.testing.assert_array_equal(decoded(answer["prediction"][0]), last)
    np.testing.assert_array_equal(decoded(answer["prediction"][1]), last[0])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"x": ["a"]}, "needs a column 'history'"),
        ({"history": ["!"]}, "row 0: history is not base64 text"),
        ({"history": [None]}, "row 0: history is not base64 text"),
        ({"history": [base64.b64encode(b"no array").decode()]}, "row 0: history is no .npy file"),
        ({"history": [encoded(np.ones((4, 15, 8), complex))]}, "row 0: history: has 15 reports"),
    ],
)
def test_wrong_requests_name_the_row(last_predictor, frame, message):
    with pytest.raises(DataError, match=message):
        serve_frame(last_predictor, pd.DataFrame(frame), {})


def test_the_example_can_be_asked(last_predictor):
    frame, params = example_request(last_predictor)
    assert json.loads(frame.to_json())  # as it is stored
    (answer,) = serve_frame(last_predictor, frame, params)["prediction"]
    assert decoded(answer).shape == (1, 1, 3, 8) and np.isfinite(decoded(answer)).all()


class Small(nn.Module):
    """A network with a batch norm that is folded, and a standardisation of each row."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(16, 6, 3, padding=1), nn.BatchNorm1d(6), nn.ReLU())
        self.out = nn.Conv1d(6, 3, 1)

    def forward(self, x):
        mean, deviation = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
        return self.out(self.layers((x - mean) / deviation)) * deviation + mean


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_programs_give_what_the_predictor_gives(make_predictor, tmp_path, history, format):
    torch.manual_seed(0)
    predictor = make_predictor(Small())
    (path,) = export_predictor(predictor, tmp_path, format, "csi")
    assert path == tmp_path / f"csi.{format}"
    rows = to_real(torch.from_numpy(history)).flatten(0, 1)
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found,) = session.run(["prediction"], {"history": rows.numpy()})
        metadata = session.get_modelmeta().custom_metadata_map
    else:
        extra = {"metadata.json": ""}
        found = torch.export.load(path, extra_files=extra).module()(rows).detach().numpy()
        metadata = json.loads(extra["metadata.json"])
    assert metadata["subcarriers"] == "8" and json.loads(metadata["trained_on"]) == "exponentials"
    expected = predictor.predict(history)
    np.testing.assert_allclose(to_complex(found).reshape(expected.shape), expected, atol=1e-5)
