"""Label maps over images: whole images with an enlarged part, volumes as three orthogonal slices.

Figures are made without pyplot, so nothing global is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle
from scipy import ndimage

from tasks.segmentation.measures import overlaps

ERRORS = {"found, not there": "tab:red", "missed": "tab:cyan", "another class": "tab:purple"}
"""Kinds of errors, from 1 on, and their colours."""
OTHER_OBJECT = "another object"
"""The last of them where objects are told apart."""
OPACITY = 0.4
OVERVIEW = 800  # largest side of a whole image in a figure, pixels
CROP = 4  # share of the shorter side that an enlarged part shows is 1 / CROP
LEAST_CROP = 32  # pixels
AXES = "zyx"  # of a file
PANEL = 2.6  # width of a panel, inches


@dataclass(frozen=True)
class Scene:
    """A case to be drawn.

    Attributes:
        image: ``(C, Z, Y, X)``.
        spacing: mm along the axes.
        layers: Caption to label map ``(Z, Y, X)``, drawn from 1 on; the first decides where slices lie.
        errors: ``(Z, Y, X)`` of :func:`error_kinds`.
    """

    image: np.ndarray
    spacing: tuple[float, float, float]
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    errors: np.ndarray | None = None

    @property
    def flat(self) -> bool:
        """Whether it is an image."""
        return self.image.shape[1] == 1


@dataclass(frozen=True)
class View:
    """A part of a scene.

    Attributes:
        axis: That is cut across.
        index: Of the slice along it.
        box: First row, first column and side of a square; ``None`` for all.
    """

    axis: int
    index: int
    box: tuple[int, int, int] | None = None

    def of(self, volume: np.ndarray) -> np.ndarray:
        """Returns what is seen of ``(..., Z, Y, X)``."""
        plane = volume.take(self.index, self.axis - 3)
        if self.box is None:
            return plane
        top, left, side = self.box
        return plane[..., top : top + side, left : left + side]


def palette(count: int) -> np.ndarray:
    """Returns colours of classes or objects, ``(N, 3)`` RGB; what is beyond them takes them again.

    Args:
        count: Number of classes.
    """
    # Gray means image, and red, cyan and purple mean errors in the panel beside.
    if count > 7:
        return np.array(matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]
    names = ("tab:orange", "tab:green", "tab:blue", "gold", "tab:pink", "tab:olive", "tab:brown")
    return np.array([to_rgb(name) for name in names])


def error_kinds(
    truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray, objects: bool = False
) -> np.ndarray:
    """Tells errors apart, by their places in :data:`ERRORS`; 0 where there is none.

    Args:
        truth: ``(Z, Y, X)`` classes, or numbers of objects.
        predicted: The same.
        valid: ``(Z, Y, X)`` bool, where errors count.
        objects: Whether these are numbers of objects. Then what belongs to an object in both is wrong where the found
            object is none of the true ones, at half of the common area.
    """
    kinds = np.zeros(truth.shape, np.uint8)
    kinds[(predicted > 0) & (truth <= 0)] = 1
    kinds[(predicted <= 0) & (truth > 0)] = 2
    both = (predicted > 0) & (truth > 0)
    if objects:
        numbers = np.unique(predicted[predicted > 0])
        lost = numbers[(overlaps(truth, predicted) < 0.5).all(0)]
        kinds[both & np.isin(predicted, lost)] = 3
    else:
        kinds[both & (predicted != truth)] = 3
    kinds[~valid] = 0
    return kinds


def views_of(scene: Scene) -> list[View]:
    """Returns what is drawn of a scene, a row each.

    Of an image the whole, and the part with most errors if there are any. Of a volume three slices through the centre
    of the first layer, or of the volume where that is empty.
    """
    if not scene.flat:
        first = next(iter(scene.layers.values())) > 0
        middle = ndimage.center_of_mass(first) if first.any() else [n // 2 for n in first.shape]
        return [View(axis, round(float(at))) for axis, at in enumerate(middle)]
    whole = View(0, 0)
    if scene.errors is None or not scene.errors.any():
        return [whole]
    wrong = (scene.errors[0] > 0).astype(np.float32)
    side = min(max(LEAST_CROP, min(wrong.shape) // CROP), *wrong.shape)
    # Only windows that lie inside compete: the sum at a place is that of the window that starts there.
    sums = np.pad(wrong, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = (int(i) for i in np.unravel_index(inside.argmax(), inside.shape))
    return [whole, View(0, 0, (top, left, side))]


def draw_scene(figure: Figure | SubFigure, scene: Scene, colours: np.ndarray) -> None:
    """Draws image, layers and errors beside each other, a row for each of :func:`views_of`.

    Rows of a volume say where it is cut, ``z 17 of 35``: the axis of the file, and the slice counted from 1.

    Args:
        figure: Where.
        scene: What.
        colours: Of :func:`palette`.
    """
    views = views_of(scene)
    captions = ["image", *scene.layers, *(["error"] if scene.errors is not None else [])]
    axes = figure.subplots(len(views), len(captions), squeeze=False)
    sample = scene.image.ravel()[:: max(1, scene.image.size // 1_000_000)]
    limits = (float(np.percentile(sample, 0.5)), float(np.percentile(sample, 99.5)))
    for row, view in enumerate(views):
        panels = _panels(scene, view, colours, limits)
        height, width = (size for i, size in enumerate(scene.spacing) if i != view.axis)
        for axis, caption, panel in zip(axes[row], captions, panels, strict=True):
            # The first row of a volume is the lowest: files count to the front and to the top.
            axis.imshow(
                panel,
                aspect=height / width,
                origin="upper" if scene.flat else "lower",
                interpolation="nearest" if max(panel.shape) < OVERVIEW // 2 else "auto",
            )
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(caption, fontsize="small")
        if not scene.flat:
            count = scene.image.shape[1 + view.axis]
            axes[row, 0].set_ylabel(f"{AXES[view.axis]} {view.index + 1} of {count}", fontsize="small")
    for view in views:
        if view.box is not None:
            top, left, side = (size / _step(scene, views[0]) for size in view.box)
            for axis in axes[0]:
                axis.add_patch(
                    Rectangle((left, top), side, side, fill=False, edgecolor="yellow", linewidth=1)
                )


def draw_prediction(scene: Scene, names: Sequence[str], title: str) -> Figure:
    """Draws a case and its result.

    Args:
        scene: The case.
        names: Classes, the background first; empty where objects are numbered.
        title: Heading.
    """
    rows = 1 if scene.flat else 3
    figure = Figure(figsize=(2 * PANEL + 0.4, PANEL * rows + 0.8), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    colours = palette(len(names) - 1)
    draw_scene(figure, scene, colours)
    if names:
        add_legend(figure, legend_of(names, colours))
    return figure


def legend_of(
    names: Sequence[str], colours: np.ndarray, errors: Mapping[str, str] | None = None
) -> list[Patch]:
    """Returns the entries of a legend: classes (the background first, which has none) and kinds of errors."""
    entries = [Patch(color=tuple(colours[i % len(colours)]), label=name) for i, name in enumerate(names[1:])]
    return entries + [Patch(color=colour, label=name) for name, colour in (errors or {}).items()]


def add_legend(figure: Figure, entries: list[Patch]) -> None:
    """Sets a legend below everything."""
    columns = max(1, round(figure.get_size_inches()[0] / 1.8))
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=min(columns, len(entries)),
        frameon=False,
        fontsize="small",
    )


def shade(picture: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Colours what is labelled, its outlines without the image shining through.

    Args:
        picture: ``(H, W, 3)`` in [0, 1].
        labels: ``(H, W)``; values below 1 are left as they are.
        colours: ``(N, 3)``.
    """
    from skimage.segmentation import find_boundaries

    drawn = np.maximum(labels, 0)
    strength = np.where(drawn > 0, OPACITY, 0.0)
    strength[find_boundaries(drawn, mode="inner") & (drawn > 0)] = 1.0
    return _blend(picture, colours[(drawn - 1) % len(colours)], strength)


