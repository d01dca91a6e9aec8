"""Real clients on a real server: PostgreSQL and MLflow with logins, started by ``mlflow/server/local.sh``."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import track_workers
from track_fakes import TASK, make_run

from core.track import registry, store
from core.track.resolve import fetch
from core.track.run import Run
from core.track.sync import sync

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "mlflow" / "server" / "local.sh"
PROGRAMS = [
    *map(str, Path("/usr/lib/postgresql").glob("*/bin")),
    *os.environ.get("PATH", "").split(os.pathsep),
]
ADMIN = ("admin", "p@ss:w/rd %41 x")
ANN, BOB, READER = ("ann", "ann-password-1"), ("bob", "bob-password-1"), ("carl", "carl-password-1")


def missing():
    """What a server needs and is not here, or an empty string."""
    for name in ("mlflow", "Flask-WTF", "psycopg2-binary"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return name
    return "" if any(Path(folder, "initdb").exists() for folder in PROGRAMS) else "PostgreSQL"


pytestmark = pytest.mark.skipif(bool(missing()), reason=f"{missing()} is not installed")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def settings(folder, **changes):
    values = {
        "POSTGRES_PASSWORD": "p@ss:w/rd %41 x",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "any text",
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_PORT": free_port(),
        "MLFLOW_WORKERS": 1,
        **changes,
    }
    path = folder / ".env"
    path.write_text("# a comment\n" + "".join(f"{key}={value}\n" for key, value in values.items()))
    return path, values["MLFLOW_PORT"]


class Server:
    """A server in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.settings, self.port = settings(folder)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"

    def start(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [SCRIPT, self.folder / "data", self.settings],
                env={**os.environ, "PYTHON": sys.executable},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while "ready:" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)

    def kill(self):
        """Kills MLflow; the script then stops PostgreSQL and ends."""
        server = next(
            child
            for child in psutil.Process(self.process.pid).children()
            if "mlflow" in " ".join(child.cmdline())
        )
        for process in [server, *server.children(recursive=True)]:
            process.kill()
        assert self.process.wait() == 2

    def stop(self):
        self.process.terminate()
        return self.process.wait()

    def call(self, path, login=None, body=None, **headers):
        """Returns status and content of a request."""
        if login:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.uri}/{path}", data, {"Content-Type": "application/json", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ask(self, path, body):
        status, text = self.call(path, ADMIN, body)
        assert status == 200, text
        return json.loads(text or "{}")


@pytest.fixture(scope="module")
def server():
    # Not in pytest's folder, which nobody but its user may enter: as root, PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="skipway-server-"))
    folder.chmod(0o711)
    server = Server(folder)
    server.start()
    try:
        roles = "api/3.0/mlflow/roles"
        role = server.ask(f"{roles}/create", {"workspace": "default", "name": "trainer"})["role"]["id"]
        for kind in ("experiment", "registered_model"):
            grant = {"resource_type": kind, "resource_pattern": "*", "permission": "EDIT"}
            server.ask(f"{roles}/permissions/add", {"role_id": role, **grant})
        for name, password in (ANN, BOB, READER):
            server.ask("api/2.0/mlflow/users/create", {"username": name, "password": password})
            if name != READER[0]:
                server.ask(f"{roles}/assign", {"username": name, "role_id": role})
        yield server
        server.stop()
    finally:
        if server.process.poll() is None:
            server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def login(monkeypatch):
    def enter(who):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", who[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", who[1])

    return enter


def content(client, ident):
    """What an MLflow run holds, without what differs from run to run."""
    run = client.get_run(ident)
    history = {
        key: [(point.step, point.value) for point in client.get_metric_history(ident, key)]
        for key in run.data.metrics
    }
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{ident}'")
    files = sorted(entry.path for entry in client.list_artifacts(ident))
    parts = [sorted(entry.path for entry in client.list_logged_model_artifacts(m.model_id)) for m in models]
    shown = [sorted((m.key, m.value) for m in model.metrics or []) for model in models]
    outputs = len(run.outputs.model_outputs)
    return run.info.status, run.data.params, history, sorted(run.data.tags), files, parts, shown, outputs


