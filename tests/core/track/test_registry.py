from __future__ import annotations

import pytest
from track_fakes import TASK, make_run

from core.errors import PackageError, TrackingError
from core.track import registry, store
from core.track.__main__ import main
from core.track.promotion import Policy
from core.track.pyfunc import requirements
from core.track.resolve import fetch

NAME = "skipway-fake"
DATA, OTHER = "d" * 64, "e" * 64


@pytest.fixture
def submit(tmp_path, tracking):
    """Trains, registers and decides: value, data, rescoring of the champion -> the sentence."""

    def run_one(value, digest=DATA, evaluate=None, baseline=None, promote=None, factor=2.0):
        run, package = make_run(tmp_path / "runs", tracking, factor)
        outcome = registry.register(
            run,
            package,
            TASK,
            metric="mape",
            value=value,
            digest=digest,
            baseline=baseline,
            promote=promote,
            evaluate_champion=evaluate,
        )
        run.finish()
        return outcome

    return run_one


def aliases():
    return {alias: row.version for row in registry.list_versions(NAME) for alias in row.aliases}


def test_promotion_moves_the_aliases(submit):
    assert "first champion" in submit(10.0)
    assert aliases() == {"champion": "1"}
    assert "no gain" in submit(11.0)
    assert aliases() == {"champion": "1", "challenger": "2"}
    assert "gains 20.00%" in submit(8.0)
    assert aliases() == {"champion": "3", "previous_champion": "1"}
    assert registry.list_versions(NAME)[0].tags["promotion"].startswith("promoted")


def test_the_champion_is_scored_again_on_other_data(submit):
    submit(10.0, factor=5.0)
    seen = []

    def evaluate(package):
        seen.append(package.tensors()["factor"].item())
        return 30.0

    assert "20 against the champion's 30 on the same data gains 33.33%" in submit(20.0, OTHER, evaluate)
    assert seen == [5.0]
    assert aliases()["champion"] == "2"
    # The recorded score of the same data is enough now.
    assert "gains" in submit(19.0, OTHER, lambda package: pytest.fail("was scored again"))


def test_without_a_second_score_the_champion_stays(submit):
    submit(10.0)

    def fail(package):
        raise RuntimeError("size mismatch\nfor layer 3")

    outcome = submit(1.0, OTHER, fail)
    assert outcome.endswith("could not be scored there (size mismatch)")
    assert "could not be scored there" in submit(1.0, OTHER, None)
    assert aliases() == {"champion": "1", "challenger": "3"}


def test_the_baseline_must_be_beaten(submit):
    assert "does not beat the baseline naive" in submit(10.0, baseline=("naive", 9.0))
    assert aliases() == {"challenger": "1"}
    assert submit(10.0, baseline=("naive", 9.0), promote="always").endswith("promoted: the policy is always")
    assert submit(1.0, promote="never").endswith("the policy is never")
    assert aliases() == {"champion": "2", "challenger": "3"}


def test_rollback_and_promotion_by_hand(submit):
    submit(10.0)
    with pytest.raises(TrackingError, match="no previous_champion"):
        registry.rollback(NAME)
    submit(9.0)
    submit(8.0)
    assert aliases() == {"champion": "3", "previous_champion": "2"}
    assert (
        registry.rollback(NAME) == f"{NAME} version 2 is champion again; version 3 is now previous_champion"
    )
    assert aliases() == {"champion": "2", "previous_champion": "3"}
    assert (
        registry.promote(NAME, "1") == f"{NAME} version 1 is now champion; version 2 is now previous_champion"
    )
    assert registry.promote(NAME, "champion") == f"{NAME} version 1 is the champion already"
    assert aliases() == {"champion": "1", "previous_champion": "2"}
    decision = registry.promote_if_better(TASK, "1", None, Policy())
    assert decision.reason == "not promoted: it is the champion already"


