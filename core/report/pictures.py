"""Pictures of restored images beside each other, with enlarged crops, and simple curves.

Figures are made without pyplot, so nothing global is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from core.data.images.files import peak

Box = tuple[int, int, int, int]
"""Top, left, height and width, pixels."""

FRAMES = ("tab:red", "tab:cyan", "tab:orange", "tab:green", "tab:purple")
OVERVIEW = 800  # largest side of a whole image in a figure, pixels
PANEL = 2.8  # width of a panel, inches


def comparison(
    panels: Sequence[tuple[str, np.ndarray]], crops: int = 2, crop_size: int = 48, title: str = ""
) -> Figure:
    """Draws images in a row and the same enlarged crops of each below it.

    The crops lie where the last image has most detail. Images of other sizes show the same part of the scene.

    Args:
        panels: Caption and image ``(H, W, C)`` (uint8, uint16, or float in [0, 1]); the truth stands last. Of more
            than 3 channels the first 3 are shown, of 2 the first.
        crops: Most crops to show; fewer where they would overlap.
        crop_size: Side of a crop in the last image, pixels.
        title: Heading.
    """
    reference = panels[-1][1]
    boxes = detailed(reference, crops, crop_size)
    height, width = reference.shape[:2]
    ratio = min(max(height / width, 0.3), 1.8)
    figure = Figure(
        figsize=(PANEL * len(panels), PANEL * (ratio + len(boxes)) + 0.35 + 0.3 * bool(title)),
        layout="constrained",
    )
    if title:
        figure.suptitle(title)
    axes = figure.subplots(
        1 + len(boxes), len(panels), squeeze=False, height_ratios=[ratio, *[1.0] * len(boxes)]
    )
    for column, (caption, image) in enumerate(panels):
        scale = (image.shape[0] / height, image.shape[1] / width)
        axes[0, column].set_title(caption, fontsize="medium")
        _show(
            axes[0, column], _visible(image, max(image.shape[:2]) // OVERVIEW), extent=(0, width, height, 0)
        )
        for row, (top, left, rows, columns) in enumerate(boxes):
            colour = FRAMES[row % len(FRAMES)]
            axes[0, column].add_patch(_frame((top, left, rows, columns), width / 40, colour))
            part = _cut(image, (top, left, rows, columns), scale)
            _show(axes[1 + row, column], _visible(part), extent=(0, columns, rows, 0), frame=colour)
    return figure


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Draws values over a common axis, such as PSNR over the noise level; the first series stands out.

    Args:
        x: ``(N,)`` positions.
        series: Name to ``(N,)`` values; nan leaves a gap.
        xlabel: What the positions are, with the unit.
        ylabel: What the values are, with the unit.
        title: Heading.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axis = figure.subplots()
    for i, (name, values) in enumerate(series.items()):
        axis.plot(x, values, marker="o", markersize=4, label=name, color=f"C{i}", linewidth=1 if i else 2.2)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.grid(color="0.9")
    axis.legend(frameon=False, fontsize="small")
    return figure


def detailed(image: np.ndarray, count: int, size: int) -> list[Box]:
    """Returns the square parts of an image that have most detail and do not overlap.

    Detail is the standard deviation within cells of a sixth of the side, averaged over the part: texture counts more
    than one strong edge.

    Args:
        image: ``(H, W, C)``.
        count: Most parts to return.
        size: Side of a part, pixels; made whole cells, and smaller where the image is.

    Returns:
        The parts, most detail first.
    """
    size = min(size, *image.shape[:2])
    cell = max(1, size // 6)
    across = size // cell
    size = across * cell
    rows, columns = (side // cell for side in image.shape[:2])
    # Cell by row of cells, so that a large image is never held a second time in double precision.
    deviation = np.stack(
        [
            image[i * cell : (i + 1) * cell, : columns * cell]
            .reshape(cell, columns, cell, -1)
            .astype(np.float64)
            .std(axis=(0, 2))
            .mean(axis=-1)
            for i in range(rows)
        ]
    )
    sums = np.pad(deviation, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    detail = (
        sums[across:, across:] - sums[:-across, across:] - sums[across:, :-across] + sums[:-across, :-across]
    )
    found: list[Box] = []
    while len(found) < count and np.isfinite(detail.max()):
        i, j = np.unravel_index(int(detail.argmax()), detail.shape)
        found.append((int(i) * cell, int(j) * cell, size, size))
        detail[max(0, i - across + 1) : i + across, max(0, j - across + 1) : j + across] = -np.inf
    return found


def _show(
    axis: Axes, image: np.ndarray, extent: tuple[float, float, float, float], frame: str | None = None
) -> None:
    axis.imshow(
        image,
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=extent,
        interpolation="nearest" if frame else "auto",
    )
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2)


def _cut(image: np.ndarray, box: Box, scale: tuple[float, float]) -> np.ndarray:
    """Returns a part of the scene from an image whose pixels are ``scale`` to those of the box."""
    top, left, rows, columns = box
    first, second = round(top * scale[0]), round(left * scale[1])
    return image[
        first : first + max(1, round(rows * scale[0])), second : second + max(1, round(columns * scale[1]))
    ]


def _frame(box: Box, least: float, colour: str) -> Rectangle:
    """Returns the frame of a part, enlarged about its centre where the image is too large to see it."""
    top, left, rows, columns = box
    more = max(0.0, least - columns) / 2
    return Rectangle(
        (left - more, top - more),
        columns + 2 * more,
        rows + 2 * more,
        fill=False,
        edgecolor=colour,
        linewidth=1.5,
    )


def _visible(image: np.ndarray, step: int = 1) -> np.ndarray:
    """Returns gray ``(H, W)`` or RGB ``(H, W, 3)`` in [0, 1]; means of ``step`` x ``step`` pixels."""
    kept = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if step > 1:
        # Before the conversion to float, so that a large image is never held a second time.
        rows, columns = (max(1, side // step) for side in kept.shape[:2])
        kept = kept[: rows * step, : columns * step]
        kept = kept.reshape(rows, kept.shape[0] // rows, columns, kept.shape[1] // columns, -1)
        kept = kept.mean((1, 3), dtype=np.float32)
    values = np.clip(kept.astype(np.float32) / np.float32(peak(image.dtype)), 0, 1)
    return values if values.shape[2] == 3 else values[..., 0]