def test_two_clients_at_once_lose_nothing_and_a_third_loads_the_champion(
    server, tmp_path, monkeypatch, login
):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{Path(__file__).parent}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["track_workers"])
    barrier, answers = context.Barrier(2), context.Queue()
    for who, value in ((ANN, 9.0), (BOB, 8.0)):
        context.Process(
            target=track_workers.train_on_server, args=(who, tmp_path, server.uri, value, barrier, answers)
        ).start()
    results = sorted(answers.get(timeout=300) for _ in range(2))
    assert [lines for _, _, lines in results] == [[], []]

    login(READER)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    package = fetch("models:/skipway-fake@champion", server.uri)
    assert registry.load_package(package).tensors()["factor"].item() == 8.0

    import mlflow

    client = mlflow.MlflowClient()
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert sorted(float(run.data.params["value"]) for run in runs) == [8.0, 9.0]
    for run in runs:
        value = float(run.data.params["value"])
        status, _, history, _, files, parts, _, outputs = content(client, run.info.run_id)
        assert status == "FINISHED"
        assert history["loss"] == [(step, step + value) for step in range(20)]
        assert history["system/load"] == [(step, 0.5) for step in range(20)]
        assert files == ["config.yaml"]
        assert ["MLmodel" in names for names in parts] == [True]
        assert outputs == 1
    versions = {float(row.tags["value"]): row for row in registry.list_versions("skipway-fake")}
    assert sorted(int(row.version) for row in versions.values()) == [1, 2]
    # Whoever came first: the other one is beaten or has stepped down. A login with EDIT may not take an alias away, so
    # that of the challenger may have stayed where it was.
    assert "champion" in versions[8.0].aliases
    assert versions[9.0].aliases in (
        ["challenger"],
        ["previous_champion"],
        ["challenger", "previous_champion"],
    )


def test_four_who_make_a_new_row_at_once_are_all_served(server, tmp_path, login):
    """Without a second try the database refuses about every second time."""
    login(ANN)
    store.prepare(server.uri)

    import mlflow

    client = mlflow.MlflowClient()
    lines = []
    runs = [Run.create("rows", tmp_path, server.uri, say=lines.append) for _ in range(4)]
    for run in runs:
        run.start()
    ident = runs[0].mlflow_run_id
    for number in range(8):
        name = f"rows-{number}"
        client.create_registered_model(name)
        versions = [
            client.create_model_version(name, f"runs:/{ident}/model", run_id=ident).version for _ in runs
        ]

        def write(run, version, name=name):
            run.log_dataset(name, 1, "d" * 64)
            run.flush()
            registry._set_alias(client, name, "x", version)

        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(write, runs, versions))
        assert client.get_registered_model(name).aliases["x"] in versions
    assert lines == []
    for run in runs:
        assert len(client.get_run(run.mlflow_run_id).inputs.dataset_inputs) == 8
        run.finish()


def test_strangers_other_hosts_and_other_pages_are_refused(server):
    path = "api/2.0/mlflow/experiments/search?max_results=1"
    assert server.call(path, READER)[0] == 200
    assert server.call(path)[0] == 401
    assert server.call(path, ("ann", "wrong"))[0] == 401
    assert server.call(path, ("nobody", "nobody-password"))[0] == 401
    assert server.call(path, READER, Host="evil.example")[0] == 403
    create = "api/2.0/mlflow/experiments/create"
    assert server.call(create, ANN, {"name": "x"}, Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    ("who", "why"),
    [(("ann", "wrong"), "refuses the login of ann"), (READER, "does not let carl do this")],
    ids=["password", "reader"],
)
def test_a_refused_login_costs_one_line_and_the_run_is_uploaded_later(server, tmp_path, login, who, why):
    login(ANN)
    run = Run.create("fake", tmp_path, server.uri)
    run.start()
    run.finish()  # there is an experiment now

    login(who)
    lines = []
    run, package = make_run(tmp_path, server.uri, say=lines.append)
    run.log_metrics({"loss": 1.0}, 0)
    outcome = registry.register(run, package, TASK, metric="mape", value=99.0, digest="d" * 64)
    run.finish()
    (line,) = lines
    assert why in line
    assert "\n" not in line
    assert "not registered yet" in outcome

    login(BOB)
    (done,) = sync(run.folder)
    assert done.ok, done.text
    assert "not promoted: mape 99" in done.text


