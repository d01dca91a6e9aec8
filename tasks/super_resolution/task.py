"""The super-resolution task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.super_resolution.config import (
    MODELS,
    SuperResolutionConfig,
    SuperResolutionEvaluateConfig,
    SuperResolutionPredictConfig,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from core.infer.restorer import Restorer
    from core.track.package import Package
    from tasks.super_resolution.data import SuperResolutionData


class SuperResolution(Task):
    """Enlargement of images by 2, 3, 4 or 8."""

    name = "super_resolution"
    title = "network"
    summary = "images: RCAN and CARN enlarge by 2, 3, 4 or 8"
    config_class = SuperResolutionConfig
    evaluate_class = SuperResolutionEvaluateConfig
    predict_class = SuperResolutionPredictConfig
    models = MODELS
    higher_is_better = True
    unit = "dB"
    trained_for = ("scales", "channels", "jpeg", "test_jpeg")
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "photographs": "photographs inside scikit-image, split by image",
        "folder": "your folder of large images; the small ones are made as MATLAB does",
        "pairs": "your folder of small and large images of the same scenes, LR and HR",
    }
    bundled = {  # noqa: RUF012
        "rcan_small_x2": "x2, colour: a small RCAN on 200 photographs of BSDS",
    }
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.super_resolution.train",
            "python -m tasks.super_resolution.train --data.path photos --data.scales '[2, 3, 4]' --model carn",
            "python -m tasks.super_resolution.train --data.path photos --data.scales '[4]' --data.jpeg '[30, 95]'",
            "python -m tasks.super_resolution.train --model rcan --data.path DIV2K --train.epochs 300",
            "python -m tasks.super_resolution.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.super_resolution.evaluate --data.test_path '[Set5, Set14]' --all-protocols",
            "python -m tasks.super_resolution.evaluate --data.test_path '[Set5]' --ensemble",
        ],
        "predict": [
            "python -m tasks.super_resolution.predict --input photo.png",
            "python -m tasks.super_resolution.predict --input photos --output large --scale 4 --ensemble",
        ],
        "export": ["python -m tasks.super_resolution.export --format onnx --output export"],
    }

    def load(self, config: Any) -> SuperResolutionData:
        """Reads and checks the images."""
        from core.infer.scoring import protocol_of
        from tasks.super_resolution.data import load_data

        protocol_of(replace(config.scoring, shave=config.scoring.shave or 0))
        scales = [2] if config.data.scales is None else config.data.scales
        return load_data(replace(config.data, scales=scales))

    def primary_metric(self, config: Any, data: SuperResolutionData) -> str:
        """PSNR."""
        return "psnr"

    def parts(self, config: SuperResolutionConfig, data: SuperResolutionData) -> list[Part]:
        """One network."""
        from tasks.super_resolution.build import build_parts

        if data.train is None:
            raise ConfigError("training needs images to learn from: give --data.path FOLDER")
        return build_parts(config, data)

    def package(
        self, config: SuperResolutionConfig, data: SuperResolutionData, learners: dict[str, Any]
    ) -> Packaged:
        """Weights and what rebuilds the network."""
        from tasks.super_resolution.build import build_package

        return build_package(config, data, learners)

    def predictor(self, package: Package) -> Restorer:
        """Rebuilds the network in its form for inference."""
        from core.infer.restorer import Restorer

        return Restorer(self.modules(package)["model"], package.metadata)

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """The trained network."""
        from tasks.super_resolution.build import load_model

        return {"model": load_model(package)}

    def evaluate(self, predictor: Restorer, config: Any, data: SuperResolutionData) -> Evaluation:
        """Scores PSNR and SSIM on the test images."""
        from tasks.super_resolution.scoring import score_network

        return score_network(predictor, config, data)

    def baselines(self, config: Any, data: SuperResolutionData) -> dict[str, Evaluation]:
        """Bicubic enlargement, and others if asked for."""
        from tasks.super_resolution.scoring import score_baselines

        return score_baselines(config, data)

    def figures(
        self, predictor: Restorer, config: Any, data: SuperResolutionData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """Crops of small, enlarged and true images."""
        from tasks.super_resolution.figures import draw_all

        return draw_all(config, data, results)

    def predict(self, predictor: Restorer, config: SuperResolutionPredictConfig) -> list[str]:
        """Enlarges image files."""
        from tasks.super_resolution.serving import predict_files

        return predict_files(predictor, config)

    def default_output(self, predictor: Restorer, config: SuperResolutionPredictConfig) -> str | None:
        """``photo_x2.png`` for ``photo.png``."""
        from core.infer.files import beside

        return beside(str(config.input), f"x{config.scale or predictor.scales[0]}")

    def serve(self, predictor: Restorer, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc: base64 of image files in and out."""
        from core.infer.serving import serve_frame

        return serve_frame(predictor, frame, params.get("scale"))

    def example(self, predictor: Restorer) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One small image, enlarged by the model's first scale."""
        from core.infer.serving import example_request

        frame, params = example_request(predictor)
        return frame, params | {"scale": predictor.scales[0]}

    def export(self, predictor: Restorer, folder: Path, format: str) -> list[Path]:
        """One program for each scale, for images of any size."""
        from core.infer.programs import export_restorer

        return export_restorer(predictor, folder, format, self.name)


TASK = SuperResolution()
