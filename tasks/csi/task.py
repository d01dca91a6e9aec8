"""The CSI task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.csi.config import MODELS, CsiConfig, CsiEvaluateConfig, CsiPredictConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from core.track.package import Package
    from tasks.csi.data.dataset import CsiData
    from tasks.csi.predictor import Predictor


class Csi(Task):
    """Channel state information of the next reports."""

    name = "csi"
    title = "network"
    summary = "radio channels: CSI-4CAST predicts the next reports of channel state information"
    config_class = CsiConfig
    evaluate_class = CsiEvaluateConfig
    predict_class = CsiPredictConfig
    models = MODELS
    higher_is_better = False
    unit = "dB"
    trained_for = (
        *(
            "duplex",
            "rows",
            "columns",
            "subcarriers",
            "gap",
            "spacing",
            "carrier",
            "period",
            "history",
            "horizon",
        ),
        *("models", "delay_spreads", "speeds", "slower", "samples", "validation_share", "snr", "seed"),
        *("test_models", "test_delay_spreads", "test_speeds", "test_samples", "test_noise"),
    )
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "cdl": "clustered delay lines of 3GPP TR 38.901, made by sionna-no-rt and kept on disk",
        "files": "a folder in the layout of CSI-4CAST's data",
    }
    more_commands = {"generate": "channels as files, in the layout of CSI-4CAST's data"}  # noqa: RUF012
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.csi.train",
            "python -m tasks.csi.train --config tasks/csi/configs/small_tdd.yaml",
            "python -m tasks.csi.train --config tasks/csi/configs/small_tdd.yaml --model cnn --model.rule skipinit",
            "python -m tasks.csi.train --config tasks/csi/configs/regular_tdd.yaml --data.path csi_rrg",
            "python -m tasks.csi.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.csi.evaluate --data.test_noise '[clean, awgn:5, phase:10dB, burst:10dB, drop:0.1]'",
            "python -m tasks.csi.evaluate --data.test_models '[B, E]' --data.test_speeds '[1, 5, 10]'",
        ],
        "predict": ["python -m tasks.csi.predict --input H_U_hist.pt --output H_U_pred.npy"],
        "export": ["python -m tasks.csi.export --format onnx --output export"],
        "generate": [
            "python -m tasks.csi.generate --output csi_small --data.rows 2 --data.columns 2 --data.samples 100",
        ],
    }

    def load(self, config: Any) -> CsiData:
        """Reads the channels, and makes those that are not there yet."""
        from tasks.csi.checks import check_scoring
        from tasks.csi.data.load import load_data

        check_scoring(config.scoring)
        return load_data(config.data)

    def primary_metric(self, config: Any, data: CsiData) -> str:
        """Normalised mean square error over all test samples and disturbances, dB; ``nmse`` decides in training."""
        return "nmse_db"

    def parts(self, config: CsiConfig, data: CsiData) -> list[Part]:
        """One network."""
        from tasks.csi.build import build_parts

        if not len(data.train):
            raise ConfigError(
                "there are no channels to learn from: raise --data.samples, lower --data.validation_share, or give a"
                " --data.path with train/regular"
            )
        return build_parts(config, data)

    def package(self, config: CsiConfig, data: CsiData, learners: dict[str, Any]) -> Packaged:
        """Weights and what rebuilds the network."""
        from tasks.csi.build import build_package

        return build_package(config, data, learners["model"].model.cpu().eval())

    def predictor(self, package: Package) -> Predictor:
        """Rebuilds the network and what is around it."""
        from tasks.csi.predictor import Predictor

        return Predictor(package.config, self.modules(package)["model"], package.metadata)

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """The trained network."""
        from tasks.csi.build import load_network

        return {"model": load_network(package)}

    def evaluate(self, predictor: Predictor, config: Any, data: CsiData) -> Evaluation:
        """Scores the test channels under every disturbance."""
        from tasks.csi.scoring import score_predictor

        return score_predictor(predictor, config, data)

    def baselines(self, config: Any, data: CsiData) -> dict[str, Evaluation]:
        """No prediction, autoregression, Wiener's filter and Prony's method."""
        from tasks.csi.scoring import score_baselines

        return score_baselines(config, data)

    def figures(
        self, predictor: Predictor, config: Any, data: CsiData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """Error by model, speed, delay spread and disturbance; a channel and its prediction."""
        from tasks.csi.figures import draw_all

        return draw_all(predictor, config, data, results)

    def predict(self, predictor: Predictor, config: CsiPredictConfig) -> list[str]:
        """Writes the next reports."""
        from tasks.csi.serving import predict_files

        return predict_files(predictor, config)

    def default_output(self, predictor: Predictor, config: CsiPredictConfig) -> str | None:
        """``H_U_hist_predicted.npy`` for ``H_U_hist.pt``."""
        from tasks.csi.serving import default_output

        return default_output(config)

    def serve(self, predictor: Predictor, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc: base64 of .npy files in and out."""
        from tasks.csi.serving import serve_frame

        return serve_frame(predictor, frame, params)

    def example(self, predictor: Predictor) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One history."""
        from tasks.csi.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Predictor, folder: Path, format: str) -> list[Path]:
        """A program from histories of antennas to their next reports."""
        from tasks.csi.programs import export_predictor

        return export_predictor(predictor, folder, format, self.name)


TASK = Csi()
