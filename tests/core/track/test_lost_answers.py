"""A store that did what it was asked, but whose answer never came; and two who write to a server at once."""

from __future__ import annotations

import contextlib
import threading

import mlflow
import pytest
from track_fakes import TASK, make_run

from core.track import registry, store
from core.track.run import Run
from core.track.sync import sync

NAME = "skipway-fake"


@pytest.fixture
def lose_answer(monkeypatch):
    """The next call of a client's method is carried out (unless told otherwise), and then the connection breaks."""

    def lose(method, done=True):
        original = getattr(mlflow.MlflowClient, method)

        def broken(self, *arguments, **options):
            monkeypatch.setattr(mlflow.MlflowClient, method, original)
            if done:
                original(self, *arguments, **options)
            raise ConnectionError("Connection refused")

        monkeypatch.setattr(mlflow.MlflowClient, method, broken)

    return lose


@pytest.mark.parametrize(
    ("method", "done"),
    [
        ("create_run", True),
        ("create_logged_model", True),
        ("log_model_artifacts", False),
        ("finalize_logged_model", True),
        ("create_model_version", True),
        ("set_registered_model_alias", False),
    ],
)
def test_nothing_is_doubled_when_an_answer_is_lost(tracking, tmp_path, lose_answer, method, done):
    lines = []
    store.prepare(tracking)
    lose_answer(method, done)
    run, package = make_run(tmp_path, tracking, say=lines.append)
    run.log_metrics({"test/mape": 1.0, "system/load": 0.5}, 0)
    registry.register(run, package, TASK, metric="mape", value=1.0, digest="d" * 64)
    run.finish()
    assert len(lines) == 1
    (outcome,) = sync(tmp_path)
    assert outcome.ok, outcome.text

    client = mlflow.MlflowClient()
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert found.info.status == "FINISHED"
    (model,) = client.search_logged_models([found.info.experiment_id])
    assert model.status == "READY"
    assert [(metric.key, metric.value) for metric in model.metrics] == [("test/mape", 1.0)]
    assert len(found.outputs.model_outputs) == 1
    (version,) = registry.list_versions(NAME)
    assert version.aliases == ["champion"]
    assert mlflow.pyfunc.load_model(f"models:/{NAME}@champion").unwrap_python_model()


def register_three(tracking, folder):
    """Three versions with errors of 9, 5 and 3; the first one is the champion."""
    store.prepare(tracking)
    for value in (9.0, 5.0, 3.0):
        run, package = make_run(folder, tracking)
        mode = "always" if value == 9.0 else "never"
        registry.register(run, package, TASK, metric="mape", value=value, digest="d" * 64, promote=mode)
        run.finish()


def test_two_who_read_the_same_champion_end_with_the_better_one(tracking, tmp_path, monkeypatch):
    """Ann decides, then Bob with the better model decides and writes, then Ann writes."""
    register_three(tracking, tmp_path)
    monkeypatch.setattr(store, "sqlite_path", lambda uri: None)  # as on a server: no lock, and a second look
    monkeypatch.setattr(store, "exclusive", lambda uri: contextlib.nullcontext())
    ann_decided, bob_wrote, ann_wrote = threading.Event(), threading.Event(), threading.Event()
    original = registry._make_champion

    def make_champion(client, name, version):
        if version == "2" and not ann_wrote.is_set():
            ann_decided.set()
            bob_wrote.wait()
        return original(client, name, version)

    def sleep(seconds):
        if threading.current_thread() is bob:
            bob_wrote.set()
            ann_wrote.wait()
        else:
            ann_wrote.set()
            bob.join()

    monkeypatch.setattr(registry, "_make_champion", make_champion)
    monkeypatch.setattr(registry.time, "sleep", sleep)
    reasons = {}

    def promote_bob():
        ann_decided.wait()
        reasons["bob"] = registry.promote_if_better(TASK, "3", None).reason

    bob = threading.Thread(target=promote_bob)
    bob.start()
    reasons["ann"] = registry.promote_if_better(TASK, "2", None).reason
    bob.join()
    aliases = mlflow.MlflowClient().get_registered_model(NAME).aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {
        "champion": "3",
        "previous_champion": "2",
        "challenger": "2",
    }
    assert reasons["bob"].startswith("promoted: mape 3 against the champion's 5")
    assert reasons["ann"].startswith("not promoted: mape 5 against the champion's 3")


def test_a_champion_that_changed_since_the_decision_is_compared_with_again(tracking, tmp_path, monkeypatch):
    """Ann decides against the old champion; before she writes, Bob's better model has become champion."""
    register_three(tracking, tmp_path)
    decide = registry.decide

    def decide_late(challenger, champion, policy):
        decision = decide(challenger, champion, policy)
        if champion is not None and champion.value == 9.0:
            registry._make_champion(mlflow.MlflowClient(), NAME, "3")
        return decision

    monkeypatch.setattr(registry, "decide", decide_late)
    reason = registry.promote_if_better(TASK, "2", None).reason
    assert reason.startswith("not promoted: mape 5 against the champion's 3")
    aliases = mlflow.MlflowClient().get_registered_model(NAME).aliases
    assert (str(aliases["champion"]), str(aliases["previous_champion"])) == ("3", "1")


@pytest.mark.parametrize(
    ("refusals", "code", "calls"), [(2, "BAD_REQUEST", 3), (9, "BAD_REQUEST", 5), (1, "X", 1)]
)
def test_what_two_write_at_once_is_written_again(refusals, code, calls):
    """The database of a server refuses the second of two inserts, and an update of what another has deleted."""
    made = []

    def write():
        made.append(1)
        if len(made) <= refusals:
            error = mlflow.exceptions.MlflowException("(psycopg2.errors.UniqueViolation) duplicate key value")
            error.error_code = code
            raise error

    with contextlib.nullcontext() if calls == 3 else pytest.raises(mlflow.exceptions.MlflowException):
        store.repeated(write)
    assert len(made) == calls


def test_a_challenger_whose_alias_another_took_away_gets_it_back(tracking, tmp_path, monkeypatch):
    store.prepare(tracking)
    for value in (5.0, 9.0):
        run, package = make_run(tmp_path, tracking)
        registry.register(run, package, TASK, metric="mape", value=value, digest="d" * 64)
        run.finish()
    client = mlflow.MlflowClient()
    monkeypatch.setattr(store, "sqlite_path", lambda uri: None)
    monkeypatch.setattr(
        registry.time, "sleep", lambda seconds: client.delete_registered_model_alias(NAME, "challenger")
    )
    assert not registry.promote_if_better(TASK, "2", None).promote
    aliases = client.get_registered_model(NAME).aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "1", "challenger": "2"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("401 != 200. Response body: 'You are not authenticated. Please see", "refuses the login of ann"),
        ("403 != 200. Response body: 'Permission denied'", "does not let ann do this"),
        ("403 != 200. Response body: 'Invalid Host header - possible DNS", "--allowed-hosts must list"),
    ],
)
def test_refusals_of_a_server_say_what_to_do(monkeypatch, answer, words):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    error = Exception(f"API request to endpoint /api/x failed with error code {answer}")
    assert words in store.brief(error)


def test_a_run_that_never_asked_is_not_searched(tracking, tmp_path, monkeypatch):
    store.prepare(tracking)
    monkeypatch.delattr(mlflow.MlflowClient, "search_runs")
    lines = []
    run = Run.create("fake", tmp_path, tracking, lines.append)
    run.start()
    run.finish()
    assert lines == []
