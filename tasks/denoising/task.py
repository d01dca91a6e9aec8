"""The denoising task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.denoising.config import (
    MODELS,
    DenoisingConfig,
    DenoisingEvaluateConfig,
    DenoisingPredictConfig,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from core.infer.restorer import Restorer
    from core.track.package import Package
    from tasks.denoising.data import DenoisingData


class Denoising(Task):
    """Removal of noise, blur of enlargement and JPEG artefacts from images."""

    name = "denoising"
    title = "denoiser"
    summary = "images: DnCNN and RIDNet against Gaussian, camera and JPEG noise"
    config_class = DenoisingConfig
    evaluate_class = DenoisingEvaluateConfig
    predict_class = DenoisingPredictConfig
    models = MODELS
    higher_is_better = True
    unit = "dB"
    trained_for = ("kinds", "sigma", "photons", "scales", "quality", "channels")
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "photographs": "photographs inside scikit-image, split by image",
        "folder": "your folder of clean images; the noise is added",
        "pairs": "your folder of noisy and clean images of the same scenes",
    }
    bundled = {  # noqa: RUF012
        "dncnn_color": "colour, Gaussian noise of any level up to 55: a blind DnCNN on 200 photographs of BSDS",
        "ridnet_camera": "colour, camera noise: a small RIDNet on PolyU",
        "dncnn_gray_25": "gray, Gaussian noise of sigma 25: DnCNN-S on BSD400",
    }
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.denoising.train",
            "python -m tasks.denoising.train --data.path photos --data.sigma '[0, 55]' --model.layers 20",
            "python -m tasks.denoising.train --model ridnet --data.path pairs --data.scene '^[^_]+'",
            "python -m tasks.denoising.train --config tasks/denoising/configs/dncnn_s.yaml --data.path bsd400",
            "python -m tasks.denoising.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.denoising.evaluate --model dncnn_gray_25",
            "python -m tasks.denoising.evaluate --model dncnn_gray_25 --data.test_path '[set12]' --all-protocols",
        ],
        "predict": [
            "python -m tasks.denoising.predict --input photo.png",
            "python -m tasks.denoising.predict --input photos --output clean --side-by-side",
        ],
        "export": ["python -m tasks.denoising.export --format onnx --output export"],
    }

    def load(self, config: Any) -> DenoisingData:
        """Reads and checks the images."""
        from core.infer.scoring import protocol_of
        from tasks.denoising.data import load_data
        from tasks.denoising.noise import check
        from tasks.denoising.scoring import check_baselines

        check(config.data)
        check_baselines(config.scoring.baselines)
        protocol_of(config.scoring)
        return load_data(config.data)

    def primary_metric(self, config: Any, data: DenoisingData) -> str:
        """PSNR."""
        return "psnr"

    def parts(self, config: DenoisingConfig, data: DenoisingData) -> list[Part]:
        """One network."""
        from tasks.denoising.build import build_parts

        if data.train is None:
            raise ConfigError("training needs images to learn from: give --data.path FOLDER")
        return build_parts(config, data)

    def package(self, config: DenoisingConfig, data: DenoisingData, learners: dict[str, Any]) -> Packaged:
        """Weights and what rebuilds the network."""
        from tasks.denoising.build import build_package

        return build_package(config, data, learners)

    def predictor(self, package: Package) -> Restorer:
        """Rebuilds the network in its form for inference."""
        from core.infer.restorer import Restorer

        return Restorer(self.modules(package)["model"], package.metadata)

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """The trained network."""
        from tasks.denoising.build import load_model

        return {"model": load_model(package)}

    def evaluate(self, predictor: Restorer, config: Any, data: DenoisingData) -> Evaluation:
        """Scores PSNR and SSIM on the test images."""
        from tasks.denoising.scoring import score_denoiser

        return score_denoiser(predictor, config, data)

    def baselines(self, config: Any, data: DenoisingData) -> dict[str, Evaluation]:
        """Non-local means, the noisy images, and BM3D if asked for."""
        from tasks.denoising.scoring import score_baselines

        return score_baselines(config, data)

    def figures(
        self, predictor: Restorer, config: Any, data: DenoisingData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """Crops of noisy, restored and clean images, and PSNR by noise level."""
        from tasks.denoising.figures import draw_all

        return draw_all(predictor, config, data, results)

    def predict(self, predictor: Restorer, config: DenoisingPredictConfig) -> list[str]:
        """Denoises image files."""
        from tasks.denoising.serving import predict_files

        return predict_files(predictor, config)

    def default_output(self, predictor: Restorer, config: DenoisingPredictConfig) -> str | None:
        """``photo_denoised.png`` for ``photo.png``."""
        from core.infer.files import beside

        return beside(str(config.input), "denoised")

    def serve(self, predictor: Restorer, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc: base64 of image files in and out."""
        from core.infer.serving import serve_frame

        return serve_frame(predictor, frame)

    def example(self, predictor: Restorer) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One small image."""
        from core.infer.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Restorer, folder: Path, format: str) -> list[Path]:
        """A program for images of any size."""
        from core.infer.programs import export_restorer

        return export_restorer(predictor, folder, format, self.name)


TASK = Denoising()
