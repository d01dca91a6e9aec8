"""The real commands of a task, as its tests call them."""

import json

from core.cli import main

WATCH = """
import contextlib, importlib, io, json, sys
main = importlib.import_module(%r).main
heavy = {"torch", "mlflow", "pandas", "matplotlib", "scipy", "numpy", "optuna"}
for argv in json.loads(%r):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, out.getvalue(), err.getvalue(), sorted(heavy & sys.modules.keys())]))
"""


def run_folder(task, root):
    """The folder of the only run below ``root``."""
    (folder,) = (root / "runs" / task.name).iterdir()
    return folder


def run_command(task, command, argv, capsys):
    """Exit code and what was said on both streams."""
    try:
        code = main(task, command, [str(word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    return code, said.out, said.err


def watch(run_python, module, lines):
    """Exit code, both streams and the heavy imports of a module's command for each line, in one fresh process."""
    return [json.loads(line) for line in run_python(WATCH % (module, json.dumps(lines))).splitlines()]
