"""Words in synthetic voices, for wake words of one's own: ``python -m tasks.speech.data.espeak FOLDER --words hello``.

Speaks with the library of espeak-ng from the package ``espeakng-loader``. The library is under the GPL-3, and so it is
an optional extra of its own, ``skipway[espeak]``; the recordings are yours. Formant voices are far from people's: a
model trained on them is a start for one that learns on from recordings. Where few words are spotted, train with
--data.unknown 1 or more: most of what a wake word is told from are other words.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from core.cli import folder_parser, run_folder_command
from core.errors import ConfigError
from tasks.speech.config import SILENCE, UNKNOWN
from tasks.speech.data.layout import RATE, by_hash, coloured, random_of, write_layout

ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc", "en-gb-x-gbcwmd")
# fmt: off
THROATS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "adam", "Alex", "Alicia", "Andrea",
    "Andy", "Annie", "aunty", "belinda", "boris", "david", "ed", "Gene", "ian", "Jacky", "john", "Lee", "linda",
    "Mario", "max", "Michael", "norbert", "paul", "quincy", "rob", "steph", "travis", "victor",
)
# fmt: on
"""Variants of espeak-ng that sound like people; whispering, croaking and robots are left out."""
VOICES = tuple(
    f"{ACCENTS[(i + k) % len(ACCENTS)]}+{throat}" for i, throat in enumerate(THROATS) for k in range(3)
)
# fmt: off
OTHERS = (
    "about", "after", "again", "because", "before", "between", "children", "computer", "country", "different",
    "evening", "family", "garden", "language", "letter", "light", "mother", "music", "never", "open", "paper",
    "people", "question", "river", "school", "summer", "table", "tomorrow", "under", "water",
)
# fmt: on
"""Spoken few times each, so that they become the unknown class: a word is told from others, not from silence."""
_SPOKEN = 14
"""Most recordings of each of them, fewer than those of a word that is spotted by default."""

_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_RETRIEVAL, _UTF8, _DONT_EXIT = 1, 1, 0x8000
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Voices:
    """The library, loaded anew: it keeps a state between words that nothing resets.

    Args:
        folder: A copy of the library is put there.

    Attributes:
        rate: Sampling rate of what is spoken, Hz.

    Raises:
        ConfigError: The package is missing or does not work here.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise ConfigError("words are spoken by espeak-ng: pip install 'skipway[espeak]'") from None
        self._data = Path(espeakng_loader.get_data_path())
        try:
            self._library = ctypes.CDLL(str(shutil.copy(espeakng_loader.get_library_path(), folder)))
        except OSError as error:
            raise ConfigError(f"the library of espeakng-loader cannot be loaded: {error}") from None
        self.rate = self._library.espeak_Initialize(_RETRIEVAL, 0, str(self._data).encode(), _DONT_EXIT)
        if self.rate <= 0:
            raise ConfigError(f"espeak-ng does not start with its data in {self._data}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(0))
        self._blocks: list[np.ndarray] = []
        self._callback = _CALLBACK(self._receive)  # kept, or it would be freed
        self._library.espeak_SetSynthCallback(self._callback)

    def choose(self, voice: str) -> None:
        """Sets the voice: a language or accent, and a variant after ``+``.

        Raises:
            ConfigError: There is no such voice.
        """
        _, _, variant = voice.partition("+")
        # The library takes unknown variants for none.
        known = not variant or (self._data / "voices" / "!v" / variant).is_file()
        if not known or self._library.espeak_SetVoiceByName(voice.encode()):
            raise ConfigError(
                f"espeak-ng has no voice {voice!r}; use an accent such as en-us and a variant, en-us+f2"
            )

    def say(self, text: str, rate: int = 175, pitch: int = 50, range_: int = 50) -> np.ndarray:
        """Returns a spoken text at ``rate`` words a minute, float32 ``(N,)``; pitch and its range are 0 to 100."""
        for name, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, range_)):
            self._library.espeak_SetParameter(name, value, 0)
        self._blocks.clear()
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        self._library.espeak_Synth(encoded, size, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate([np.zeros(0, np.float32), *self._blocks])

    def close(self) -> None:
        """Frees what the library holds."""
        self._library.espeak_Terminate()

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _: int | None) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / 32768)
        return 0


