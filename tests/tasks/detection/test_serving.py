"""Files in, COCO JSON and pictures out, by a network that finds coloured squares."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from faster_coco_eval import COCO
from PIL import Image
from stub_network import CLASSES, MaskedSquares, Squares, squares

from core.errors import ConfigError, DataError
from tasks.detection.config import DetPredictConfig
from tasks.detection.detector import Detector
from tasks.detection.serving import default_output, example_request, predict_files, serve_frame

RED = squares((64, 64), (16, 32, 16, 0))
GREEN = squares((128, 128), (32, 64, 32, 1))


@pytest.fixture
def detector():
    return Detector(Squares(), CLASSES, [10, 20, 30], 64, {})


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in {"a10.png": RED, "a2.png": GREEN, "a3.png": squares((40, 60))}.items():
        Image.fromarray(image).save(folder / name)
    return folder


def run(detector, source, output, **options):
    return predict_files(detector, DetPredictConfig(input=str(source), output=str(output), **options))


def test_results_go_beside_the_input(tmp_path, photos):
    assert default_output(DetPredictConfig(input=str(photos))) == str(tmp_path / "photos_detections")
    photo = str(photos / "a2.png")
    assert default_output(DetPredictConfig(input=photo)) == str(photos / "a2_detections.json")
    assert default_output(DetPredictConfig(input="/")) is None


def test_an_image_becomes_coco_json_and_a_picture(detector, photos, tmp_path, capsys):
    assert run(detector, photos / "a2.png", tmp_path / "out.json") == []
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored["images"] == [{"id": 1, "file_name": "a2.png", "width": 128, "height": 128}]
    assert stored["categories"][1] == {"id": 20, "name": "green"}
    (entry,) = stored["annotations"]
    assert entry == {
        "id": 1,
        "image_id": 1,
        "category_id": 20,
        "bbox": [32.0, 64.0, 32.0, 32.0],
        "area": 1024.0,
        "iscrowd": 0,
        "score": 1.0,
    }
    with Image.open(tmp_path / "out.jpg") as picture:
        assert picture.size == (128, 128)
    said = capsys.readouterr().out
    assert "a2.png: 1 green" in said
    assert "out.json: 1 image, 1 objects" in said


def test_a_folder_becomes_one_json_in_the_order_of_the_numbers_and_a_picture_each(detector, photos, tmp_path):
    (photos / "notes.txt").write_text("left out")
    assert run(detector, photos, tmp_path / "found", batch=2) == []
    stored = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert [image["file_name"] for image in stored["images"]] == ["a2.png", "a3.png", "a10.png"]
    assert [entry["image_id"] for entry in stored["annotations"]] == [1, 3]
    names = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert names == ["a10.jpg", "a2.jpg", "a3.jpg", "detections.json"]


def test_without_drawing_there_is_the_json_alone(detector, photos, tmp_path):
    run(detector, photos, tmp_path / "found", draw=False)
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["detections.json"]


def test_coco_tools_read_the_file_and_its_annotations_as_results(detector, photos, tmp_path):
    run(detector, photos, tmp_path / "found")
    path = tmp_path / "found" / "detections.json"
    truth = COCO(str(path))
    results = truth.loadRes(json.loads(path.read_text())["annotations"])
    assert len(results.anns) == 2


def test_masks_are_stored_as_run_lengths(photos, tmp_path):
    masked = Detector(MaskedSquares(), CLASSES, [10, 20, 30], 64, {})
    run(masked, photos / "a10.png", tmp_path / "out.json")
    (entry,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert entry["segmentation"]["size"] == [64, 64]
    assert 200 < entry["area"] <= 256


def test_a_bad_image_is_left_out_with_one_line_that_names_it(detector, photos, tmp_path):
    (photos / "a1.png").write_bytes(b"no image")
    (failure,) = run(detector, photos, tmp_path / "found")
    assert str(photos / "a1.png") in failure
    assert "\n" not in failure
    stored = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert [image["file_name"] for image in stored["images"]] == ["a2.png", "a3.png", "a10.png"]
    with pytest.raises(DataError, match=r"a1\.png"):
        run(detector, photos, tmp_path / "found", strict=True)
    with pytest.raises(DataError, match=r"a1\.png"):
        run(detector, photos / "a1.png", tmp_path / "found")


def test_a_folder_of_bad_images_writes_nothing(detector, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    assert len(run(detector, folder, tmp_path / "found")) == 1
    assert list((tmp_path / "found").iterdir()) == []


def test_no_input_is_replaced(detector, photos, tmp_path):
    Image.fromarray(RED).save(photos / "b.jpg")
    before = (photos / "b.jpg").read_bytes()
    with pytest.raises(ConfigError, match=r"would replace the input b\.jpg"):
        run(detector, photos, photos)
    with pytest.raises(ConfigError, match=r"would replace the input b\.jpg"):
        run(detector, photos / "b.jpg", photos / "b.json")
    assert (photos / "b.jpg").read_bytes() == before
    assert not (photos / "detections.json").exists()


def test_images_of_one_stem_get_pictures_of_their_own(detector, photos, tmp_path):
    Image.fromarray(RED).save(photos / "a2.bmp")
    run(detector, photos, tmp_path / "found")
    assert (tmp_path / "found" / "a2.png.jpg").exists()
    assert (tmp_path / "found" / "a2.bmp.jpg").exists()


def test_outputs_that_do_not_fit_are_refused(detector, photos, tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.json"):
        run(detector, photos / "a2.png", tmp_path / "out.png")
    with pytest.raises(ConfigError, match="name a folder"):
        run(detector, photos, tmp_path / "out.json")


def test_options_reach_the_search(detector, photos, tmp_path):
    run(detector, photos, tmp_path / "found", classes=["red"], image_size=128)
    stored = json.loads((tmp_path / "found" / "detections.json").read_text())
    # With 128 pixels a red square of 16 becomes four cells.
    assert {entry["category_id"] for entry in stored["annotations"]} == {10}
    assert len(stored["annotations"]) == 4
    with pytest.raises(ConfigError, match="no class 'rad'"):
        run(detector, photos, tmp_path / "found", classes=["rad"])


def test_a_request_of_images_is_answered_row_by_row(detector):
    def encoded(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        return base64.b64encode(file.getvalue()).decode()

    frame = pd.DataFrame({"image": [encoded(RED), encoded(squares((30, 30)))]})
    first, second = (json.loads(text) for text in serve_frame(detector, frame, {})["detections"])
    assert first == [{"class": "red", "score": 1.0, "box": [16.0, 32.0, 32.0, 48.0]}]
    assert second == []
    many = serve_frame(detector, frame, {"score": 0.0, "max_detections": 1})["detections"]
    assert len(json.loads(many[0])) == 1


@pytest.mark.parametrize("text", ["*", None, base64.b64encode(b"no image").decode()])
def test_a_row_that_is_no_image_is_named(detector, text):
    with pytest.raises(DataError, match=r"^row 0: ") as error:
        serve_frame(detector, pd.DataFrame({"image": [text]}), {})
    assert "/" not in str(error.value)


def test_a_request_without_the_column_is_refused(detector):
    with pytest.raises(DataError, match="column 'image'"):
        serve_frame(detector, pd.DataFrame({"picture": ["x"]}), {})


def test_the_example_is_a_request_that_is_answered(detector):
    frame, params = example_request(detector)
    assert params == {"score": 0.3, "iou": 0.65, "max_detections": 300}
    answer = serve_frame(detector, frame, params)
    assert list(answer) == ["detections"]
    assert isinstance(json.loads(answer["detections"][0]), list)


def test_images_lie_upright_and_gray_ones_are_read(detector, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    run(detector, tmp_path / "turned.jpg", tmp_path / "out.json")
    (image,) = json.loads((tmp_path / "out.json").read_text())["images"]
    assert (image["width"], image["height"]) == (40, 60)
