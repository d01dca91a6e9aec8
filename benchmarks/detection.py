"""``python -m benchmarks.detection``: assignment, a training step, inference and COCO's evaluation on the CPU.

* ``assigner``: which place learns which object, against the literal form, see :mod:`benchmarks.detection_assigner`.
  Bars: a tenth of the CPU time and a fiftieth of the memory;
* ``step``: forward, loss and backward of 8 images of 320 x 320 pixels with 14 objects of 3 classes each, against
  torchvision's SSDLite with its own loss;
* ``inference``: one image of 320 x 320 pixels of 80 classes through a network in its form for inference, up to boxes
  and scores, against torchvision's SSDLite and, with ``--ultralytics FOLDER``, the smallest network of ultralytics
  (AGPL-3.0, in no extra; its weights are random, which the time does not depend on). Networks differ in accuracy:
  their published AP on COCO stands beside them;
* ``evaluation``: COCO's mAP of made detections, by :mod:`tasks.detection.coco_eval` and by pycocotools. The numbers
  must be equal.

Contestants take turns; medians, and ratios to the first of a table.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.detection_assigner import compare as compare_assigners
from benchmarks.measure import install_peer, interleave, print_comparison, print_heading, print_text
from core.compress.folding import deploy
from core.train.hardware import keep_large_allocations
from tasks.detection.coco_eval import evaluate_coco
from tasks.detection.config import RTMDetConfig
from tasks.detection.data.dataset import ImageSet
from tasks.detection.learner import LEARNERS
from tasks.detection.models.build import build_network
from tasks.detection.preprocess import normalise
from tasks.detection.results import Detections

SIZE = 320
TINY, NANO, SSDLITE = "RTMDet-tiny", "RTMDet-nano", "torchvision's SSDLite"
YOLO = "ultralytics 8.4.190, smallest of the series 26 (AGPL-3.0)"
PUBLISHED = {TINY: "41.1 at 640 px", NANO: "not trained on COCO", SSDLITE: "21.3", YOLO: "40.9 at 640 px"}
"""AP on COCO as published."""
LICENCE = """\
**RTMDet-tiny takes {ratio:.1f} times the CPU time of ultralytics' smallest network** for 0.2 points more; what it has
is its licence and its size as code. The published figures of ultralytics are its authors'.
"""
ULTRALYTICS = ("ultralytics==8.4.190", "ultralytics-thop", "py-cpuinfo")


def made_batch(images: int, objects: int, classes: int) -> dict[str, Any]:
    """Returns a batch of noise with boxes of 20 to 60 pixels."""
    random = torch.Generator().manual_seed(0)
    count = images * objects
    sides = 20 + 40 * torch.rand(count, 2, generator=random)
    corner = torch.rand(count, 2, generator=random) * (SIZE - sides)
    return {
        "image": torch.randint(0, 256, (images, 3, SIZE, SIZE), dtype=torch.uint8, generator=random),
        "boxes": torch.cat([corner, corner + sides], 1),
        "labels": torch.randint(0, classes, (count,), generator=random),
        "owner": torch.arange(images).repeat_interleave(objects),
    }


def compare_steps(rounds: int) -> bool:
    """Prints a table; there is no bar."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    batch = made_batch(8, 14, 3)

    def ours(size: Any) -> Callable[[], None]:
        network = build_network(RTMDetConfig(size=size), 3).to(memory_format=torch.channels_last)
        learner = LEARNERS["rtmdet"](network).train()

        def step() -> None:
            learner(batch)[0].backward()

        return step

    peer = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).train()
    images = list(batch["image"].float() / 255)
    own = [batch["owner"] == i for i in range(len(images))]
    targets = [{"boxes": batch["boxes"][each], "labels": batch["labels"][each] + 1} for each in own]

    def torchvision_step() -> None:
        sum(peer(images, targets).values()).backward()

    contestants = {
        TINY: ours("tiny"),
        NANO: ours("nano"),
        SSDLITE: torchvision_step,
    }
    times = interleave(contestants, rounds)
    print_comparison("Training step of 8 images, 320 px, 14 objects of 3 classes each", "image", 8, times)
    return True


