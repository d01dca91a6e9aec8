"""Ways in which a package of a model goes bad."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.track.package import CONFIG, METADATA, WEIGHTS, file_digest

Damage = Callable[[Path, random.Random], None]


def read(path: Path) -> dict[str, Any]:
    """Content of a JSON file."""
    return json.loads(path.read_text())


def write(path: Path, content: Any) -> None:
    """Writes a JSON file."""
    path.write_text(json.dumps(content))


def sign(folder: Path) -> None:
    """Makes the digests fit the files, as one does who means harm."""
    metadata = read(folder / METADATA)
    metadata["sha256"] = {name: file_digest(folder / name) for name in (CONFIG, WEIGHTS)}
    write(folder / METADATA, metadata)


def _missing(folder: Path, rng: random.Random) -> None:
    (folder / rng.choice([CONFIG, METADATA, WEIGHTS])).unlink()


def _cut(folder: Path, rng: random.Random) -> None:
    path = folder / rng.choice([CONFIG, METADATA, WEIGHTS])
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) - 1)])


def _bit(folder: Path, rng: random.Random) -> None:
    path = folder / rng.choice([CONFIG, WEIGHTS])
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _signed_weights(folder: Path, rng: random.Random) -> None:
    path = folder / WEIGHTS
    content = bytearray(path.read_bytes())
    for _ in range(4):
        content[rng.randrange(min(len(content), 2000))] = rng.randrange(256)
    path.write_bytes(content)
    sign(folder)


def _metadata(change: Callable[[dict[str, Any], random.Random], object]) -> Damage:
    def damage(folder: Path, rng: random.Random) -> None:
        content = read(folder / METADATA)
        change(content, rng)
        write(folder / METADATA, content)

    return damage


def _version(content: dict[str, Any], rng: random.Random) -> None:
    content["format_version"] = rng.choice([99, "1", None, -1, 1.5, []])


def _task(content: dict[str, Any], rng: random.Random) -> None:
    content["task"] = rng.choice(["nothing", "", 3, "../../x", "segmentation2"])


def _no_digests(content: dict[str, Any], rng: random.Random) -> None:
    content["sha256"] = rng.choice([{}, None, [], {CONFIG: 3, WEIGHTS: None}])


def _less(content: dict[str, Any], rng: random.Random) -> None:
    del content[rng.choice(sorted(content))]


def _other(content: dict[str, Any], rng: random.Random) -> None:
    """Replaces one value somewhere inside."""
    place: Any = content
    while True:
        key = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
        inside = place[key]
        if isinstance(inside, dict | list) and len(inside) and rng.random() < 0.8:
            place = inside
            continue
        place[key] = rng.choice([None, -1, 10**9, "x", [], {}, 0.5, True, [1, 2]])
        return


def _config(change: Callable[[dict[str, Any], random.Random], object]) -> Damage:
    def damage(folder: Path, rng: random.Random) -> None:
        content = read(folder / CONFIG)
        change(content, rng)
        write(folder / CONFIG, content)
        sign(folder)

    return damage


def _shapes(folder: Path, rng: random.Random) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    name = rng.choice(sorted(tensors))
    kind = rng.choice(["longer", "gone", "more", "NaN", "type"])
    if kind == "longer":
        tensors[name] = torch.zeros(*tensors[name].shape, 3)
    elif kind == "gone":
        del tensors[name]
    elif kind == "more":
        tensors["extra"] = torch.zeros(2)
    elif kind == "NaN" and tensors[name].is_floating_point():
        tensors[name] = tensors[name] * float("nan")
    else:
        tensors[name] = tensors[name].to(torch.complex64)
    save_file(tensors, folder / WEIGHTS)
    sign(folder)


def _pickle(folder: Path, rng: random.Random) -> None:
    (folder / rng.choice(["x.pkl", "weights.pt", "a.JOBLIB", "pytorch_model.bin"])).write_bytes(b"\x80\x04N.")


def _list(folder: Path, rng: random.Random) -> None:
    name = rng.choice([CONFIG, METADATA])
    write(folder / name, rng.choice([[], 3, "x", None]))
    if name == CONFIG:
        sign(folder)


def _deep(folder: Path, rng: random.Random) -> None:
    (folder / METADATA).write_text("[" * 100_000)


def _encoding(folder: Path, rng: random.Random) -> None:
    path = folder / METADATA
    path.write_bytes(path.read_text().encode("utf-16"))


def _file(folder: Path, rng: random.Random) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def _empty(folder: Path, rng: random.Random) -> None:
    for path in folder.iterdir():
        path.unlink()


def _folder_inside(folder: Path, rng: random.Random) -> None:
    path = folder / rng.choice([CONFIG, METADATA, WEIGHTS])
    path.unlink()
    path.mkdir()


SURE: dict[str, Damage] = {
    "a file missing": _missing,
    "a file cut off": _cut,
    "a bit flipped": _bit,
    "weights overwritten and signed": _signed_weights,
    "another format": _metadata(_version),
    "another task": _metadata(_task),
    "no digests": _metadata(_no_digests),
    "a pickle beside it": _pickle,
    "JSON of another kind": _list,
    "100,000 brackets": _deep,
    "metadata in UTF-16": _encoding,
    "a file in its place": _file,
    "an empty folder": _empty,
    "a folder in place of a file": _folder_inside,
}
"""Damages that have to be refused, or do no harm that a digest would tell."""

PERHAPS: dict[str, Damage] = {
    "a key of its metadata missing": _metadata(_less),
    "a value of its metadata changed": _metadata(_other),
    "a key of its configuration missing, signed": _config(_less),
    "a value of its configuration changed, signed": _config(_other),
    "tensors changed and signed": _shapes,
}
"""Damages that may leave a model that works."""
