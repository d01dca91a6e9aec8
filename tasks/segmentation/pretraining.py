"""Pre-training without labels as the shared commands see it: trained, measured and registered like a segmentation.

Its model fills in what is masked (:mod:`tasks.segmentation.masked`) and is the start of one that segments:
``train --train.start_from RUN --train.schedule sawtooth``. Imports no heavy library.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.segmentation.task import Segmentation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from core.track.package import Package
    from tasks.segmentation.config import SegmentationConfig
    from tasks.segmentation.data.cases import SegmentationData
    from tasks.segmentation.filling import Filler


class Pretraining(Segmentation):
    """Masked autoencoding (arXiv:2410.23132) of the networks of the task."""

    title = "masked autoencoder"
    unit = "of the variance"

    @property
    def registered_name(self) -> str:
        """A name of its own: it must not become the champion that segments."""
        return f"skipway-{self.name}-pretrained"

    def variant(self, objective: str | None) -> Task:
        """Itself: what asks for it has it already."""
        return self

    def load(self, config: SegmentationConfig) -> SegmentationData:
        """Looks at all images; labels may be missing."""
        from tasks.segmentation.data.load import load_data

        return load_data(config.data, labelled=False)

    def primary_metric(self, config: SegmentationConfig, data: SegmentationData) -> str:
        """Share of the variance of masked voxels that is explained."""
        return "explained"

    def parts(self, config: SegmentationConfig, data: SegmentationData) -> list[Part]:
        """One network."""
        from tasks.segmentation.filling import build_parts

        if not all(fold.train for fold in data.folds):
            raise ConfigError("pre-training needs images to learn from: give --data.path FOLDER")
        return build_parts(config, data)

    def package(
        self, config: SegmentationConfig, data: SegmentationData, learners: dict[str, Any]
    ) -> Packaged:
        """Weights and plan."""
        from tasks.segmentation.build import build_package

        return build_package(
            config, data, {name: learner.model.cpu().eval() for name, learner in learners.items()}
        )

    def predictor(self, package: Package) -> Filler:  # type: ignore[override]  # it segments nothing
        """Rebuilds the network."""
        from tasks.segmentation.filling import Filler

        return Filler(package)

    def evaluate(  # type: ignore[override]
        self, predictor: Filler, config: SegmentationConfig, data: SegmentationData
    ) -> Evaluation:
        """Scores what is filled in on the held-out cases."""
        from tasks.segmentation.filling import score

        return score(predictor.fill, config, data, predictor.plan, predictor.channels)

    def baselines(self, config: SegmentationConfig, data: SegmentationData) -> dict[str, Evaluation]:
        """The nearest voxel that is not masked, and the mean of them."""
        from tasks.segmentation.filling import score_baselines

        return score_baselines(config, data)

    def figures(  # type: ignore[override]
        self,
        predictor: Filler,
        config: SegmentationConfig,
        data: SegmentationData,
        results: dict[str, Evaluation],
    ) -> Iterator[tuple[str, Figure]]:
        """Patches as they are, masked, and filled in."""
        from tasks.segmentation.filling import draw

        yield "filled", draw(results)

    def serve(  # type: ignore[override]
        self, predictor: Filler, frame: pd.DataFrame, params: dict[str, Any]
    ) -> pd.DataFrame:
        """Says how much of each image the model explains."""
        from tasks.segmentation.filling import serve_frame

        return serve_frame(predictor, frame)

    def example(self, predictor: Filler) -> tuple[pd.DataFrame, dict[str, Any]]:  # type: ignore[override]
        """One small image."""
        from tasks.segmentation.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Filler, folder: Path, format: str) -> list[Path]:  # type: ignore[override]
        """Not offered: what is pre-trained is a start."""
        raise ConfigError(
            "a pre-trained model is a start and has no program; fine-tune it, and export the result"
        )
