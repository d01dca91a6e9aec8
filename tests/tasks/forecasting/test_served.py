"""`mlflow models serve` answers a real HTTP request with the champion's forecast."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.cli import main
from tasks.forecasting.task import TASK

SMALL = [
    "--data.groups=[Quarterly]",
    "--train.steps=2",
    "--train.batch_size=16",
    "--model.lookbacks=[2]",
    "--model.width=8",
    "--model.blocks=1",
    "--promote=always",
]


def request(port, frame, **params):
    body = {"dataframe_split": frame.to_dict("split"), "params": params}
    call = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=60) as answer:
        return pd.DataFrame(json.load(answer)["predictions"])


@pytest.mark.slow
def test_the_champion_is_served_over_http(tracking, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(TASK, "train", [*SMALL, f"--tracking={tracking}"]) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = (
        f"{sys.executable} -m mlflow models serve -m models:/skipway-forecasting@champion "
        f"--env-manager local -h 127.0.0.1 -p {port} --workers 1"
    )
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    with open(tmp_path / "server.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            command.split(), env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                    break
                except OSError:
                    assert server.poll() is None, (tmp_path / "server.log").read_text()
                    time.sleep(0.5)
            times = pd.period_range("2010Q1", periods=20, freq="Q").start_time.strftime("%Y-%m-%d")
            frame = pd.DataFrame({"unique_id": "a", "ds": times, "y": 100.0 + np.arange(20.0)})
            answer = request(port, frame, horizon=3)
            assert list(answer["ds"]) == ["2015-01-01", "2015-04-01", "2015-07-01"]
            assert answer["forecast"].between(20, 300).all()
            assert (answer["lo-80"] <= answer["forecast"]).all() and (
                answer["forecast"] <= answer["hi-80"]
            ).all()

            frame.loc[3, "ds"] = "soon"
            with pytest.raises(urllib.error.HTTPError) as refused:
                request(port, frame)
            assert refused.value.code == 400
            answer = json.load(refused.value)
            assert "request" in answer["message"]
            assert "'soon' is not a date" in answer["message"]
            assert "stack_trace" not in answer
        finally:
            os.killpg(server.pid, 15)
            server.wait(timeout=30)