def test_unknown_names_versions_and_aliases(submit, tracking):
    submit(10.0)
    with pytest.raises(TrackingError, match=r"Did you mean 'skipway-fake'.*tasks\.fak\.train"):
        registry.promote("skipway-fak", "1")
    with pytest.raises(TrackingError, match=r"-m tasks\.super_resolution\.train"):
        registry.promote("skipway-super_resolution", "1")
    with pytest.raises(TrackingError, match="has no version 7"):
        registry.promote(NAME, "7")
    with pytest.raises(
        TrackingError, match=rf"Did you mean 'champion'.*There is models:/{NAME}@champion \(version 1\)"
    ):
        fetch(f"models:/{NAME}@champoin", tracking)
    with pytest.raises(TrackingError, match="no registered model"):
        fetch("models:/skipway-other@champion", tracking)
    with pytest.raises(TrackingError, match="cannot be fetched"):
        fetch("runs:/" + "0" * 32, tracking)
    with pytest.raises(TrackingError, match="not the address of a model"):
        fetch("models:/", tracking)
    with pytest.raises(TrackingError, match="tracking is none"):
        fetch(f"models:/{NAME}@champion", None)
    with pytest.raises(PackageError, match="there is no model at"):
        fetch("nowhere", tracking)


def test_pyfunc_predicts_with_parameters_signature_and_pins(submit, recwarn):
    submit(10.0, factor=4.0)

    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    frame = pd.DataFrame({"x": [1.0, 2.5]})
    assert model.predict(frame)["y"].tolist() == [4.0, 10.0]
    assert model.predict(frame, params={"shift": 1.0})["y"].tolist() == [5.0, 11.0]
    assert model.metadata.signature.inputs.input_names() == ["x"]
    assert model.metadata.signature.outputs.input_names() == ["y"]
    assert [entry.name for entry in model.metadata.signature.params] == ["shift"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs"):
        model.predict(pd.DataFrame({"z": [1.0]}))
    pins = requirements("fake")
    assert f"mlflow=={mlflow.__version__}" in pins
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert [str(entry.message) for entry in recwarn] == []


def test_requirements_of_a_task_with_an_extra():
    names = {pin.split("==")[0] for pin in requirements("forecasting")}
    assert {"gluonts", "torch", "safetensors"} <= names
    assert "ruff" not in names


@pytest.mark.parametrize("spelled", ["super-resolution", "super_resolution"])
def test_the_extra_of_a_task_is_found_in_both_spellings(monkeypatch, spelled):
    declared = [f'packaging; extra == "{spelled}"', 'ruff; extra == "resolution"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: declared)
    names = {pin.split("==")[0] for pin in requirements("super_resolution")}
    assert "packaging" in names
    assert "ruff" not in names


def test_commands(submit, tracking, capsys, tmp_path):
    submit(10.0, baseline=("naive", 12.5))
    submit(9.0)
    where = ["--tracking", tracking]
    assert main(["list", *where]) == 0
    table = capsys.readouterr().out
    assert "previous_champion" in table
    assert "naive 12.5" in table
    assert main(["rollback", NAME, *where]) == 0
    assert "version 1 is champion again" in capsys.readouterr().out
    assert main(["promote", NAME, "2", *where]) == 0
    assert "version 2 is now champion" in capsys.readouterr().out
    assert main(["promote", NAME, "9", *where]) == 1
    assert (
        capsys.readouterr().err == f"error: {NAME} has no version 9; see `python -m core.track list {NAME}`\n"
    )
    runs = str(tmp_path / "runs")
    assert main(["runs", runs]) == 0
    assert capsys.readouterr().out.count("FINISHED") == 2
    assert main(["sync", runs]) == 0
    assert "every run" in capsys.readouterr().out
    assert main(["stale", runs]) == 0
    assert "no stale run" in capsys.readouterr().out


def test_a_look_at_the_registry_makes_no_database(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 1
    assert "there is no tracking database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["list", "--tracking", "none"]) == 1
    assert main(["sync", "nothing"]) == 1


def test_an_empty_registry(tracking, capsys):
    assert main(["list", "--tracking", tracking]) == 0
    assert "no model is registered" in capsys.readouterr().out


def test_a_server_that_is_down_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["list", "--tracking", "http://127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: model registry at http://127.0.0.1:9: ")
    assert error.count("\n") == 1


def test_help_loads_no_heavy_library(run_python):
    code = (
        "import sys\nfrom core.track.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('mlflow', 'torch', 'pandas', 'rich') if name in sys.modules])"
    )
    output = run_python(code)
    assert "examples:" in output
    assert output.endswith("[]\n")


def test_the_store_stays_what_it_was(tracking):
    store.prepare(tracking)
    assert store.current() == tracking


def test_the_policy_file_decides_where_the_command_line_is_silent(submit, tmp_path, monkeypatch):
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "registry.yaml").write_text("fake: {promote: never}\n")
    monkeypatch.chdir(tmp_path)
    assert submit(1.0).endswith("the policy is never")
    assert submit(1.0, promote="always").endswith("promoted: the policy is always")
