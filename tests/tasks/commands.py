"""The real commands of a task, as its tests call them."""

from core.cli import main


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