def _panels(scene: Scene, view: View, colours: np.ndarray, limits: tuple[float, float]) -> list[np.ndarray]:
    step = _step(scene, view)
    planes = view.of(scene.image)[:, ::step, ::step]
    low, high = limits
    values = np.clip((planes - low) / max(high - low, 1e-12), 0, 1)
    shown = values if len(values) == 3 else values[[0, 0, 0]]
    picture = np.ascontiguousarray(shown.transpose(1, 2, 0), np.float32)
    panels = [picture]
    panels += [shade(picture, view.of(layer)[::step, ::step], colours) for layer in scene.layers.values()]
    if scene.errors is not None:
        kinds = view.of(scene.errors)[::step, ::step]
        dim = np.repeat(picture.mean(2, keepdims=True), 3, 2) * 0.6
        table = np.array([(0.0, 0.0, 0.0), *map(to_rgb, ERRORS.values())])
        panels.append(_blend(dim, table[kinds], np.where(kinds > 0, 0.9, 0.0)))
    return panels


def _blend(picture: np.ndarray, colours: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return picture * (1 - strength[..., None]) + colours * strength[..., None]


def _step(scene: Scene, view: View) -> int:
    """Returns which pixels of a large image are shown: every second, third, ..."""
    return max(1, max(view.of(scene.image).shape[-2:]) // OVERVIEW)
