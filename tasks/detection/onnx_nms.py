"""Non-maximum suppression inside an ONNX program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tasks.detection.config import InferenceConfig

SCORE, DETECTIONS = 0.3, 100
"""Values of the inputs that need not be given, as those of ``predict``."""
DEFAULTS: dict[str, np.ndarray] = {
    "score_threshold": np.array([SCORE], np.float32),
    "iou_threshold": np.array([InferenceConfig.iou], np.float32),
    "max_detections": np.array([DETECTIONS], np.int64),
}


class _Graph:
    """Nodes and constants that are added to a graph."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.count = 0

    def constant(self, values: Any, kind: type = np.int64) -> str:
        """Adds a constant and returns its name."""
        name = self._name()
        self.graph.initializer.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Adds a node of one output and returns the name of it."""
        name = output or self._name()
        self.graph.node.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def sorted(self, values: str) -> tuple[str, str]:
        """Adds the sorting of ``(N,)``, the largest first; returns the names of values and positions."""
        size = self.add("Shape", values)
        outputs = [self._name(), self._name()]
        self.graph.node.append(helper.make_node("TopK", [values, size], outputs, axis=0))
        return outputs[0], outputs[1]

    def _name(self) -> str:
        self.count += 1
        return f"suppression_{self.count}"


def add_suppression(source: Path, target: Path, metadata: dict[str, str]) -> None:
    """Writes a raw program with the selection of objects after it.

    The output ``detections`` is ``(N, 7)``, the most certain first: number of the image in the batch, left, top, right,
    bottom (pixels of the input, cut to it), score, class. The inputs ``score_threshold``, ``iou_threshold`` and
    ``max_detections`` (of an image) have one value and may be left out. Only the best class of a box counts, and boxes
    of one class suppress each other, as in :func:`tasks.detection.postprocess.select`.

    Args:
        source: Program from ``images`` to ``boxes`` and ``scores``.
        target: File to write.
        metadata: Custom metadata of the new program.
    """
    model = onnx.load(source)
    graph = model.graph
    for name, value in DEFAULTS.items():
        kind = TensorProto.INT64 if value.dtype == np.int64 else TensorProto.FLOAT
        graph.input.append(helper.make_tensor_value_info(name, kind, [1]))
        graph.initializer.append(numpy_helper.from_array(value, name))
    _select(_Graph(graph))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["detections", 7]))
    del model.metadata_props[:]
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _select(g: _Graph) -> None:
    """Adds the nodes from ``boxes`` and ``scores`` to ``detections``."""
    zero, one, two, four = (g.constant([value]) for value in (0, 1, 2, 4))
    # Cut to the input, whose last axes are height and width.
    shape = g.add("Shape", "images")
    limits = g.add("Cast", g.add("Gather", shape, g.constant([3, 2, 3, 2])), to=TensorProto.FLOAT)
    boxes = g.add("Max", g.add("Min", "boxes", limits), g.constant(0, np.float32))
    # Boxes without area, and all classes but the best one, get a score of 0.
    ends = g.add("Slice", boxes, two, four, two)
    sides = g.add("Sub", ends, g.add("Slice", boxes, zero, two, two))
    least = g.add("ReduceMin", sides, two, keepdims=1)
    solid = g.add("Cast", g.add("Greater", least, g.constant(0, np.float32)), to=TensorProto.FLOAT)
    best = g.add("Equal", "scores", g.add("ReduceMax", "scores", two, keepdims=1))
    single = g.add("Mul", "scores", g.add("Cast", best, to=TensorProto.FLOAT))
    scores = g.add("Transpose", g.add("Mul", single, solid), perm=[0, 2, 1])
    # Rows of image, class and place.
    kept = g.add("NonMaxSuppression", boxes, scores, "max_detections", "iou_threshold", "score_threshold")
    certain, order = g.sorted(g.add("GatherND", scores, kept))
    kept = g.add("Gather", kept, order, axis=0)
    # The node counts for each class; here all objects of an image are counted.
    image = g.add("Gather", kept, zero, axis=1)
    images = g.add("Range", g.constant(0), g.add("Gather", shape, g.constant(0)), g.constant(1))
    mine = g.add("Cast", g.add("Equal", image, g.add("Unsqueeze", images, zero)), to=TensorProto.INT64)
    counts = g.add("Mul", g.add("CumSum", mine, g.constant(0)), mine)
    rank = g.add("ReduceSum", counts, one, keepdims=0)
    within = g.add("LessOrEqual", rank, "max_detections")
    columns = [
        g.add("Cast", image, to=TensorProto.FLOAT),
        g.add("GatherND", boxes, g.add("Gather", kept, g.constant([0, 2]), axis=1)),
        g.add("Unsqueeze", certain, one),
        g.add("Cast", g.add("Gather", kept, one, axis=1), to=TensorProto.FLOAT),
    ]
    rows = g.add("Concat", *columns, axis=1)
    g.add("Compress", rows, within, output="detections", axis=0)
