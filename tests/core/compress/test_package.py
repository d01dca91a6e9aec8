"""Packages that hold a difference: through files, the registry, MLflow and the commands of a task."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from core.cli import main as run_task
from core.compress.__main__ import main
from core.errors import PackageError
from core.task import Packaged
from core.track import store
from core.track.package import RESERVED, load_package, save_package
from core.track.resolve import fetch
from tasks.forecasting.task import TASK

NAME = "skipway-forecasting"


def weights(seed, base=None):
    """A bias and a matrix of 30 x 40; with a base their difference has rank 2."""
    generator = torch.Generator().manual_seed(seed)
    if base is None:
        return {"w": torch.randn(30, 40, generator=generator), "b": torch.zeros(30), "n": torch.tensor(7)}
    difference = torch.randn(30, 2, generator=generator) @ torch.randn(2, 40, generator=generator)
    return {"w": base["w"] + 0.1 * difference, "b": base["b"] + 1, "n": torch.tensor(9)}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Packages ``base``, ``tuned`` and ``other`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    base = weights(0)
    other = weights(5) | {"b": torch.ones(30), "n": torch.tensor(8)}
    for name, tensors in {"base": base, "tuned": weights(1, base), "other": other}.items():
        save_package(tmp_path / name, Packaged({"kind": 1}, tensors, {"classes": [name]}), "toy")
    return tmp_path


def shrink(*words):
    return main(["shrink", *words, *(() if "--tracking" in words else ("--tracking", "none"))])


# ---------------------------------------------------------------- folders


def test_a_shrunk_package_loads_as_the_model_did(folders, capsys):
    assert shrink("--model", "tuned", "--base", "base", "--rank", "2", "--output", "small") == 0
    text = capsys.readouterr().out
    assert "4,928 bytes" in text, "4 x (30 x 40 + 30) + 8"
    assert "688 bytes" in text, "4 x (2 x (30 + 40) + 30) + 8"
    assert "14.0 %" in text
    small, tuned = load_package(folders / "small"), load_package(folders / "tuned")
    restored, expected = small.tensors(), tuned.tensors()
    assert set(restored) == set(expected)
    assert torch.equal(restored["n"], expected["n"]) and torch.equal(restored["b"], expected["b"])
    difference = (restored["w"] - expected["w"]).abs().max().item()
    assert difference < 1e-6
    assert small.metadata["lowrank"]["difference"] == pytest.approx(difference)
    assert (small.config, small.metadata["classes"]) == (tuned.config, ["tuned"])
    sizes = [(folders / name / "weights.safetensors").stat().st_size for name in ("tuned", "small")]
    assert sizes[0] - sizes[1] == pytest.approx(4928 - 688, abs=200)


def test_a_base_that_is_gone_or_changed_is_one_line(folders):
    shrink("--model", "tuned", "--base", "base", "--rank", "2", "--output", "small")
    small = load_package(folders / "small")
    shutil.rmtree(folders / "base")
    with pytest.raises(
        PackageError, match=r"small holds only the difference from .*base.*there is no model at"
    ):
        small.tensors()
    shutil.copytree(folders / "other", folders / "base")
    with pytest.raises(
        PackageError, match=r"holds other weights now, SHA-256 \w{12} and not \w{12}"
    ) as caught:
        small.tensors()
    assert "\n" not in str(caught.value)


def test_damaged_metadata_of_the_base_is_one_line(folders):
    shrink("--model", "tuned", "--base", "base", "--rank", "2", "--output", "small")
    path = folders / "small" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base": "gone"}))
    with pytest.raises(PackageError, match="`base` lacks model or weights_sha256"):
        load_package(folders / "small").tensors()


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--model", "tuned", "--base", "base", "--rank", "2"], 2, "give --output DIR, --register or both"),
        (["--model", "tuned", "--base", "base", "--rank", "0", "--output", "x"], 2, "rank of a low-rank"),
        (["--model", "tuned", "--base", "nothing", "--output", "x"], 1, "there is no model at"),
        (["--model", "base", "--base", "base", "--output", "x"], 2, "hold the same weights"),
        (["--model", "other", "--base", "base", "--output", "x"], 2, "give a smaller --rank"),
        (
            ["--model", "tuned", "--base", "small", "--rank", "1", "--output", "x"],
            1,
            "is a difference itself",
        ),
        (["--model", "tuned", "--base", "apart", "--output", "x"], 1, "is a model of the task toy"),
        (["--model", "tuned", "--base", "base", "--register"], 2, "--register needs a tracking store"),
        (["--model", "models:/a/1", "--base", "base", "--output", "x"], 1, "but tracking is none"),
        (["--model", "tuned", "--base", "base", "--output", "."], 2, "is no folder for a package"),
    ],
)
def test_user_errors_are_one_line(words, code, expected, folders, capsys):
    shrink("--model", "tuned", "--base", "base", "--rank", "2", "--output", "small")
    save_package(folders / "apart", Packaged({}, weights(0)), "another")
    capsys.readouterr()
    assert shrink(*words) == code
    said = capsys.readouterr().err
    assert expected in said
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not (folders / "x").exists()


def test_help_loads_no_heavy_library(run_python):
    code = (
        "import sys\nfrom core.compress.__main__ import main\n"
        "try:\n    main(['shrink', '--help'])\nexcept SystemExit: pass\n"
        "names = ('mlflow', 'torch', 'pandas', 'rich', 'torch_pruning')\n"
        "print([name for name in names if name in sys.modules])"
    )
    output = run_python(code)
    assert "examples:" in output and "--base models:/skipway-forecasting/1 --rank 8" in output
    assert output.endswith("[]\n")


def test_the_package_exports_its_functions_lazily(run_python):
    code = (
        "import sys, core.compress as c; from core.compress import encode, prune_variance, prune_channels\n"
        "assert callable(encode) and not hasattr(c, 'nothing'); print('torch_pruning' in sys.modules)"
    )
    assert run_python(code).strip() == "False"


# ---------------------------------------------------------------- the forecasting task and the registry


@pytest.fixture
def trained(tmp_path, monkeypatch, tracking):
    """A tiny forecaster that is version 1 and champion, and the folder of one that differs by rank 1."""
    monkeypatch.chdir(tmp_path)
    rows = [
        f"{name},{2010 + t // 12}-{t % 12 + 1:02d}-01,{level + t + 5 * (t % 12)}"
        for name, level in (("a", 10), ("b", 20), ("c", 300))
        for t in range(60)
    ]
    (tmp_path / "sales.csv").write_text("\n".join(["unique_id,ds,y", *rows]) + "\n")
    options = ["--data.path=sales.csv", "--data.horizon=3", "--model.lookbacks=[2]", "--model.losses=[smape]"]
    options += ["--model.blocks=1", "--model.width=16", "--train.steps=3", "--train.batch_size=8"]
    options += ["--train.tune_allocator=false", "--promote=always", f"--tracking={tracking}"]
    assert run_task(TASK, "train", options) == 0
    package = load_package(fetch(f"models:/{NAME}@champion", tracking))
    generator = torch.Generator().manual_seed(0)
    tensors = package.tensors()
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            rows, columns = tensor.numel() // tensor.shape[-1], tensor.shape[-1]
            change = torch.randn(rows, 1, generator=generator) @ torch.randn(1, columns, generator=generator)
            tensors[name] = tensor + 0.01 * change.reshape(tensor.shape)
    metadata = {key: package.metadata[key] for key in package.metadata if key not in RESERVED}
    save_package(tmp_path / "tuned", Packaged(package.config, tensors, metadata), "forecasting")
    return tracking


def scores(folder, *words):
    assert run_task(TASK, "evaluate", [*words, f"--output={folder}"]) == 0
    return json.loads((folder / "metrics.json").read_text())["metrics"]["model"]


def test_a_shrunk_forecaster_through_evaluate_the_registry_and_mlflow(trained, tmp_path, capsys, monkeypatch):
    words = ["--model", "tuned", "--base", f"models:/{NAME}@champion", "--rank", "1", "--tracking", trained]
    assert shrink(*words, "--output", "small", "--register") == 0
    text = capsys.readouterr().out
    assert f"{NAME} version 2 is the challenger" in text
    small = load_package(tmp_path / "small")
    assert small.metadata["base"]["model"] == f"models:/{NAME}/1", "an alias is pinned"
    assert small.metadata["base"]["store"] == trained

    where = f"--tracking={trained}"
    expected = scores(tmp_path / "a", "--model=tuned", where)
    for model in ("small", f"models:/{NAME}@challenger"):
        got = scores(tmp_path / "b", f"--model={model}", where)
        assert got["mase"] == pytest.approx(expected["mase"], rel=1e-4), model

    import mlflow

    for model in ("1", "2"):
        assert mlflow.pyfunc.load_model(f"models:/{NAME}/{model}") is not None
    served = mlflow.pyfunc.load_model(f"models:/{NAME}@challenger")
    frame, params = TASK.example(TASK.predictor(small))
    torch.testing.assert_close(
        torch.tensor(served.predict(frame, params=params).select_dtypes("number").to_numpy()),
        torch.tensor(TASK.serve(TASK.predictor(small), frame, params).select_dtypes("number").to_numpy()),
    )
    # Another store in use: the record of the package leads back, and the process stays where it was.
    elsewhere = store.sqlite_uri(tmp_path / "elsewhere.db")
    mlflow.set_tracking_uri(elsewhere)
    mlflow.set_registry_uri(elsewhere)
    assert small.tensors().keys() == load_package(tmp_path / "tuned").tensors().keys()
    assert store.current() == elsewhere and not (tmp_path / "elsewhere.db").exists()


def test_registering_needs_a_registered_base(folders, tracking, capsys):
    words = ["--model", "tuned", "--base", "base", "--rank", "2", "--register", "--tracking", tracking]
    assert shrink(*words) == 2
    said = capsys.readouterr().err
    assert "is a folder of this machine" in said and said.count("\n") == 1
    assert not (folders / "runs").exists()
