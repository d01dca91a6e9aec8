"""Loaded data is the same whether memory holds it or a file: digests, batches, and what the user is told."""

import itertools

import numpy as np
import pytest
import torch

from core.cli import _parse
from core.data.images.files import Picture, write_picture
from core.task import load_task


def photographs(folder):
    for number in range(6):
        rng = np.random.default_rng(number)
        write_picture(folder / f"{number}.png", Picture(rng.integers(0, 256, (64, 60, 3)).astype(np.uint8)))


def organs(folder):
    from tasks.segmentation.data.synthetic import write_organs

    write_organs(folder, cases=4, shape=(8, 20, 16))


def words(folder):
    from tasks.speech.data.synthetic import write_words

    write_words(folder, words=("kiba", "seno"), speakers=8, clips=1)


def records(folder):
    from tasks.ecg.data.synthetic import write_records

    write_records(folder, records=24)


TASKS = {
    "denoising": (photographs, ["--data.patches=2", "--data.resize=[1.0,0.8]", "--train.batch_size=2"]),
    "super_resolution": (photographs, ["--data.patches=2", "--data.patch=8", "--train.batch_size=2"]),
    "segmentation": (organs, ["--data.validation_share=0", "--train.validate_every=0"]),
    "speech": (words, ["--data.least=2", "--train.batch_size=2"]),
    "ecg": (records, ["--data.least=3", "--train.batch_size=2"]),
}


@pytest.mark.parametrize("name", TASKS)
def test_what_is_loaded_does_not_depend_on_where_it_lies(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPWAY_CACHE", str(tmp_path / "cache"))
    write, options = TASKS[name]
    write(tmp_path / "data")
    task = load_task(name)
    told, digests, drawn = [], [], []
    for limit in ("1", "0"):
        argv = [f"--data.path={tmp_path / 'data'}", f"--data.memory={limit}", *options]
        config = _parse(task, "train", argv)[0]
        data = task.load(config)
        part = task.parts(task.prepare(config), data)[0]
        batches = part.source.batches(0, torch.device("cpu"))
        told.append([note for note in data.notes if "--data.memory" in note])
        digests.append(data.digest)
        drawn.append(list(itertools.islice(batches, 3)))
    assert digests[0] == digests[1]
    assert told[0] == [] and len(told[1]) == 1
    for one, other in zip(*drawn, strict=True):
        assert one.keys() == other.keys() and one["ids"] == other["ids"]
        assert all(torch.equal(one[key], other[key]) for key in one if torch.is_tensor(one[key]))
