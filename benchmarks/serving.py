"""Serves the champion of every task, asks it over HTTP, and exports it: does it answer the same everywhere, how fast?

Each champion is started as ``mlflow models serve`` does it, on a free port of this machine. It gets the example of its
task, which ``python -m core.track example`` prints. Requests are sent one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import psutil

from benchmarks.measure import print_bar, print_heading, print_table
from core import export
from core.errors import NoModelError
from core.task import Task, load_task
from core.track import store
from core.track.package import load_package
from core.track.registry import CHAMPION, resolve_version
from core.track.resolve import fetch
from core.track.schema import request_body
from tasks.__main__ import task_names

HOST = "127.0.0.1"
START_SECONDS = 300
SAME = 1e-9
COLUMNS = (
    *("task", "version", "body", "start-up CPU s", "ms a request", "requests/s"),
    *("HTTP - pyfunc", "HTTP - predictor", "ONNX", "pt2"),
)


@dataclass(frozen=True)
class Served:
    """What is measured of a served model: CPU seconds until it answers, and median seconds of a request."""

    start_cpu: float
    seconds: float
    answer: pd.DataFrame


def measure(task: Task, version: str, uri: str, requests: int) -> list[str]:
    """Returns the row of a champion."""
    import mlflow

    address = f"models:/{task.registered_name}/{version}"
    predictor = task.predictor(load_package(fetch(address, uri)))
    frame, params = task.example(predictor)
    body = json.dumps(request_body(frame, params)).encode()
    served = serve(address, uri, body, requests)
    model = mlflow.pyfunc.load_model(address)
    return [
        task.name,
        version,
        f"{len(body) / 1e3:.1f} kB",
        f"{served.start_cpu:.1f}",
        f"{1e3 * served.seconds:.1f}",
        f"{1 / served.seconds:.0f}",
        f"{table_difference(served.answer, model.predict(frame, params=params or None)):.0e}",
        f"{table_difference(served.answer, task.serve(predictor, frame, params)):.0e}",
        *(f"{export_difference(task, predictor, format):.0e}" for format in ("onnx", "pt2")),
    ]


def serve(address: str, uri: str, body: bytes, requests: int) -> Served:
    """Starts a server, asks it, and ends it."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", address, "--env-manager", "local"]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        # The server starts its workers by name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    with (
        tempfile.TemporaryFile("w+") as log,
        started([*command, "-p", str(port)], environment, log) as server,
    ):
        wait(server, port, log)
        cpu = cpu_seconds(server.pid)
        connection = http.client.HTTPConnection(HOST, port, timeout=300)
        answer = ask(connection, body)
        times = []
        for _ in range(requests):
            begin = time.perf_counter()
            ask(connection, body)
            times.append(time.perf_counter() - begin)
        connection.close()
    return Served(cpu, statistics.median(times), pd.DataFrame(answer["predictions"]))


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command as a group of processes, which ends with the block."""
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


def wait(server: subprocess.Popen[bytes], port: int, log: Any) -> None:
    """Returns once the server answers; ends this program with what it said if it does not."""
    for _ in range(10 * START_SECONDS):
        connection = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
        finally:
            connection.close()
    log.seek(0)
    raise SystemExit(f"the server does not start:\n{log.read()}")


def ask(connection: http.client.HTTPConnection, body: bytes) -> Any:
    """Returns the answer to one request."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = json.load(response)
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {content['message']}")
    return content


def cpu_seconds(pid: int) -> float:
    """Returns the CPU seconds of a process and of all that it has started."""
    top = psutil.Process(pid)
    spent = [process.cpu_times() for process in (top, *top.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in spent)


def table_difference(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Returns the largest difference of numbers; infinity where text, columns or the number of rows differ."""
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return math.inf
    largest = 0.0
    for name in one.columns:
        a, b = one[name].to_numpy(), other[name].to_numpy()
        if np.issubdtype(b.dtype, np.number):
            largest = max(largest, float(np.abs(a - b).max(initial=0.0)))
        elif not (a == b).all():
            return math.inf
    return largest


def export_difference(task: Task, predictor: Any, format: str) -> float:
    """Returns the largest difference that ``export`` finds in its own check, relative to the largest value."""
    seen: list[float] = []
    compare = export.difference

    def note(output: np.ndarray, expected: np.ndarray) -> float:
        seen.append(compare(output, expected))
        return seen[-1]

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(export, "difference", note):
        task.export(predictor, Path(folder), format)
    return max(seen)


def main(argv: list[str] | None = None) -> int:
    """Prints a section of Markdown; returns 1 if a served model answers otherwise than its predictor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=task_names(), help="default: all that have a champion")
    parser.add_argument("--tracking", help="tracking store; default MLFLOW_TRACKING_URI or mlflow.db here")
    parser.add_argument("--requests", type=int, default=50, help="requests to each model, default 50")
    options = parser.parse_args(argv)
    uri = store.resolve_uri(options.tracking)
    if uri is None:
        parser.error("a tracking store is needed")
    store.prepare(uri)
    print_heading("Serving")
    rows = []
    for name in options.tasks:
        task = load_task(name)
        try:
            version = resolve_version(task.registered_name, CHAMPION)
        except NoModelError as error:
            print(f"{name} is left out: {error}\n")
            continue
        print(f"serving {name}", file=sys.stderr)
        rows.append(measure(task, version, uri, options.requests))
    print_table("", COLUMNS, rows)
    worst = max((float(value) for row in rows for value in row[6:8]), default=math.inf)
    asked = f"the same to {SAME:g}"
    met = print_bar("answers over HTTP against pyfunc and predictor", asked, f"{worst:.0e}", worst <= SAME)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
