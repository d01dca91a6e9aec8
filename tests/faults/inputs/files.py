"""Ways in which a good file goes bad, by its kind."""

from __future__ import annotations

from pathlib import Path

from tests.faults.inputs.damage import BYTES, Damage
from tests.faults.inputs.pictures import PICTURE, VOLUME
from tests.faults.inputs.signals import ARRAY, SOUND
from tests.faults.inputs.texts import TEXT

TEXTS = {".csv", ".json", ".jsonl", ".txt", ".yaml", ".hea", ".xml"}
PICTURES = {".png", ".jpg", ".bmp", ".tif"}
SOUNDS = {".wav", ".flac", ".ogg"}


def damages(path: Path) -> dict[str, Damage]:
    """The damages that fit a file, by name."""
    found = dict(BYTES)
    for kinds, more in ((TEXTS, TEXT), (PICTURES, PICTURE), (SOUNDS, SOUND), ({".npy"}, ARRAY)):
        if path.suffix in kinds:
            found |= more
    if path.name.endswith((".nii", ".nii.gz")):
        found |= VOLUME
    return found
