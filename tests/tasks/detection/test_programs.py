"""Exported detectors: raw, and with non-maximum suppression inside."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from stub_network import CLASSES, MaskedSquares, Squares, squares

from core.errors import DataError, PackageError
from tasks.detection import programs
from tasks.detection.config import DetPredictConfig
from tasks.detection.detector import Detector
from tasks.detection.onnx_nms import add_suppression
from tasks.detection.postprocess import Limits, overlaps, select
from tasks.detection.programs import export_detector
from tasks.detection.run_onnx import Program, main
from tasks.detection.serving import predict_files

IDS = [10, 20, 30]


def detector(network=Squares):
    return Detector(network(), CLASSES, IDS, 64, {"data": {"name": "squares"}})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_detector(detector(), tmp_path_factory.mktemp("export"), "onnx", "detection")


@pytest.fixture(scope="module")
def suppression(tmp_path_factory):
    """The suppression alone, as a function of boxes and scores."""
    folder = tmp_path_factory.mktemp("suppression")
    values = [("images", (2, 3, 100, 120)), ("boxes", ("b", "p", 4)), ("scores", ("b", "p", "c"))]
    inputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in values]
    graph = onnx.helper.make_graph([], "raw", inputs, inputs[1:])
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "raw.onnx")
    add_suppression(folder / "raw.onnx", folder / "nms.onnx", {})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / "nms.onnx", options)

    def run(boxes, scores, **given):
        images = np.zeros((2, 3, 100, 120), np.float32)
        return session.run(None, {"images": images, "boxes": boxes, "scores": scores, **given})[0]

    return run


@pytest.mark.parametrize("seed", range(4))
def test_suppression_inside_finds_what_our_own_code_finds(suppression, seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-20, 110, (2, 300, 2))
    # Some boxes have no area, and some lie partly outside.
    boxes = np.concatenate([corners, corners + rng.uniform(-5, 50, (2, 300, 2))], 2).astype(np.float32)
    scores = rng.random((2, 300, 5), np.float32)
    limits = Limits(score=0.4, iou=0.3, max_detections=40)
    rows = suppression(
        boxes,
        scores,
        score_threshold=np.float32([0.4]),
        iou_threshold=np.float32([0.3]),
        max_detections=np.array([40]),
    )
    assert (np.diff(rows[:, 5]) <= 0).all()
    for i in range(2):
        expected, _ = select(boxes[i], scores[i], 1.0, (100, 120), limits)
        own = rows[rows[:, 0] == i]
        assert len(expected) == 40
        np.testing.assert_allclose(own[:, 1:5], expected.boxes, atol=1e-4)
        np.testing.assert_allclose(own[:, 5], expected.scores)
        np.testing.assert_array_equal(own[:, 6], expected.labels)


def test_suppression_inside_has_the_values_of_predict_when_none_are_given(suppression):
    boxes = np.tile(np.float32([[0, 0, 10, 10], [0, 0, 10, 6], [20, 0, 30, 10]]), (2, 1, 1))
    scores = np.float32([[[0.9], [0.8], [0.29]], [[0.1], [0.31], [0.2]]])
    rows = suppression(boxes, scores)
    np.testing.assert_allclose(
        rows, [[0, 0, 0, 10, 10, 0.9, 0], [0, 0, 0, 10, 6, 0.8, 0], [1, 0, 0, 10, 6, 0.31, 0]], rtol=1e-6
    )


def test_suppression_inside_may_find_nothing(suppression):
    assert suppression(np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 1), np.float32)).shape == (0, 7)


def test_the_raw_program_gives_the_output_of_the_network_for_any_batch_and_size(exported):
    session = onnxruntime.InferenceSession(exported[0])
    network = detector().network
    for batch, height, width in ((1, 64, 64), (3, 32, 96)):
        images = np.random.default_rng(0).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)
        boxes, scores = session.run(None, {"images": images})
        with torch.inference_mode():
            expected = network.decode(network(torch.from_numpy(images) / 255))
        np.testing.assert_allclose(boxes, expected[0], atol=1e-4)
        np.testing.assert_allclose(scores, expected[1], atol=1e-5)


def test_a_user_of_the_file_learns_what_goes_in_and_out(exported):
    for path in exported:
        known = onnxruntime.InferenceSession(path, _quiet()).get_modelmeta().custom_metadata_map
        assert json.loads(known["classes"]) == CLASSES
        assert json.loads(known["category_ids"]) == IDS
        assert known["image_size"] == "64"
        assert known["padding"] == "114"
        assert json.loads(known["trained_on"]) == "squares"


def _quiet():
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(squares((96, 128), (32, 64, 32, 1), (0, 0, 32, 2))).save(folder / "a.png")
    Image.fromarray(squares((64, 64))).save(folder / "b.png")
    return folder


@pytest.mark.parametrize("which", [0, 1])
def test_without_torch_the_same_json_is_written(exported, photos, tmp_path, run_python, which):
    argv = [str(exported[which]), "--input", str(photos), "--output", str(tmp_path / "out.json")]
    code = (
        "import sys; from tasks.detection.run_onnx import main; "
        f"print(main({argv!r})); print('torch' in sys.modules)"
    )
    assert run_python(code).splitlines()[-2:] == ["0", "False"]
    config = DetPredictConfig(input=str(photos), output=str(tmp_path / "found"), draw=False)
    predict_files(detector(), config)
    ours = json.loads((tmp_path / "found" / "detections.json").read_text())
    theirs = json.loads((tmp_path / "out.json").read_text())
    assert len(ours["annotations"]) == 2
    # Objects of one score may change their places, and with them their numbers.
    assert _numberless(theirs.pop("annotations")) == _numberless(ours.pop("annotations"))
    assert theirs == ours


def _numberless(entries):
    entries = [{**entry, "id": 0} for entry in entries]
    return sorted(entries, key=str)


def test_bad_images_and_programs_are_one_line(exported, photos, tmp_path, capsys):
    (photos / "c.png").write_bytes(b"no image")
    assert main([str(exported[1]), "--input", str(photos), "--output", str(tmp_path / "o.json")]) == 1
    assert "c.png" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "o.json").read_text())["images"]) == 2
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no program")
    with pytest.raises(DataError, match="cannot be read as an ONNX program"):
        Program(bad)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["a"], ["b"])], "none", ends[:1], ends[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), bad
    )
    with pytest.raises(DataError, match="is no detector"):
        Program(bad)


def test_models_with_masks_have_a_raw_program_with_what_draws_them(tmp_path):
    (path,) = export_detector(detector(MaskedSquares), tmp_path, "onnx", "detection")
    names = [output.name for output in onnxruntime.InferenceSession(path).get_outputs()]
    assert names == ["boxes", "scores", "kernels", "prototypes", "priors"]
    found = Program(path).detect(squares((64, 64), (16, 32, 16, 0)), Limits())
    assert overlaps(np.float32([16, 32, 32, 48]), found.boxes).tolist() == [1.0]


def test_pt2_holds_the_raw_program(tmp_path):
    (path,) = export_detector(detector(), tmp_path, "pt2", "detection")
    assert path.name == "detection_raw.pt2"
    boxes, scores = torch.export.load(path).module()(torch.zeros(2, 3, 64, 64))
    assert boxes.shape == (2, 16, 4)
    assert scores.shape == (2, 16, 3)


def test_a_program_that_finds_other_objects_is_removed(exported, tmp_path):
    path = tmp_path / "copy.onnx"
    path.write_bytes(exported[1].read_bytes())
    images = programs._example(64).numpy()
    boxes, scores = onnxruntime.InferenceSession(exported[0]).run(None, {"images": images})
    programs._check_suppression(path, images, boxes, scores)
    assert path.exists()
    with pytest.raises(PackageError, match="other objects"):
        programs._check_suppression(path, images, boxes + 8, scores)
    assert not path.exists()
