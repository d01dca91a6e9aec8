"""The ECG task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.ecg.config import MODELS, EcgConfig, EcgEvaluateConfig, EcgPredictConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from core.track.package import Package
    from tasks.ecg.classifier import Classifier
    from tasks.ecg.data.dataset import EcgData


class Ecg(Task):
    """Findings in electrocardiograms."""

    name = "ecg"
    title = "classifier"
    summary = "electrocardiograms: ResNet-1D and 1D-CNN-ECG-Mamba name abnormalities; not a medical device"
    config_class = EcgConfig
    evaluate_class = EcgEvaluateConfig
    predict_class = EcgPredictConfig
    models = MODELS
    higher_is_better = True
    unit = "AUROC"
    limits = ("Research software: not a medical device, not for diagnosis or treatment.",)
    trained_for = (
        *("labels", "label_set", "least", "leads", "missing_leads", "rate"),
        *("centre", "highpass", "lowpass", "notch"),
        *("patient", "test_share", "validation_share", "folds"),  # who was held out
    )
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "synthetic": "records made by a dipole model with rhythm, axis, block and ischaemia; they promise nothing",
        "ptbxl": "PTB-XL with its tables and folds",
        "ludb": "the Lobachevsky University database",
        "challenge": "WFDB or .mat files with SNOMED CT codes in their headers, as in the PhysioNet challenges",
        "table": "your records (WFDB, .mat, .csv, .npy, .npz) and a CSV file of labels",
    }
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.ecg.train",
            "python -m tasks.ecg.train --config tasks/ecg/configs/ludb.yaml --data.path ludb",
            "python -m tasks.ecg.train --config tasks/ecg/configs/ludb.yaml --data.path ludb --model ecg_mamba_tiny",
            "python -m tasks.ecg.train --config tasks/ecg/configs/ptbxl.yaml --data.path ptb-xl",
            "python -m tasks.ecg.train --data.path records --data.table labels.csv --model.rule fixup",
            "python -m tasks.ecg.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.ecg.evaluate",
            "python -m tasks.ecg.evaluate --data.test_path other_hospital --scoring.pool mean",
        ],
        "predict": [
            "python -m tasks.ecg.predict --input record.hea",
            "python -m tasks.ecg.predict --input records --output findings.csv --page pdf",
            "python -m tasks.ecg.predict --input ecg.csv --input_rate 500 --units uV",
        ],
        "export": ["python -m tasks.ecg.export --format onnx --output export"],
    }

    def load(self, config: Any) -> EcgData:
        """Reads and checks the records."""
        from tasks.ecg.checks import check_scoring, check_test
        from tasks.ecg.data.load import load_data

        check_scoring(config.scoring)
        data = load_data(config.data)
        check_test(data)
        return data

    def primary_metric(self, config: Any, data: EcgData) -> str:
        """Area under the ROC curve, the mean over the classes."""
        return "macro_auroc"

    def parts(self, config: EcgConfig, data: EcgData) -> list[Part]:
        """One network for each fold, one without folds."""
        from tasks.ecg.build import build_parts

        if not all(len(fold.train) for fold in data.folds):
            raise ConfigError("training needs records to learn from: give --data.path FOLDER")
        return build_parts(config, data)

    def package(self, config: EcgConfig, data: EcgData, learners: dict[str, Any]) -> Packaged:
        """Weights, what rebuilds the networks, and the threshold of each class."""
        from tasks.ecg.build import build_package

        return build_package(config, data, learners)

    def predictor(self, package: Package) -> Classifier:
        """Rebuilds the networks and what is around them."""
        from tasks.ecg.classifier import Classifier

        return Classifier(package.config, self.modules(package), package.metadata)

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """The trained networks."""
        from tasks.ecg.build import load_networks

        return load_networks(package)

    def first_weights(self, package: Package, part: str, data: EcgData) -> dict[str, Tensor]:
        """Weights of the network of a fold, or else of the first; those of the classes by their names."""
        from tasks.ecg.build import first_weights

        return first_weights(package, part, data.classes)

    def evaluate(self, predictor: Classifier, config: Any, data: EcgData) -> Evaluation:
        """Scores the held-out records."""
        from tasks.ecg.checks import check_prepared
        from tasks.ecg.scoring import score_classifier

        check_prepared(predictor.config, config.data, data)
        return score_classifier(predictor.ordered(data.classes), config, data)

    def baselines(self, config: Any, data: EcgData) -> dict[str, Evaluation]:
        """Logistic regression on intervals and amplitudes, and the classes' shares."""
        from tasks.ecg.scoring import score_baselines

        return score_baselines(config, data)

    def figures(
        self, predictor: Classifier, config: Any, data: EcgData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """ROC, precision and recall, calibration, classes beside the baseline, and the worst errors on paper."""
        from tasks.ecg.figures import draw_all

        return draw_all(predictor.ordered(data.classes), config, data, results)

    def predict(self, predictor: Classifier, config: EcgPredictConfig) -> list[str]:
        """Writes probabilities of the findings, and pages."""
        from tasks.ecg.checks import check_windows
        from tasks.ecg.serving import predict_files

        check_windows(config, "")
        return predict_files(predictor, config)

    def default_output(self, predictor: Classifier, config: EcgPredictConfig) -> str | None:
        """``findings.csv``."""
        return "findings.csv"

    def serve(self, predictor: Classifier, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc: records as JSON in, probabilities out."""
        from tasks.ecg.serving import serve_frame

        return serve_frame(predictor, frame, params)

    def example(self, predictor: Classifier) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One short record."""
        from tasks.ecg.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Classifier, folder: Path, format: str) -> list[Path]:
        """A program that takes windows in mV and gives probabilities."""
        from tasks.ecg.programs import export_classifier

        return export_classifier(predictor, folder, format, self.name)


TASK = Ecg()
