"""What a folder of recordings holds: words, lists of held-out files, background noise."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import DataError
from tasks.speech.config import NOISE_FOLDER, SILENCE
from tasks.speech.data.audio import ENDINGS, OTHER_ENDINGS, printable

LISTS = {"testing": "testing_list.txt", "validation": "validation_list.txt"}

_FSDD = re.compile(r"(?P<word>[^_]+)_(?P<speaker>.+)_\d+")
_HASHED = re.compile(r"(?P<speaker>.+)_nohash_\d+")  # Speech Commands: a hash of the speaker
# As torchaudio.datasets.SPEECHCOMMANDS unpacks it, from its root or from the folder in it.
_TORCHAUDIO = ("SpeechCommands/speech_commands_v*", "speech_commands_v*")


@dataclass
class FileList:
    """A list of held-out files.

    Attributes:
        entries: How many files it names.
        here: Those that are here, as ``word/stem``.
    """

    entries: int
    here: set[str]


@dataclass
class Folder:
    """Where the recordings are; nothing is decoded yet.

    Attributes:
        root: Folder that names are relative to.
        files: Name, as it is stored, and word of each recording, sorted.
        noise: Long recordings of noise.
        lists: Lists of held-out files by kind, see ``LISTS``.
        notes: What was passed over or assumed.
    """

    root: Path
    files: list[tuple[str, str]]
    noise: list[Path] = field(default_factory=list)
    lists: dict[str, FileList] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_recordings(path: Path) -> Folder:
    """Finds out how a folder is laid out and lists its recordings.

    Raises:
        DataError: There is no such folder, or no recording whose word is known in it.
    """
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder")
    root = _inner(path)
    folder = Folder(root, [])
    if root != path:
        folder.notes.append(f"the recordings are in {root.relative_to(path).as_posix()}")
    flat, other = list_audio(root)
    for word in _subfolders(root):
        files, more = list_audio(root / word)
        other += more
        _add(folder, [(f"{word}/{file}", printable(word)) for file in files])
    if folder.files and flat:
        folder.notes.append(
            f"{len(flat)} recordings beside the folders of the words are not read, such as {flat[0]}"
        )
    if not folder.files:
        _read_flat(folder, flat)
    if other:
        endings = ", ".join(f"{n} {ending}" for ending, n in sorted(other.items()))
        folder.notes.append(
            f"left out, since such files cannot be read: {endings}; convert them to WAV or FLAC"
        )
    if not folder.files:
        raise DataError(_nothing(path, flat, other))
    if (root / NOISE_FOLDER).is_dir():
        folder.noise = [root / NOISE_FOLDER / name for name in list_audio(root / NOISE_FOLDER)[0]]
    _read_lists(folder)
    return folder


def list_audio(path: Path) -> tuple[list[str], Counter[str]]:
    """Lists the audio files of a folder, sorted, and counts those of other endings that hold audio."""
    names, other = [], Counter[str]()
    with os.scandir(path) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith(".") or not entry.is_file():
                continue
            if ending in ENDINGS:
                names.append(entry.name)
            elif ending in OTHER_ENDINGS:
                other[ending] += 1
    return sorted(names), other


def speaker_of(name: str, word: str) -> str:
    """Returns the speaker that the name of a file tells, as in Speech Commands and FSDD, or an empty string."""
    stem = _stem(name)
    if found := _HASHED.fullmatch(stem):
        return found["speaker"]
    found = _FSDD.fullmatch(stem)
    return found["speaker"] if found and found["word"] == word else ""


def key_of(name: str, word: str) -> str:
    """Returns how lists refer to a file: its ending may have changed since they were written."""
    return f"{word}/{_stem(name)}"


def _stem(name: str) -> str:
    return os.path.splitext(name.rpartition("/")[2])[0]


def _inner(path: Path) -> Path:
    """The folder in which the recordings are: that of torchaudio and FSDD is deeper."""
    for pattern in _TORCHAUDIO:
        versions = sorted(item for item in path.glob(pattern) if item.is_dir())
        if versions:
            return versions[-1]
    recordings = path / "recordings"
    if recordings.is_dir():
        files, _ = list_audio(recordings)
        if any(_FSDD.fullmatch(_stem(name)) for name in files):
            return recordings
    return path


def _subfolders(root: Path) -> list[str]:
    return sorted(item.name for item in root.iterdir() if item.name[0] not in "_." and item.is_dir())


def _add(folder: Folder, files: list[tuple[str, str]]) -> None:
    """Adds names and words; silence is no word, and a class of its own."""
    silent = [name for name, word in files if word == SILENCE]
    folder.files += [(name, word) for name, word in files if word != SILENCE]
    if silent:
        folder.notes.append(
            f"{SILENCE}: {len(silent)} recordings not read; silence is cut from what is in {NOISE_FOLDER}/"
        )


def _read_flat(folder: Folder, flat: list[str]) -> None:
    """Takes the words from the names of the files."""
    named = [(name, printable(found["word"])) for name in flat if (found := _FSDD.fullmatch(_stem(name)))]
    _add(folder, named)
    if named and len(named) < len(flat):
        known = {name for name, _ in named}
        first = next(name for name in flat if name not in known)
        folder.notes.append(
            f"{len(flat) - len(named)} left out, whose names are not word_speaker_number, such as {first}"
        )


def _nothing(path: Path, flat: list[str], other: Counter[str]) -> str:
    if flat:
        return (
            f"{path}: names such as {flat[0]} do not tell the word; make a folder for each word, or name the files "
            "word_speaker_number"
        )
    if other:
        return f"{path}: files of {', '.join(sorted(other))} cannot be read; convert them to WAV or FLAC"
    return f"{path}: no recordings; give a folder that holds a folder of recordings for each word"


def _read_lists(folder: Folder) -> None:
    here = {key_of(printable(name), word) for name, word in folder.files}
    for kind, file in LISTS.items():
        path = folder.root / file
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="surrogateescape").replace("\\", "/")
        # Lists may name files from a folder above.
        parts = [line.strip().split("/")[-2:] for line in printable(text).splitlines() if line.strip()]
        keys = {key_of(entry[-1], entry[0]): "/".join(entry) for entry in parts}
        missing = [entry for key, entry in keys.items() if key not in here]
        if 0 < len(missing) < len(keys):
            folder.notes.append(
                f"{file}: {len(missing)} of {len(keys)} files are not here, such as {missing[0]}"
            )
        folder.lists[kind] = FileList(len(keys), here & keys.keys())
