"""The keyword-spotting task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.speech.config import LIVE_INPUTS, MODELS, SpeechConfig, SpeechEvaluateConfig, SpeechPredictConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from core.track.package import Package
    from tasks.speech.data.clips import SpeechData
    from tasks.speech.spotter import Spotter


class Speech(Task):
    """Spotting of spoken words, in short recordings and in streams."""

    name = "speech"
    title = "spotter"
    summary = "recordings: res8, res15, res26 and BC-ResNet spot spoken words"
    config_class = SpeechConfig
    evaluate_class = SpeechEvaluateConfig
    predict_class = SpeechPredictConfig
    models = MODELS
    higher_is_better = True
    unit = "points"
    trained_for = (
        *("rate", "duration", "words", "old_words", "unknown", "silence"),
        *(
            "speaker",
            "test_share",
            "validation_share",
            "folds",
        ),  # so that what was held out is held out again
    )
    live_inputs = LIVE_INPUTS
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "synthetic": "made up words of made up voices; they promise nothing about real speech",
        "espeak": "your words spoken by espeak-ng; needs the extra espeak",
        "folder": "your recordings: Speech Commands, a folder for each word, or names as in FSDD",
    }
    bundled = {  # noqa: RUF012
        "words": "bed, cat and happy: a res8-narrow on a part of Speech Commands",
        "digits": "zero to nine: six res8-narrow on the six voices of FSDD",
    }
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.speech.train",
            "python -m tasks.speech.train --data.path speech_commands --data.words '[bed, cat, happy]'",
            "python -m tasks.speech.train --config tasks/speech/configs/fsdd.yaml --data.path fsdd",
            "python -m tasks.speech.train --config tasks/speech/configs/extend.yaml --extend.model words "
            "--data.path my_words",
            "python -m tasks.speech.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.speech.evaluate --model words --data.path speech_commands",
        ],
        "predict": [
            "python -m tasks.speech.predict --input clip.wav",
            "python -m tasks.speech.predict --input recordings --output words.csv",
            "python -m tasks.speech.predict --input meeting.flac --stream --false_alarms 1",
            "arecord -f S16_LE -r 16000 -c 1 | python -m tasks.speech.predict --input - --stream",
        ],
        "export": ["python -m tasks.speech.export --format onnx --output export"],
    }

    def prepare(self, config: SpeechConfig) -> SpeechConfig:
        """Takes over what a model that is extended decides."""
        from tasks.speech.base import find_base, for_extension

        return for_extension(config, find_base(self, config))

    def load(self, config: Any) -> SpeechData:
        """Reads and checks the recordings."""
        from tasks.speech.data.load import load_data
        from tasks.speech.streaming import check_scoring

        check_scoring(config.scoring)
        return load_data(config.data)

    def primary_metric(self, config: Any, data: SpeechData) -> str:
        """Accuracy over all classes, percent."""
        return "accuracy"

    def parts(self, config: SpeechConfig, data: SpeechData) -> list[Part]:
        """One network for each fold, one without folds."""
        from tasks.speech.base import find_base
        from tasks.speech.build import build_parts

        if not all(len(fold.train) for fold in data.folds):
            raise ConfigError("training needs recordings to learn from: give --data.path FOLDER")
        return build_parts(config, data, find_base(self, config))

    def package(self, config: SpeechConfig, data: SpeechData, learners: dict[str, Any]) -> Packaged:
        """Weights, what rebuilds the networks, and what thresholds cost."""
        from tasks.speech.base import find_base
        from tasks.speech.build import build_package

        return build_package(config, data, learners, find_base(self, config))

    def predictor(self, package: Package) -> Spotter:
        """Rebuilds front end and networks."""
        from tasks.speech.spotter import Spotter

        return Spotter(package.config, self.modules(package), package.metadata)

    def modules(self, package: Package) -> dict[str, nn.Module]:
        """The trained networks."""
        from tasks.speech.build import load_networks

        return load_networks(package)

    def first_weights(self, package: Package, part: str, data: Any) -> dict[str, Tensor]:
        """Weights of the network of a fold, or else of the first; those of the classes by their names."""
        from tasks.speech.build import first_weights

        return first_weights(package, part, data.classes)

    def evaluate(self, predictor: Spotter, config: Any, data: SpeechData) -> Evaluation:
        """Scores accuracy on the test clips, and the detector on a stream of them."""
        from tasks.speech.scoring import score_spotter

        return score_spotter(predictor.ordered(data.classes), config, data)

    def baselines(self, config: Any, data: SpeechData) -> dict[str, Evaluation]:
        """Means of MFCC with logistic regression, and the most frequent class."""
        from tasks.speech.scoring import score_baselines

        return score_baselines(config, data)

    def figures(
        self, predictor: Spotter, config: Any, data: SpeechData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """Confusion, ROC, DET, thresholds and the worst errors."""
        from tasks.speech.figures import draw_all

        return draw_all(predictor.ordered(data.classes), config, data, results)

    def predict(self, predictor: Spotter, config: SpeechPredictConfig) -> list[str]:
        """Names the words of recordings, or finds words in a stream."""
        from tasks.speech.serving import predict_files

        return predict_files(predictor, config)

    def default_output(self, predictor: Spotter, config: SpeechPredictConfig) -> str | None:
        """``words.csv``, and standard output for a stream."""
        return "-" if config.stream else "words.csv"

    def writes_to_stdout(self, config: SpeechPredictConfig) -> bool:
        """Events go to standard output unless a file is named."""
        return config.stream and config.output in (None, "-")

    def serve(self, predictor: Spotter, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc: base64 of audio files in, words and scores out."""
        from tasks.speech.serving import serve_frame

        return serve_frame(predictor, frame, params)

    def example(self, predictor: Spotter) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One recording of a second."""
        from tasks.speech.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Spotter, folder: Path, format: str) -> list[Path]:
        """A program that takes waveforms and gives scores."""
        from tasks.speech.programs import export_spotter

        return export_spotter(predictor, folder, format, self.name)


TASK = Speech()
