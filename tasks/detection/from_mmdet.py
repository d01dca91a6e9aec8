"""A checkpoint of mmdetection becomes a model of this task: ``python -m tasks.detection.from_mmdet --help``."""

from __future__ import annotations

import sys
from pathlib import Path

from core.cli import argument_parser, with_one_line_errors
from core.config import to_dict
from core.errors import ConfigError, DataError
from core.task import Packaged
from tasks.detection.checks import check_image_size
from tasks.detection.coco_classes import CATEGORY_IDS, NAMES
from tasks.detection.config import MODELS, DataConfig

IMAGE_SIZE = 640
"""Side of the square that published models were trained on, pixels."""


def package_mmdet(path: Path, names: list[str] | None = None, image_size: int = IMAGE_SIZE) -> Packaged:
    """Returns a checkpoint of RTMDet or RTMDet-Ins as a package.

    Args:
        path: Checkpoint, published or of a training of one's own, whose averaged weights are taken.
        names: Names of the classes; by default those in the file, or COCO's where there are 80.
        image_size: Side of the square that images are fitted into, pixels.

    Raises:
        ConfigError: The names are not as many as the classes, or the size is no multiple of 32.
        DataError: The file cannot be read, is of another network, or does not say what its classes are called.
    """
    from core.backbones import load_weights
    from tasks.detection.build import pack
    from tasks.detection.models.build import build_network
    from tasks.detection.models.reference import read_mmdet

    check_image_size(image_size, "--image-size")
    checkpoint = read_mmdet(path)
    names = names or checkpoint.names or (NAMES if checkpoint.classes == len(NAMES) else None)
    if names is None:
        raise DataError(
            f"{path} has {checkpoint.classes} classes and does not say what they are called; give --classes"
        )
    if len(names) != checkpoint.classes or len(set(names)) != len(names):
        raise ConfigError(
            f"--classes gives {len(set(names))} different names, and {path} has {checkpoint.classes} classes; give as "
            "many, in their order"
        )
    config = MODELS[checkpoint.model](size=checkpoint.size)
    network = load_weights(build_network(config, checkpoint.classes), checkpoint.weights, source=str(path))
    ids = CATEGORY_IDS if names == NAMES else list(range(1, len(names) + 1))
    metadata = {
        "data": {"name": "coco" if names == NAMES else path.stem, "config": to_dict(DataConfig())},
        "provenance": {"file": path.name, "framework": "mmdetection"},
    }
    return pack(network, to_dict(config), list(names), ids, image_size, metadata)


def read_names(given: str) -> list[str]:
    """Returns the names in a file, one a line, or in a list with commas.

    Raises:
        DataError: The file cannot be read.
    """
    if Path(given).suffix != ".txt":
        return [name.strip() for name in given.split(",") if name.strip()]
    try:
        lines = Path(given).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--classes {given} cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip()]


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return with_one_line_errors(_convert, argv)


def _convert(argv: list[str]) -> int:
    parser = argument_parser(
        "tasks.detection.from_mmdet",
        "Turns a checkpoint of RTMDet or RTMDet-Ins of mmdetection into a model for --model. Nothing in the file is "
        "executed. Size, kind and number of classes are read off the weights.",
        "  python -m tasks.detection.from_mmdet rtmdet_tiny_8xb32-300e_coco.pth rtmdet_tiny\n"
        "  python -m tasks.detection.from_mmdet epoch_300.pth cells --classes RBC,WBC,Platelets --image-size 320",
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="file of mmdetection, such as .pth"
    )
    parser.add_argument("package", metavar="PACKAGE", type=Path, help="new folder for the model")
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="names in their order, as a,b,c or a .txt file with one a line; default: those in the file, or COCO's for "
        "80 classes",
    )
    parser.add_argument(
        "--image-size",
        metavar="N",
        type=int,
        default=IMAGE_SIZE,
        help="side of the square that images are fitted into, pixels (default 640)",
    )
    options = parser.parse_args(argv)
    from core.track.package import save_package

    if options.package.exists():
        raise ConfigError(f"{options.package} exists; give a new folder")
    names = read_names(options.classes) if options.classes else None
    packaged = package_mmdet(options.checkpoint, names, options.image_size)
    save_package(options.package, packaged, "detection")
    model = packaged.config["model"]
    print(
        f"written    {options.package}: {model['name']} {model['size']}, {len(packaged.config['classes'])} classes"
    )
    print(f"           python -m tasks.detection.predict --model {options.package} --input IMAGE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
