"""The segmentation task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.segmentation.config import MODELS, SegEvaluateConfig, SegmentationConfig, SegPredictConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from core.track.package import Package
    from tasks.segmentation.data.cases import SegmentationData
    from tasks.segmentation.segmenter import Segmenter


class Segmentation(Task):
    """Classes of pixels and voxels, in images and volumes."""

    name = "segmentation"
    title = "network"
    summary = "images and volumes: R2U-Net and a self-configuring nnU-Net give every voxel a class"
    config_class = SegmentationConfig
    evaluate_class = SegEvaluateConfig
    predict_class = SegPredictConfig
    models = MODELS
    higher_is_better = True
    unit = "Dice"
    trained_for = (
        *("channels", "instances", "subject", "layout"),
        *("test_share", "validation_share", "folds", "fold", "splits", "label_share"),  # who was held out
    )
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "cells": "made images of touching cells; they promise nothing about real ones",
        "organs": "made volumes of two organs in an nnU-Net folder; the same holds",
        "folder": "your images or volumes: nnU-Net, Decathlon, DRIVE, or folders of images and labels",
    }
    bundled = {  # noqa: RUF012
        "nuclei": "fluorescent and stained cell nuclei, told apart: a narrow ResEnc U-Net on a part of DSB2018",
    }
    more_commands = {  # noqa: RUF012
        "plan": "plans of nnU-Net for a data set, and why",
        "best": "the best of cross-validated models and their pairs",
        "from_nnunet": "trainings of nnU-Net v2 as models of ours",
    }
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.segmentation.train",
            "python -m tasks.segmentation.train --data.path Dataset004_Hippocampus",
            "python -m tasks.segmentation.train --data.path Task04_Hippocampus --plan.preset resenc_l --data.folds 5",
            "python -m tasks.segmentation.train --config tasks/segmentation/configs/drive.yaml --data.path DRIVE",
            "python -m tasks.segmentation.train --model smp --model.decoder FPN --model.encoder resnet34 "
            "--data.path nuclei",
            "python -m tasks.segmentation.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.segmentation.evaluate",
            "python -m tasks.segmentation.evaluate --model nuclei --data.test_path dsb2018",
            "python -m tasks.segmentation.evaluate --data.test_path other_hospital --scoring.mirror yes",
        ],
        "predict": [
            "python -m tasks.segmentation.predict --input volume.nii.gz",
            "python -m tasks.segmentation.predict --model nuclei --input cells.png --overlay",
            "python -m tasks.segmentation.predict --input images --output masks --overlay",
        ],
        "export": ["python -m tasks.segmentation.export --format onnx --output export"],
        "plan": ["python -m tasks.segmentation.plan --data.path Dataset004_Hippocampus"],
        "best": [
            "python -m tasks.segmentation.best --models '[runs/segmentation/A, runs/segmentation/B]' --output best"
        ],
    }

    def variant(self, objective: str | None) -> Task:
        """Pre-training without labels is measured, and registered, apart."""
        if objective != "masked":
            return self
        from tasks.segmentation.pretraining import Pretraining

        return Pretraining()

    def load(self, config: Any) -> SegmentationData:
        """Looks at all images and labels, after what can be said without them."""
        from tasks.segmentation.checks import check_scoring
        from tasks.segmentation.data.load import load_data

        check_scoring(config.scoring)
        return load_data(config.data)

    def primary_metric(self, config: Any, data: SegmentationData) -> str:
        """Dice, mean over cases and classes."""
        return "dice"

    def parts(self, config: SegmentationConfig, data: SegmentationData) -> list[Part]:
        """One network for each fold, one without folds."""
        from tasks.segmentation.build import build_parts
        from tasks.segmentation.cascade import check_same_data, find_previous

        if not all(fold.train for fold in data.folds):
            raise ConfigError("training needs cases to learn from: give --data.path FOLDER")
        found = find_previous(self, config)
        if found is None:
            return build_parts(config, data, None)
        said = check_same_data(*found, data)
        parts = build_parts(config, data, found[0])
        parts[0].note += f"; {said}"
        return parts

    def package(
        self, config: SegmentationConfig, data: SegmentationData, learners: dict[str, Any]
    ) -> Packaged:
        """Weights, plan, and what is done to a segmentation afterwards."""
        from tasks.segmentation.build import build_package
        from tasks.segmentation.cascade import find_previous

        networks = {name: learner.model.cpu().eval() for name, learner in learners.items()}
        return build_package(config, data, networks, find_previous(self, config))

    def predictor(self, package: Package) -> Segmenter:
        """Rebuilds the networks and the pipeline around them."""
        from tasks.segmentation.build import load_segmenter

        if package.config["objective"] != "segment":
            raise ConfigError(
                f"{package.folder} was pre-trained without labels and segments nothing; fine-tune it: "
                "train --train.start_from MODEL --train.schedule sawtooth"
            )
        return load_segmenter(package)

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """The trained networks."""
        from tasks.segmentation.build import load_networks

        return load_networks(package)

    def first_weights(self, package: Package, part: str, data: Any) -> dict[str, Tensor]:
        """Weights of the network of a fold, or else of the first; those of the classes by their names."""
        from tasks.segmentation.build import first_weights

        return first_weights(package, part, data.labels)

    def evaluate(self, predictor: Segmenter, config: Any, data: SegmentationData) -> Evaluation:
        """Scores Dice, IoU and distances of surfaces on the held-out cases."""
        from tasks.segmentation.scoring import score_segmenter

        return score_segmenter(predictor, config, data)

    def baselines(self, config: Any, data: SegmentationData) -> dict[str, Evaluation]:
        """Thresholds for single classes, the mean shape of the training labels for others."""
        from tasks.segmentation.baselines import score_baselines

        return score_baselines(config, data)

    def figures(
        self, predictor: Segmenter, config: Any, data: SegmentationData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """The worst cases with their errors, and Dice by class."""
        from tasks.segmentation.figures import draw_all

        return draw_all(predictor, config, data, results)

    def predict(self, predictor: Segmenter, config: SegPredictConfig) -> list[str]:
        """Writes label maps in the geometry of the files."""
        from tasks.segmentation.serving import predict_files

        return predict_files(predictor, config)

    def default_output(self, predictor: Segmenter, config: SegPredictConfig) -> str | None:
        """``volume_seg.nii.gz`` for ``volume.nii.gz``."""
        from tasks.segmentation.serving import default_output

        return default_output(config)

    def serve(self, predictor: Segmenter, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc: base64 of files in, base64 of label files out."""
        from tasks.segmentation.serving import serve_frame

        return serve_frame(predictor, frame, params)

    def example(self, predictor: Segmenter) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One small image."""
        from tasks.segmentation.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Segmenter, folder: Path, format: str) -> list[Path]:
        """A program for a batch of patches."""
        from tasks.segmentation.programs import export_segmenter

        return export_segmenter(predictor, folder, format, self.name)


TASK = Segmentation()
