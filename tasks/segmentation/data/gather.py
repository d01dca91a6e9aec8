"""Looks at all cases of the folders that a configuration names, and leaves out those that cannot be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from rich.progress import track

from core.errors import ConfigError, DataError
from tasks.segmentation.config import DataConfig
from tasks.segmentation.data.found import Found, RawCase
from tasks.segmentation.data.scan import MOST_SAMPLES, SAMPLES, Look, look_at
from tasks.segmentation.data.volumes import VOLUME_ENDINGS

PROGRESS_FROM = 50
"""Number of cases from which a progress bar is worth its line."""
GRAY, COLOUR, COLOUR_16, OTHER = "gray", "rgb_to_0_1", "rescale_to_0_1", "image"
"""Names of channels that nobody named. nnU-Net normalises ``rgb_to_0_1`` and ``rescale_to_0_1`` by these names, and all
others by mean and standard deviation."""


@dataclass
class Pool:
    """Cases of all folders.

    Attributes:
        found: The folders, the one to learn from first.
        raw: Files of each case by its name.
        looks: At each case that can be used.
        test: Names of those that are for tests alone.
        notes: What the user should know.
        dropped: What was left out, a line each.
    """

    found: list[Found]
    raw: dict[str, RawCase] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    test: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def drop(self, name: str, reason: str) -> None:
        """Leaves a case out."""
        self.looks.pop(name, None)
        self.dropped.append(f"{name}: {reason}")


def gather(main: Found | None, other: Found | None, labelled: bool) -> Pool:
    """Looks at all cases.

    Args:
        main: What is learned from, and its own test set.
        other: A folder that is tested on in its place.
        labelled: Whether a case needs labels.

    Raises:
        DataError: Labels of the two folders mean different things.
    """
    pool = Pool([found for found in (main, other) if found is not None])
    for found in pool.found:
        pool.notes += found.notes
        pool.dropped += found.dropped
    if main is not None and other is not None:
        _compare(main, other)
    learned = list(main.cases) if main is not None else []
    tested = list(main.test) if main is not None else []
    if other is not None:
        if tested:
            pool.notes.append("the folder's own test set is not used, since --data.test_path is given")
        tested = other.test or other.cases
        if other.test:
            pool.notes.append(f"tested are the {len(tested)} cases of the test folder's own test set")
    for case in learned:
        pool.raw[case.name] = case
    for case in tested:
        name = case.name if case.name not in pool.raw else f"test_{case.name}"
        pool.raw[name] = replace(case, name=name)
        pool.test.add(name)
    _look(pool, labelled)
    _drop_twins(pool)
    return pool


def _compare(main: Found, other: Found) -> None:
    if main.labels is not None and other.labels is not None and main.labels != other.labels:
        names = [", ".join(each.labels.names) for each in (main, other) if each.labels]
        raise DataError(f"labels of the test folder ({names[1]}) are not those of training ({names[0]})")


def _look(pool: Pool, labelled: bool) -> None:
    samples = min(SAMPLES, max(1, MOST_SAMPLES // max(1, len(pool.raw))))
    for name, case in track(
        list(pool.raw.items()),
        description="Reading cases",
        transient=True,
        disable=len(pool.raw) < PROGRESS_FROM,
    ):
        if case.label is None and labelled:
            pool.drop(name, f"the image {case.images[0]} has no label map")
            continue
        try:
            pool.looks[name] = look_at(case, samples)
        except DataError as error:
            pool.drop(name, str(error))


def _drop_twins(pool: Pool) -> None:
    """Leaves out what is there twice; of a case in training and test, that in training."""
    seen: dict[str, str] = {}
    for name in sorted(pool.looks, key=lambda name: (name not in pool.test, name)):
        first = seen.setdefault(pool.looks[name].content, name)
        if first == name:
            continue
        leak = first in pool.test and name not in pool.test
        pool.drop(name, f"the same voxels as {first}" + (", which is held out for the test" if leak else ""))


def give_channels(pool: Pool, config: DataConfig) -> tuple[int, list[str]]:
    """Finds how many channels images are brought to, leaves out what has others, and names them.

    Gray pictures become RGB, or the reverse, as most of them are; RGB pictures that are gray become gray.

    Returns:
        Number of channels, and names of those that are used.

    Raises:
        ConfigError: Channels are asked for that are not there.
    """
    names = next((found.channels for found in pool.found if found.channels), None)
    learned = [look for name, look in pool.looks.items() if name not in pool.test] or [*pool.looks.values()]
    counts = Counter(look.channels for look in learned)
    wanted = len(names) if names else max(counts, key=lambda n: (counts[n], -n), default=1)
    coloured = [look for look in pool.looks.values() if look.channels == 3]
    if not names and coloured and all(look.gray and _picture(look) for look in coloured):
        wanted = 1 if set(counts) <= {1, 3} else wanted
    converted: Counter[int] = Counter()
    for name, look in list(pool.looks.items()):
        if look.channels == wanted:
            continue
        if _picture(look) and {look.channels, wanted} == {1, 3}:
            converted[look.channels] += 1
            continue
        have = f"has {look.channels} channels" if look.channels > 1 else "has one channel"
        # What people call it, who did not mean to give channels.
        axes = " (4-D file)" if look.channels > 1 and not _picture(look) else ""
        pool.drop(name, f"{have}{axes}, but {wanted} {'is' if wanted == 1 else 'are'} expected")
    reason = (
        "as the others are"
        if len(counts) > 1
        else "as they are all gray"
        if not names
        else "as channels are named"
    )
    for number, count in sorted(converted.items()):
        kinds = "gray pictures are read as RGB" if number == 1 else "RGB pictures are read as gray"
        pool.notes.append(f"{count} {kinds}, {reason}")
    if not names:
        names = _names(pool, wanted)
    if config.channels is None:
        return wanted, names
    if not config.channels or not all(0 <= channel < wanted for channel in config.channels):
        raise ConfigError(f"--data.channels {config.channels}: there are channels 0 to {wanted - 1}")
    return wanted, [names[channel] for channel in config.channels]


def _names(pool: Pool, wanted: int) -> list[str]:
    if not all(_picture(look) for look in pool.looks.values()):
        return [OTHER] * wanted
    if wanted != 3:
        return [GRAY] * wanted
    largest = max((look.largest for look in pool.looks.values()), default=0)
    return [COLOUR if largest <= np.iinfo(np.uint8).max else COLOUR_16] * 3


def _picture(look: Look) -> bool:
    return look.geometry.shape[0] == 1 and look.geometry.ending not in VOLUME_ENDINGS