def write_words(
    folder: Path,
    words: Sequence[str],
    seed: int = 0,
    voices: Sequence[str] = VOICES,
    clips: int = 2,
    others: Sequence[str] = OTHERS,
) -> int:
    """Writes words, and few recordings of other words, as Speech Commands has its recordings.

    The lists are by the variant of the voice: in all accents it is the same throat.

    Args:
        folder: New or empty folder.
        words: Words or phrases, with spaces or underscores; their folders have underscores.
        seed: Same seed, same files.
        voices: Accent and variant, ``en-us+f2``.
        clips: Recordings of each word by each voice, different in speed and pitch.
        others: Other words.

    Returns:
        Number of clips.

    Raises:
        ConfigError: espeak-ng is missing, or does not know a voice; a word cannot be a folder.
        DataError: The folder cannot be written.
    """
    chosen = list(dict.fromkeys(map(_folder_of, words)))
    few = [name for name in map(_folder_of, others) if name not in chosen]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        library = Voices(Path(place))
        try:
            return write_layout(folder, _speak(library, chosen, few, seed, voices, clips), seed)
        finally:
            library.close()


def _speak(
    library: Voices,
    words: list[str],
    others: list[str],
    seed: int,
    voices: Sequence[str],
    clips: int,
) -> Iterator[tuple[str, str, int, np.ndarray]]:
    speakers = {voice: hashlib.sha256(voice.partition("+")[2].encode()).hexdigest()[:8] for voice in voices}
    # Neighbours in this order are on the same side of the split: each side gets its share of the other words.
    place = {speaker: i for i, speaker in enumerate(by_hash(speakers.values()))}
    every = -(-len(place) // _SPOKEN)
    numbers: dict[tuple[str, str], int] = {}
    for voice, speaker in speakers.items():
        library.choose(voice)
        spoken = [name for name in words for _ in range(clips)]
        spoken += [name for i, name in enumerate(others) if (place[speaker] + i) % every == 0]
        for name in spoken:
            number = numbers[name, speaker] = numbers.get((name, speaker), -1) + 1
            if name in others and number:
                continue
            rng = random_of(seed, name, speaker, number)
            samples = library.say(
                name.replace("_", " "),
                int(rng.integers(130, 220)),
                int(rng.integers(30, 70)),
                int(rng.integers(30, 80)),
            )
            if not samples.any():
                raise ConfigError(f"espeak-ng has no sound for {name!r}; spell it out")
            yield name, speaker, number, _recorded(samples, library.rate, rng)


def _recorded(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a spoken text at 16 kHz, somewhere in a second if it is shorter, in light noise."""
    heard = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    word = resample(torch.from_numpy(samples[heard[0] : heard[-1] + 1]), rate, RATE).numpy()
    left = int(rng.integers(max(0, RATE - len(word)) + 1))
    word = np.pad(word, (left, max(0, RATE - len(word) - left)))
    word *= rng.uniform(0.1, 0.9) / np.abs(word).max()
    # Digital zeros, which no microphone gives, would be what a model learns of these words.
    return word + rng.uniform(0.001, 0.005) * coloured(len(word), rng.uniform(0, 1.5), rng)


def _folder_of(word: str) -> str:
    name = "_".join(word.split())
    if not re.fullmatch(r"\w[\w'-]*", name) or name.startswith("_") or name in (SILENCE, UNKNOWN):
        raise ConfigError(
            f"the word {word!r} cannot be the name of a folder and a class; use letters and spaces"
        )
    return name


def main(argv: list[str] | None = None) -> int:
    """Writes words into a folder; returns the exit code."""
    parser = folder_parser(
        "tasks.speech.data.espeak",
        "Writes words in many synthetic voices, as Speech Commands has its recordings, and other words for the unknown "
        "class.",
    )
    words = "words, or phrases in quotes"
    parser.add_argument("--words", nargs="+", required=True, metavar="WORD", help=words)
    others = "words of the unknown class; default: many"
    parser.add_argument("--others", nargs="*", default=OTHERS, metavar="WORD", help=others)
    voices = "such as en-us+f2; default: many"
    parser.add_argument("--voices", nargs="+", default=VOICES, metavar="VOICE", help=voices)
    parser.add_argument("--clips", type=int, default=2, help="recordings by each voice (default 2)")
    return run_folder_command(parser, _write, argv)


def _write(options: argparse.Namespace) -> str:
    """Writes the words that were asked for and lists them."""
    count = write_words(
        options.folder, options.words, options.seed, options.voices, options.clips, options.others
    )
    lines = [f"{count} clips in {options.folder}:"]
    for path in sorted(options.folder.iterdir()):
        if path.is_dir():
            files = list(path.glob("*.wav"))
            longest = max(soundfile.info(os.fsencode(file)).duration for file in files)
            lines.append(f"  {path.name}: {len(files)}, the longest takes {longest:.2f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
