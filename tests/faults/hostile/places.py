"""Archives and links that lead elsewhere, pipes and devices."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.track.package import WEIGHTS
from tests.faults.hostile.sizes import as_bytes
from tests.faults.hostile.trial import Trial, input_of
from tests.faults.inputs.cases import Good


def _slip(path: Path) -> None:
    """An archive whose members want to lie elsewhere: above its folder, and at an absolute path that is watched too."""
    outside = path.absolute().parent.parent / "absolute"
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for name in ("../escaped.txt", f"{outside}.txt", "metadata.json"):
                entry = tarfile.TarInfo(name)
                entry.size = 2
                archive.addfile(entry, io.BytesIO(b"{}"))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../escaped.npy", f"{outside}.npy", "../../signal.npy"):
            archive.writestr(name, as_bytes(np.arange(3.0)))


def archives(tasks: list[str]) -> Iterator[Trial]:
    for task in tasks:
        for name in ("slip.zip", "slip.tar", "slip.npz", "slip.pt2"):
            for option, command in (("input", "predict"), ("model", "predict"), ("data.path", "train")):

                def given(place: Path, good: Good, name: str = name, option: str = option) -> list[str]:
                    (place / "inner").mkdir()
                    _slip(place / name)
                    if option == "data.path":
                        return [f"--data.path={name}", *good.domain.train]
                    if option == "model":
                        return [f"--model={name}", "--tracking=none", *input_of(good)]
                    return [
                        *good.model,
                        f"--input={name}",
                        f"--output={good.domain.output}",
                        *good.domain.predict,
                    ]

                yield Trial("archives", f"{task} --{option} {name}", task, command, given, (1, 2), ("input",))

        def linked(place: Path, good: Good) -> list[str]:
            path = place / "model" / "config.json"
            path.unlink()
            path.symlink_to("/etc/passwd")
            return ["--model=model", "--tracking=none", *input_of(good)]

        yield Trial(
            "archives", f"{task}: a link out of a package", task, "predict", linked, (1,), ("model", "input")
        )


def special(tasks: list[str]) -> Iterator[Trial]:
    for task in tasks:

        def fifo(place: Path, good: Good) -> list[str]:
            path = place / f"pipe{good.first().suffix}"
            os.mkfifo(path)
            return [
                *good.model,
                f"--input={path.name}",
                f"--output={good.domain.output}",
                *good.domain.predict,
            ]

        def among(place: Path, good: Good) -> list[str]:
            os.mkfifo(place / "input" / f"pipe{good.first().suffix}")
            output = good.domain.output if good.domain.table else "many"
            return [*good.model, "--input=input", f"--output={output}", *good.domain.predict]

        def data(place: Path, good: Good) -> list[str]:
            os.mkfifo(place / "pipe.csv")
            return ["--data.path=pipe.csv", *good.domain.train]

        def model(place: Path, good: Good) -> list[str]:
            os.mkfifo(place / "pipe")
            return ["--model=pipe", "--tracking=none", *input_of(good)]

        def inside(place: Path, good: Good) -> list[str]:
            (place / "model" / WEIGHTS).unlink()
            os.mkfifo(place / "model" / WEIGHTS)
            return ["--model=model", "--tracking=none", *input_of(good)]

        def device(place: Path, good: Good) -> list[str]:
            return [*good.model, "--input=/dev/zero", f"--output={good.domain.output}", *good.domain.predict]

        def loop(place: Path, good: Good) -> list[str]:
            for folder in (place / "data", *(path for path in (place / "data").rglob("*") if path.is_dir())):
                (folder / "loop").symlink_to("..")
                (folder / "itself").symlink_to("itself")
            return good.train

        yield Trial("special files", f"{task}: --input is a pipe", task, "predict", fifo)
        yield Trial(
            "special files", f"{task}: a pipe among inputs", task, "predict", among, (0, 1), ("input",)
        )
        yield Trial("special files", f"{task}: --data.path is a pipe", task, "train", data)
        yield Trial("special files", f"{task}: --model is a pipe", task, "predict", model, (1, 2), ("input",))
        yield Trial(
            "special files", f"{task}: weights are a pipe", task, "predict", inside, (1,), ("model", "input")
        )
        yield Trial("special files", f"{task}: --input is a device", task, "predict", device)
        yield Trial("special files", f"{task}: links in circles", task, "train", loop, (0, 1, 2), ("data",))
