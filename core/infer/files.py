"""``predict`` for images: a file or a folder in, files of the same kind out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from core.data.images.encode import check_fits
from core.data.images.files import ENDINGS, Picture, from_float, read_picture, to_float, write_picture
from core.data.images.folder import SHOWN, list_pictures, other_files
from core.data.images.resize import imresize
from core.errors import ConfigError, SkipwayError
from core.files import identity, make_folder, tell_left_out
from core.infer.config import PicturePredictConfig
from core.infer.restorer import Cut, Restorer

Describe = Callable[[Picture], str]
LOSSY = (".jpg", ".jpeg")
"""Endings whose files would lose again what was restored."""


@dataclass(frozen=True)
class Job:
    """One file to restore.

    Attributes:
        source: The image.
        target: Where the result goes.
        comparison: Where the picture of input and output goes, ``None`` for no picture.
    """

    source: Path
    target: Path
    comparison: Path | None = None


def beside(source: str, mark: str) -> str | None:
    """Returns where results go unless asked for: ``photo_MARK.png`` for ``photo.png``, ``photos_MARK`` for a folder.

    JPEG, and what cannot be written, becomes PNG. ``None`` for a folder without a name, the root.
    """
    path = Path(source)
    if path.name in ("", ".."):
        path = path.resolve()
    if not path.name:
        return None
    if path.is_dir():
        return str(path.with_name(f"{path.name}_{mark}"))
    ending = path.suffix.lower()
    kept = ending in ENDINGS and ending not in LOSSY
    return str(path.with_name(f"{path.stem}_{mark}{path.suffix if kept else '.png'}"))


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
        ConfigError: The output cannot be written where it should be, or a picture of ``side_by_side`` would replace
            an input or another output.
        DataError: The file cannot be used, or the folder holds no image.
    """
    assert config.input is not None and config.output is not None
    source, target = Path(config.input), Path(config.output)
    files = list_pictures(source)
    into_folder = source.is_dir() or target.is_dir() or not target.suffix
    if source.is_dir() and target.is_file():
        raise ConfigError(f"--input {source} is a folder and --output {target} is a file; name a folder")
    if min(config.tile or 0, config.halo or 0) < 0:
        raise ConfigError("--tile and --halo are numbers of pixels, 0 or more")
    jobs = [Job(path, target / path.name if into_folder else target) for path in files]
    if config.side_by_side:
        jobs = with_comparisons(jobs)
    if into_folder:
        make_folder(target, "--output")
    if source.is_dir():
        tell_left_out([item.name for item in other_files(source)], SHOWN)
    restorer.cut = Cut(config.tile, config.halo, config.means)
    if config.tune:
        print(f"form       {restorer.tune()}")
    if config.ensemble:
        restorer.ensemble()
    failures = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        bar = progress.add_task("", total=None)
        for i, job in enumerate(jobs):
            path = job.source

            def show(done: int, total: int, i: int = i, name: str = path.name) -> None:
                text = f"{name} ({i + 1} of {len(jobs)})" if len(jobs) > 1 else name
                progress.update(bar, description=text, completed=done, total=total)

            try:
                line = _restore_file(restorer, job, scale, describe, show)
            except SkipwayError as error:
                said = str(error) if path.name in str(error) else f"{path}: {error}"
                if config.strict or not source.is_dir():
                    raise type(error)(said) from error
                failures.append(said)
            else:
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
    return failures


def with_comparisons(jobs: Sequence[Job]) -> list[Job]:
    """Names the pictures of input and output ``a_compare.png``, ``a.tif_compare.png`` where two results are called a.

    Raises:
        ConfigError: A picture would replace an input or another output.
    """
    stems = Counter(job.target.stem for job in jobs)
    named = []
    for job in jobs:
        stem = job.target.stem if stems[job.target.stem] == 1 else job.target.name
        named.append(replace(job, comparison=job.target.with_name(f"{stem}_compare.png")))
    inputs = {identity(job.source): job.source for job in jobs}
    # The folder of the outputs may not exist yet, and their names in it differ.
    outputs = {job.target for job in named}
    for job in named:
        assert job.comparison is not None
        taken = f"the output {job.comparison.name}" if job.comparison in outputs else None
        if job.comparison.exists() and (hit := inputs.get(identity(job.comparison))):
            taken = f"the input {hit}"
        outputs.add(job.comparison)
        if taken:
            raise ConfigError(
                f"--side-by-side: {job.comparison} would replace {taken}; name another --output, or rename the file"
            )
    return named


def restore_picture(
    restorer: Restorer,
    picture: Picture,
    scale: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Picture:
    """Restores the pixels of an image; alpha and colour profile are kept, an enlarged alpha is bicubic.

    Raises:
        DataError: The model wants another number of channels.
        ConfigError: The model does not have this enlargement.
    """
    restored = restorer(picture.pixels, scale, progress)
    factor = restored.shape[0] // picture.pixels.shape[0]
    alpha = picture.alpha
    if alpha is not None and factor > 1:
        alpha = from_float(imresize(to_float(alpha[..., None]), factor), alpha.dtype)[..., 0]
    return replace(picture, pixels=restored, alpha=alpha)


def _restore_file(
    restorer: Restorer,
    job: Job,
    scale: int | None,
    describe: Describe,
    show: Callable[[int, int], None],
) -> str:
    target, picture = job.target, read_picture(job.source)
    if target.exists() and target.samefile(job.source):
        raise ConfigError(f"--output {target} would replace the input; name another file or folder")
    height, width, channels = picture.pixels.shape
    side = max(height, width) * (scale or restorer.scales[0])
    check_fits(target, picture.pixels.dtype, channels, picture.alpha is not None, side)
    said = describe(picture)
    result = restore_picture(restorer, picture, scale, show)
    write_picture(target, result)
    height, width, channels = result.pixels.shape
    line = f"written    {target}: {width}x{height}, {channels} channel(s), {result.pixels.dtype}{said}"
    if job.comparison is not None:
        save_comparison(picture.pixels, result.pixels, job.comparison)
        line += f"\nwritten    {job.comparison}"
    return line


def save_comparison(before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """Draws input and output with enlarged crops; images of other channels than 1 and 3 show their mean."""
    from core.report.pictures import comparison

    def shown(pixels: np.ndarray) -> np.ndarray:
        values = to_float(pixels)
        return values if values.shape[2] in (1, 3) else values.mean(axis=2, keepdims=True)

    figure = comparison([("input", shown(before)), ("output", shown(after))])
    figure.savefig(path, dpi=150, bbox_inches="tight")
