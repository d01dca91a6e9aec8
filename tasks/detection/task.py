"""The detection task as the shared commands see it. Imports no heavy library: ``--help`` loads this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from core.task import Evaluation, Packaged, Part, Task
from tasks.detection.config import MODELS, DetectionConfig, DetEvaluateConfig, DetPredictConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

    from core.track.package import Package
    from tasks.detection.data.dataset import DetectionData
    from tasks.detection.detector import Detector


class Detection(Task):
    """Boxes of objects in images, and their masks."""

    name = "detection"
    title = "network"
    summary = "images and videos: RTMDet on any backbone finds objects, with boxes and masks"
    config_class = DetectionConfig
    evaluate_class = DetEvaluateConfig
    predict_class = DetPredictConfig
    models = MODELS
    higher_is_better = True
    unit = "mAP"
    trained_for = (
        *("layout", "classes", "single_class", "voc_one_based"),
        *("group", "test_share", "validation_share", "train_share"),  # who was held out
    )
    datasets = {  # noqa: RUF012  # ClassVar in the base class
        "overlays": "text and shapes drawn on the photographs inside scikit-image; exact boxes, no download",
        "folder": "your images and boxes: COCO, Pascal VOC or YOLO",
    }
    more_commands = {  # noqa: RUF012
        "convert": "COCO, Pascal VOC and YOLO, each into the others",
        "from_mmdet": "RTMDet checkpoints of mmdetection as models of ours",
        "run_onnx": "an exported detector on images, without torch",
    }
    examples = {  # noqa: RUF012
        "train": [
            "python -m tasks.detection.train",
            "python -m tasks.detection.train --config tasks/detection/configs/bccd.yaml --data.path BCCD",
            "python -m tasks.detection.train --config tasks/detection/configs/bccd.yaml --data.path cells "
            "--model.size s --model.backbone resnet18 --model.rule fixup",
            "python -m tasks.detection.train --config tasks/detection/configs/rtmdet_tiny.yaml --data.path coco",
            "python -m tasks.detection.train --model rtmdet_ins --model.size nano --image_size 320 "
            "--data.path coco_with_masks",
            "python -m tasks.detection.train --train.start_from rtmdet_tiny_coco --model.size tiny --image_size 640 "
            "--train.freeze '[backbone]' --data.path mine",
            "python -m tasks.detection.train --resume last",
        ],
        "evaluate": [
            "python -m tasks.detection.evaluate",
            "python -m tasks.detection.evaluate --data.test_path other_camera --scoring.tile 640",
        ],
        "predict": [
            "python -m tasks.detection.predict --input photo.jpg",
            "python -m tasks.detection.predict --input photos --output found --score 0.5 --classes '[text]'",
            "python -m tasks.detection.predict --input aerial.tif --tile 640",
            "python -m tasks.detection.predict --input clip.mp4 --every 5",
        ],
        "export": ["python -m tasks.detection.export --format onnx --output export"],
        "convert": [
            "python -m tasks.detection.convert --data.path VOC2007 --format coco --output voc2007_coco"
        ],
    }

    def load(self, config: Any) -> DetectionData:
        """Looks at all images and annotations, after what can be said without them."""
        from tasks.detection.checks import check_inference
        from tasks.detection.data.load import load_data

        check_inference(config.scoring, "scoring")
        return load_data(config.data)

    def primary_metric(self, config: Any, data: DetectionData) -> str:
        """COCO's mAP."""
        return "map"

    def parts(self, config: DetectionConfig, data: DetectionData) -> list[Part]:
        """One network."""
        from tasks.detection.build import build_parts

        if not len(data.train):
            raise ConfigError("training needs images to learn from: give --data.path FOLDER")
        return build_parts(config, data)

    def package(self, config: DetectionConfig, data: DetectionData, learners: dict[str, Any]) -> Packaged:
        """Weights, classes and input size."""
        from tasks.detection.build import build_package

        return build_package(config, data, learners["model"].model.cpu().eval())

    def predictor(self, package: Package) -> Detector:
        """Rebuilds the network and what is around it."""
        from tasks.detection.build import load_detector

        return load_detector(package)

    def first_weights(self, package: Package, part: str, data: DetectionData) -> dict[str, Tensor]:
        """The trained weights; those of the classes where the model knows all of the data's, by their names."""
        from tasks.detection.build import first_weights

        return first_weights(package, data.classes)

    def evaluate(self, predictor: Detector, config: Any, data: DetectionData) -> Evaluation:
        """Scores COCO's average precision on the held-out images."""
        from tasks.detection.scoring import score_detector

        return score_detector(predictor, config, data)

    def baselines(self, config: Any, data: DetectionData) -> dict[str, Evaluation]:
        """Regions that differ from the background, told apart by their looks, and the usual boxes."""
        from tasks.detection.baselines import score_baselines

        return score_baselines(config, data)

    def figures(
        self, predictor: Detector, config: Any, data: DetectionData, results: dict[str, Evaluation]
    ) -> Iterator[tuple[str, Figure]]:
        """Truth and prediction, the worst images, precision over recall, and what is taken for what."""
        from tasks.detection.figures import draw_all

        return draw_all(predictor, config, data, results)

    def predict(self, predictor: Detector, config: DetPredictConfig) -> list[str]:
        """Writes COCO JSON and drawn pictures."""
        from tasks.detection.checks import check_inference
        from tasks.detection.serving import predict_files

        check_inference(config, "")
        return predict_files(predictor, config)

    def default_output(self, predictor: Detector, config: DetPredictConfig) -> str | None:
        """``photo_detections.json`` for ``photo.jpg``."""
        from tasks.detection.serving import default_output

        return default_output(config)

    def serve(self, predictor: Detector, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Answers a request of the MLflow pyfunc: base64 of image files in, boxes out."""
        from tasks.detection.serving import serve_frame

        return serve_frame(predictor, frame, params)

    def example(self, predictor: Detector) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One small image."""
        from tasks.detection.serving import example_request

        return example_request(predictor)

    def export(self, predictor: Detector, folder: Path, format: str) -> list[Path]:
        """Programs with and without the suppression of double boxes."""
        from tasks.detection.programs import export_detector

        return export_detector(predictor, folder, format, self.name)


TASK = Detection()
