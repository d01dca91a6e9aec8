"""Small data sets in the layouts that their owners ship."""

import json

import nibabel
import numpy as np
from PIL import Image

from tasks.segmentation.config import DataConfig
from tasks.segmentation.data.load import load_data

SHAPE = (4, 6, 5)


def volume(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def labels(seed, shape=SHAPE, most=2):
    return np.random.default_rng(seed + 10_000).integers(0, most + 1, shape).astype(np.uint8)


def picture(seed, size=(12, 14), channels=1):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).squeeze().astype(np.uint8)


def save(path, values, spacing=(3.0, 1.0, 2.0), shift=0.0):
    """Writes NIfTI from an array (Z, Y, X), or (C, Z, Y, X), and anything else by Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.name.endswith((".nii", ".nii.gz")):
        Image.fromarray(values).save(path)
        return path
    affine = np.diag([*spacing[::-1], 1.0])
    affine[0, 3] = shift
    nibabel.Nifti1Image(values.T, affine).to_filename(path)
    return path


def describe(root, **content):
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))


def nnunet(root, count=6, channels=1, ending=".nii.gz", described=True, start=0, **more):
    """An nnU-Net raw folder of cases ``case_00`` and so on."""
    for i in range(start, start + count):
        for channel in range(channels):
            save(root / "imagesTr" / f"case_{i:02}_{channel:04}{ending}", volume(i + 100 * channel))
        save(root / "labelsTr" / f"case_{i:02}{ending}", labels(i))
    if described:
        content = {
            "channel_names": {str(c): name for c, name in enumerate(("MRI", "CT")[:channels])},
            "labels": {"background": 0, "head": 1, "tail": 2},
            "numTraining": count,
            "file_ending": ending,
        }
        describe(root, **{**content, **more})
    return root


def pictures(root, count=8, names=("images", "masks"), channels=1, start=0):
    """Two folders of pictures, and masks of 0 and 255."""
    for i in range(start, start + count):
        save(root / names[0] / f"{i}.png", picture(i, channels=channels))
        save(root / names[1] / f"{i}.png", np.where(picture(i + 500) > 99, 255, 0).astype(np.uint8))
    return root


def blobs(seed, count):
    """A label map ``(48, 48)`` of numbered squares of 4x4."""
    numbers = np.zeros((48, 48), np.uint16)
    places = np.random.default_rng(seed).permutation(64)[:count]
    for number, place in enumerate(places, 1):
        y, x = divmod(int(place), 8)
        numbers[6 * y + 1 : 6 * y + 5, 6 * x + 1 : 6 * x + 5] = number
    return numbers


def load(path=None, **options):
    labelled = options.pop("labelled", True)
    return load_data(DataConfig(path=str(path) if path else None, **options), labelled)


def names(data, positions=None):
    return [case.name for i, case in enumerate(data.cases) if positions is None or i in positions]


def told(data, text):
    assert any(text in note for note in data.notes), data.notes
    return True