def train(root, uri, lines, middle):
    run, package = make_run(root, uri, say=lines.append)
    run.log_params({"blocks": 4})
    run.log_dataset("set", 10, "e" * 64)
    for step in range(10):
        if step == 5:
            run.flush()
            middle()
        run.log_metrics({"loss": float(step), "system/load": 0.5}, step)
    run.log_metrics({"test/mape": 50.0}, 0)
    run.save_config("blocks: 4\n")
    outcome = registry.register(
        run, package, TASK, metric="mape", value=50.0, digest="d" * 64, promote="never"
    )
    run.finish()
    return run, outcome


def test_a_server_killed_in_the_middle_costs_one_line_and_sync_makes_the_run_whole(server, tmp_path, login):
    login(ANN)
    lines = []
    whole, outcome = train(tmp_path / "whole", server.uri, lines, middle=int)
    assert (lines, outcome.split(", ")[1]) == ([], "not promoted: the policy is never")

    cut, outcome = train(tmp_path / "cut", server.uri, lines, middle=server.kill)
    (line,) = lines
    assert "the server does not answer" in line
    assert f"python -m core.track sync {cut.folder}" in line
    assert "not registered yet" in outcome

    server.start()  # on the data that is there
    (done,) = sync(tmp_path / "cut")
    assert done.ok, done.text
    assert list(sync(tmp_path / "cut")) == []

    import mlflow

    client = mlflow.MlflowClient()
    copy = Run.open(tmp_path / "cut", "last", server.uri)
    assert content(client, copy.mlflow_run_id) == content(client, whole.mlflow_run_id)
    found = client.search_runs(["1"], f"tags.`skipway.run` = '{cut.id}'")
    assert [run.info.run_id for run in found] == [copy.mlflow_run_id]
    mine = [row for row in registry.list_versions("skipway-fake") if row.tags["run"] in (whole.id, cut.id)]
    assert [row.tags["run"] for row in mine] == [cut.id, whole.id]


def refusal(*arguments, **environment):
    done = subprocess.run(
        [SCRIPT, *arguments],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    return done.stderr.strip()


def test_the_script_refuses_in_one_line_what_it_cannot_start(tmp_path):
    data = tmp_path / "data"
    assert "local.sh FOLDER" in refusal()
    assert "cp " in refusal(data, tmp_path / "none")
    path, _ = settings(tmp_path, POSTGRES_PASSWORD="change-me")
    assert "POSTGRES_PASSWORD" in refusal(data, path)
    path, _ = settings(tmp_path, MLFLOW_AUTH_ADMIN_PASSWORD="short")
    assert "fewer than 12 characters" in refusal(data, path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path, port = settings(tmp_path, MLFLOW_PORT=listener.getsockname()[1])
        line = refusal(data, path)
    assert f"port {port} is taken" in line
    assert "\n" not in line
    assert "pip install '.[server]'" in refusal(data, path, PYTHON="false")
    assert not data.exists()


def test_ctrl_c_stops_both_and_leaves_the_folder_usable(server):
    assert server.stop() == 143
    assert "stopped" in server.log.read_text()
    assert not (server.folder / "data" / "postgres" / "postmaster.pid").exists()