def compare_inference(rounds: int, ultralytics: bool) -> bool:
    """Prints a table; there is no bar."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    image = made_batch(1, 1, 80)["image"].contiguous(memory_format=torch.channels_last)

    def ours(size: Any) -> Callable[[], Any]:
        network: Any = deploy(build_network(RTMDetConfig(size=size), 80).eval())
        network = network.to(memory_format=torch.channels_last)
        return lambda: network.decode(network(normalise(image, network)))

    peer = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()

    def torchvision_network() -> Any:
        features = list(peer.backbone(image.float() / 127.5 - 1).values())
        return peer.head(features)

    contestants: dict[str, Callable[[], Any]] = {
        TINY: ours("tiny"),
        NANO: ours("nano"),
        SSDLITE: torchvision_network,
    }
    if ultralytics:
        contestants[YOLO] = _ultralytics(image)
    guarded = {name: torch.inference_mode()(run) for name, run in contestants.items()}
    times = interleave(guarded, rounds)
    print_comparison("One image of 320 px, 80 classes, network and decoding", "image", 1, times)
    published = "; ".join(f"{name}: {PUBLISHED[name]}" for name in contestants)
    print_text(f"AP on COCO as published. {published}. There is no bar.")
    if ultralytics:
        print_text(LICENCE.format(ratio=times[TINY][0] / times[YOLO][0]))
    return True


def _ultralytics(image: Tensor) -> Callable[[], Any]:
    make = importlib.import_module("ultralytics.nn.tasks").DetectionModel
    network: nn.Module = make("yolo26n.yaml", ch=3, nc=80, verbose=False).eval().fuse(verbose=False)
    network = network.to(memory_format=torch.channels_last)
    return lambda: network(image.float() / 255)


def made_detections(images: int, classes: int, seed: int = 0) -> tuple[ImageSet, list[Detections]]:
    """Returns 7 objects an image, and 100 boxes found in each, some near objects."""
    rng = np.random.default_rng(seed)
    objects = 7
    sides = rng.uniform(8, 200, (images * objects, 2))
    corner = rng.uniform(0, 400, (images * objects, 2))
    boxes = np.concatenate([corner, corner + sides], 1).astype(np.float32)
    labels = rng.integers(classes, size=images * objects)
    truth = ImageSet(
        Path(),
        np.array([f"{i}.jpg" for i in range(images)]),
        np.full((images, 2), 640, np.int32),
        np.arange(1, images + 1),
        np.arange(0, images * objects + 1, objects),
        boxes,
        labels,
        np.zeros(len(labels), bool),
        np.prod(sides, 1).astype(np.float32),
    )
    found = []
    for i in range(images):
        near = i * objects + rng.integers(objects, size=100)
        scores = np.sort(rng.uniform(size=100).astype(np.float32))[::-1]
        noise = rng.normal(0, 12, (100, 4)).astype(np.float32)
        # The more certain ones lie better.
        moved = boxes[near] + noise * (1 - scores[:, None])
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guessed = np.where(rng.uniform(size=100) < 0.7, labels[near], rng.integers(classes, size=100))
        found.append(Detections(moved, scores, guessed))
    return truth, found


def pycocotools_stats(truth: ImageSet, found: list[Detections], classes: int) -> list[float]:
    """Returns COCO's twelve numbers by its own tools, from arrays on."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = range(len(truth))
    annotations = [
        {
            "id": k + 1,
            "image_id": i,
            "category_id": int(truth.labels[k]),
            "bbox": [float(x) for x in (*truth.boxes[k, :2], *(truth.boxes[k, 2:] - truth.boxes[k, :2]))],
            "area": float(truth.area[k]),
            "iscrowd": 0,
        }
        for i in images
        for k in range(truth.start[i], truth.start[i + 1])
    ]
    results = [
        {
            "image_id": i,
            "category_id": int(label),
            "bbox": [float(x) for x in (*box[:2], *(box[2:] - box[:2]))],
            "score": float(score),
        }
        for i, each in enumerate(found)
        for box, score, label in zip(each.boxes, each.scores, each.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": i} for i in images],
            "annotations": annotations,
            "categories": [{"id": i} for i in range(classes)],
        }
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(x) for x in evaluation.stats]


def compare_evaluation(rounds: int, images: int) -> bool:
    """Prints a table; returns whether the numbers are equal."""
    classes = 80
    truth, found = made_detections(images, classes)
    names = [str(i) for i in range(classes)]
    seen: dict[str, list[float]] = {}

    def ours() -> None:
        seen["skipway"] = list(evaluate_coco(truth, found, names).stats.values())

    def peer() -> None:
        seen["pycocotools"] = pycocotools_stats(truth, found, classes)

    title = f"COCO's mAP of {images} images, 80 classes, {100 * images:,} boxes"
    times = interleave({"skipway": ours, "pycocotools": peer}, rounds)
    print_comparison(title, "image", images, times)
    same = np.allclose(seen["skipway"][:3], seen["pycocotools"][:3], rtol=0, atol=1e-9)
    values = f"mAP {seen['skipway'][0]:.6f} and {seen['pycocotools'][0]:.6f}"
    print_text(f"{values}: {'equal to 1e-9' if same else 'NOT EQUAL'}.")
    return same


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("assigner", "step", "inference", "evaluation")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each contestant")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, no figures")
    parser.add_argument("--ultralytics", type=Path, help="folder with ultralytics; pip installs it there")
    options = parser.parse_args()
    ultralytics, wrong = False, ""
    if options.ultralytics:
        os.environ.setdefault("YOLO_CONFIG_DIR", str(options.ultralytics))
        os.environ.setdefault("YOLO_OFFLINE", "true")
        wrong = install_peer(options.ultralytics, ULTRALYTICS, "ultralytics.nn.tasks")
        ultralytics = not wrong
        sys.path.append(str(options.ultralytics))  # after the environment, whose torch counts
    # As in trainings and in predict; all have it.
    keep_large_allocations()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print_heading("Detection")
    if wrong:
        print_text(f"ultralytics is left out: {wrong}")
    rounds, images = (1, 20) if options.quick else (options.rounds, 500)
    comparisons: dict[str, Callable[[], bool]] = {
        "assigner": lambda: compare_assigners(SIZE, 100, 80, rounds),
        "step": lambda: compare_steps(rounds),
        "inference": lambda: compare_inference(rounds, ultralytics),
        "evaluation": lambda: compare_evaluation(min(3, rounds), images),
    }
    for part in options.parts:
        comparisons[part]()


if __name__ == "__main__":
    main()
