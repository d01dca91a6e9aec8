"""Python that has the heavy libraries loaded already: ``python warm.py SOCKET`` serves, ``client`` is a ``python``.

A tutorial calls Python a dozen times, and each call would load torch and MLflow anew. The commands are forks of this
process; what belongs to the repository is imported by the fork.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import socket
import sys
import traceback
import warnings

LIBRARIES = (
    *("numpy", "pandas", "torch", "mlflow.pyfunc", "matplotlib.figure", "jsonargparse", "rich.progress"),
    *(
        "sklearn.linear_model",
        "skimage.metrics",
        "cv2",
        "albumentations",
        "pytest",
        "torch.onnx",
        "onnxscript",
    ),
    *("safetensors.torch", "scipy.special", "statsmodels.tsa.forecasting.theta"),
)
CLIENT = """#!{python} -IS
import json, os, socket, sys

server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
call = [sys.argv[1:], os.getcwd(), dict(os.environ)]
socket.send_fds(server, [json.dumps(call).encode()], [0, 1, 2])
server.shutdown(socket.SHUT_WR)
sys.exit(server.recv(1)[0])
"""


def client(path):
    """The text of a program that is ``python``, in a fork of the server at a socket."""
    return CLIENT.format(python=sys.executable, path=str(path))


def serve(path):
    """Answers calls one after the other; comes back in the fork of a call alone, with its arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            importlib.import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        data, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
        while more := connection.recv(1 << 20):
            data += more
        child = os.fork()
        if child == 0:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            server.close()
            connection.close()
            return json.loads(data)
        for stream in streams:
            os.close(stream)
        connection.send(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255]))
        connection.close()


def run(words, folder, environment):
    """Does what ``python`` does with these arguments."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    importlib.invalidate_caches()
    sys.path.insert(1, environment["PYTHONPATH"])
    kind, *rest = words
    if kind == "-m":
        sys.path[0] = folder
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(kind))
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")


def ended(call):
    """Runs a call; returns the exit code of a Python that would have run it."""
    try:
        run(*call)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = ended(serve(sys.argv[1]))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the libraries would wait for threads that a fork does not have
