"""Packages that were tampered with, and pickles wherever a file is read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from core.track.package import WEIGHTS
from tests.faults.hostile.trial import Trial, harm, input_of, objects, torch_harm
from tests.faults.inputs import models
from tests.faults.inputs.cases import Good


def packages(tasks: list[str]) -> Iterator[Trial]:
    for task in tasks:
        for name in ("a bit flipped", "weights overwritten and signed", "a pickle beside it"):

            def damaged(place: Path, good: Good, name: str = name) -> list[str]:
                models.SURE[name](place / "model", random.Random(1))
                return ["--model=model", "--tracking=none", *input_of(good)]

            yield Trial("packages", f"{task}: {name}", task, "predict", damaged, (1,), ("model", "input"))

        def reshaped(place: Path, good: Good) -> list[str]:
            import torch
            from safetensors.torch import load_file, save_file

            tensors = load_file(place / "model" / WEIGHTS)
            wrong = {name: torch.zeros(*tensor.shape, 3) for name, tensor in tensors.items()}
            save_file(wrong, place / "model" / WEIGHTS)
            models.sign(place / "model")
            return ["--model=model", "--tracking=none", *input_of(good)]

        yield Trial(
            "packages", f"{task}: other shapes, signed", task, "predict", reshaped, (1,), ("model", "input")
        )


def _model_places(place: Path) -> dict[str, str]:
    """Pickles in the forms in which a model can be named."""
    harm(place / "model.pkl")
    torch_harm(place / "model.pt")
    shutil.copytree(place / "model", place / "beside")
    harm(place / "beside" / "data" / "extra.bin")
    shutil.copytree(place / "model", place / "inside")
    harm(place / "inside" / WEIGHTS)
    models.sign(place / "inside")
    flavour = {"loader_module": "mlflow.sklearn", "model_path": "python_model.pkl", "python_version": "3.11"}
    (place / "logged").mkdir()
    harm(place / "logged" / "python_model.pkl")
    models.write(place / "logged" / "MLmodel", {"flavors": {"python_function": flavour}})
    return {name: name for name in ("model.pkl", "model.pt", "beside", "inside", "logged")}


def pickles(tasks: list[str]) -> Iterator[Trial]:
    for task in tasks:
        for name in ("model.pkl", "model.pt", "beside", "inside", "logged"):
            for command in ("predict", "evaluate", "export"):

                def used(place: Path, good: Good, name: str = name, command: str = command) -> list[str]:
                    _model_places(place)
                    return [f"--model={name}", *good.options(command)[1:]]

                yield Trial(
                    "pickles",
                    f"{task} {command} --model {name}",
                    task,
                    command,
                    used,
                    (1,),
                    ("model", "input"),
                )
            for option in ("start_from", "teacher"):

                def learned(place: Path, good: Good, name: str = name, option: str = option) -> list[str]:
                    _model_places(place)
                    return [*good.train, f"--train.{option}={name}"]

                text = f"{task} --train.{option} {name}"
                yield Trial("pickles", text, task, "train", learned, (1, 2), ("model", "data"))
    for task, name, key in (
        ("csi", "past.npy", ""),
        ("csi", "past.npz", "H"),
        ("ecg", "leads.npy", ""),
        ("ecg", "leads.npz", "signal"),
        ("denoising", "view.npy", ""),
        ("super_resolution", "view.npy", ""),
        ("detection", "view.npy", ""),
        ("segmentation", "scan.npy", ""),
    ):
        if task in tasks:

            def read(place: Path, good: Good, name: str = name, key: str = key) -> list[str]:
                objects(place / name, key or "signal")
                return [
                    *good.model,
                    f"--input={name}",
                    f"--output={good.domain.output}",
                    *good.domain.predict,
                ]

            yield Trial("pickles", f"{task} --input {name} of objects", task, "predict", read)
    if "csi" in tasks:
        yield Trial("pickles", "csi --input .pt", "csi", "predict", _csi_input)
        yield Trial("pickles", "csi --data.path with a pickle", "csi", "train", _csi_data, needs=("data",))
    if "detection" in tasks:
        yield Trial(
            "pickles", "detection --model.backbone_weights", "detection", "train", _backbone, needs=("data",)
        )
    if "segmentation" in tasks:
        yield Trial(
            "pickles",
            "segmentation --model.encoder_weights",
            "segmentation",
            "train",
            _encoder,
            needs=("data",),
        )
    for task in tasks:
        yield Trial("pickles", f"{task} --resume with pickles", task, "train", _resumed, needs=("data",))


def _csi_input(place: Path, good: Good) -> list[str]:
    torch_harm(place / "past.pt")
    return [*good.model, "--input=past.pt", "--output=out.npy"]


def _csi_data(place: Path, good: Good) -> list[str]:
    path = next((place / "data").rglob("H_U_hist.pt"))
    torch_harm(path)
    return good.train


def _backbone(place: Path, good: Good) -> list[str]:
    torch_harm(place / "resnet.pth")
    return [*good.train, "--model.backbone=resnet18", "--model.backbone_weights=resnet.pth"]


def _encoder(place: Path, good: Good) -> list[str]:
    harm(place / "resnet.pth")
    kept = [word for word in good.train if not word.startswith("--model.")]
    return [*kept, "--model=smp", "--plan.configuration=2d", "--model.encoder_weights=resnet.pth"]


def _resumed(place: Path, good: Good) -> list[str]:
    """A stopped run whose checkpoints were exchanged."""
    source = next((good.folder / "runs" / good.domain.name).iterdir())
    run = place / "runs" / good.domain.name / source.name
    shutil.copytree(source, run)
    record = models.read(run / "run.json")
    models.write(run / "run.json", record | {"status": "KILLED", "pid": 0})
    shutil.rmtree(run / "package")
    for path in (run / "checkpoints").rglob("*.pt"):
        torch_harm(path)
        harm(path.with_name("previous.pt"))
    return ["--resume=last", f"--data.path={good.folder / 'data' / good.domain.path}"]
