"""Errors that users see as one line: what is wrong, where, and what to do.

Everything that a user can cause (a flag, a file, a server) is a :class:`SkipwayError`; the command line
prints its text and exits with ``exit_code``. Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import unicodedata


def one_line(text: object) -> str:
    """Returns text that a terminal shows as one line: what would steer it, as in names of files, is written out."""
    text = str(text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(
        character if unicodedata.category(character) not in STEERING else repr(character)[1:-1]
        for character in text
    )


LONGEST = 2000
"""Characters of a line; the middle of a longer one is left out."""


STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control and formatting characters, halves of pairs, and line breaks."""


class SkipwayError(ValueError):
    """Base of all errors that are shown to users as one line."""

    exit_code = 1


class ConfigError(SkipwayError):
    """A flag, key or value of the configuration is wrong."""

    exit_code = 2


class DataError(SkipwayError):
    """A data file or its content cannot be used."""


class TrainingError(SkipwayError):
    """Training cannot go on, for example because the loss is not finite."""


class PackageError(SkipwayError):
    """A model package is missing, damaged, unsafe or of another task."""


class TrackingError(SkipwayError):
    """The tracking server or the model registry refuses or cannot be reached."""


class NoModelError(TrackingError):
    """The tracking store works, or there is none yet, but it does not hold the model that was asked for."""


class Interrupted(SkipwayError):
    """SIGINT or SIGTERM: the run was saved and can be resumed."""

    exit_code = 130
