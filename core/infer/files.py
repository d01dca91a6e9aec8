"""``predict`` for images: a file or a folder in, files of the same kind out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from core.data.images.encode import check_fits
from core.data.images.files import Picture, from_float, read_picture, to_float, write_picture
from core.data.images.folder import list_pictures
from core.data.images.resize import imresize
from core.errors import ConfigError, SkipwayError
from core.files import make_folder
from core.infer.config import PicturePredictConfig
from core.infer.restorer import Cut, Restorer

Describe = Callable[[Picture], str]


def restore_files(
    restorer: Restorer, config: PicturePredictConfig, describe: Describe, scale: int | None = None
) -> list[str]:
    """Restores the images of ``config.input`` into ``config.output``.

    The type of the pixels, the alpha channel and the colour profile are kept; an enlarged alpha is bicubic.

    Args:
        restorer: The model.
        config: Options of the command.
        describe: What to say of an image, one line.
        scale: Enlargement, for models of several.

    Returns:
        One line for each file that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: The output cannot be written where it should be.
        DataError: The file cannot be used, or the folder holds no image.
    """
    assert config.input is not None and config.output is not None
    source, target = Path(config.input), Path(config.output)
    files = list_pictures(source)
    into_folder = source.is_dir() or target.is_dir() or not target.suffix
    if source.is_dir() and target.is_file():
        raise ConfigError(f"--input {source} is a folder and --output {target} is a file; name a folder")
    if into_folder:
        make_folder(target, "--output")
    if config.tile < 0 or (config.halo is not None and config.halo < 0):
        raise ConfigError("--tile and --halo are numbers of pixels, 0 or more")
    restorer.cut = Cut(config.tile, config.halo, config.means)
    if config.tune:
        print(f"form       {restorer.tune()}")
    if config.ensemble:
        restorer.ensemble()
    failures = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        bar = progress.add_task("", total=None)
        for i, path in enumerate(files):
            where = target / path.name if into_folder else target

            def show(done: int, total: int, i: int = i, name: str = path.name) -> None:
                text = f"{name} ({i + 1} of {len(files)})" if len(files) > 1 else name
                progress.update(bar, description=text, completed=done, total=total)

            try:
                line = _restore_file(restorer, config, path, where, scale, describe, show)
            except SkipwayError as error:
                if config.strict or not source.is_dir():
                    raise
                failures.append(str(error) if path.name in str(error) else f"{path}: {error}")
            else:
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
    return failures


def _restore_file(
    restorer: Restorer,
    config: PicturePredictConfig,
    path: Path,
    target: Path,
    scale: int | None,
    describe: Describe,
    show: Callable[[int, int], None],
) -> str:
    picture = read_picture(path)
    if target.exists() and target.samefile(path):
        raise ConfigError(f"--output {target} would replace the input; name another file or folder")
    check_fits(target, picture.pixels.dtype, picture.pixels.shape[2], picture.alpha is not None)
    said = describe(picture)
    restored = restorer(picture.pixels, scale, show)
    factor = restored.shape[0] // picture.pixels.shape[0]
    alpha = picture.alpha
    if alpha is not None and factor > 1:
        alpha = from_float(imresize(to_float(alpha[..., None]), factor), alpha.dtype)[..., 0]
    write_picture(target, replace(picture, pixels=restored, alpha=alpha))
    height, width, channels = restored.shape
    line = f"written    {target}: {width}x{height}, {channels} channel(s), {restored.dtype}{said}"
    if config.side_by_side:
        name = target.with_name(f"{target.stem}_compare.png")
        save_comparison(picture.pixels, restored, name)
        line += f"\nwritten    {name}"
    return line


def save_comparison(before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """Draws input and output with enlarged crops; images of other channels than 1 and 3 show their mean."""
    from core.report.pictures import comparison

    def shown(pixels: np.ndarray) -> np.ndarray:
        values = to_float(pixels)
        return values if values.shape[2] in (1, 3) else values.mean(axis=2, keepdims=True)

    figure = comparison([("input", shown(before)), ("output", shown(after))])
    figure.savefig(path, dpi=150, bbox_inches="tight")
