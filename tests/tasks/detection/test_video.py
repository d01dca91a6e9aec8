"""Objects in video files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from stub_network import CLASSES, Squares, squares

from core.errors import DataError
from tasks.detection.config import DetPredictConfig
from tasks.detection.detector import Detector
from tasks.detection.serving import default_output, predict_files

FRAMES, RATE = 8, 10.0


@pytest.fixture
def clip(tmp_path):
    """A red square that moves one cell to the right every second frame."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (64, 64))
    for i in range(FRAMES):
        writer.write(np.ascontiguousarray(squares((64, 64), (16 * (i // 2), 32, 16, 0))[..., ::-1]))
    writer.release()
    return path


def run(source, output, **options):
    detector = Detector(Squares(), CLASSES, [1, 2, 3], 64, {})
    return predict_files(detector, DetPredictConfig(input=str(source), output=str(output), **options))


def test_every_frame_is_searched_and_drawn(clip, tmp_path):
    output = default_output(DetPredictConfig(input=str(clip)))
    assert output == str(tmp_path / "clip_detections.json")
    assert run(clip, output, batch=3) == []
    stored = json.loads((tmp_path / "clip_detections.json").read_text())
    assert [image["frame"] for image in stored["images"]] == list(range(FRAMES))
    assert stored["images"][5] == {
        "id": 6,
        "file_name": "clip.mp4",
        "frame": 5,
        "seconds": 0.5,
        "width": 64,
        "height": 64,
    }
    lefts = {entry["image_id"] - 1: entry["bbox"][0] for entry in stored["annotations"]}
    assert lefts == {i: 16.0 * (i // 2) for i in range(FRAMES)}
    drawn = cv2.VideoCapture(str(tmp_path / "clip_detections.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert drawn.get(cv2.CAP_PROP_FPS) == RATE
    drawn.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clip.mp4",
        "clip_detections.json",
        "clip_detections.mp4",
    ]


def test_frames_between_are_left_out_and_the_drawn_video_lasts_as_long(clip, tmp_path):
    run(clip, tmp_path / "out.json", every=4)
    stored = json.loads((tmp_path / "out.json").read_text())
    assert [image["frame"] for image in stored["images"]] == [0, 4]
    drawn = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert drawn.get(cv2.CAP_PROP_FPS) == RATE / 4
    drawn.release()


def test_without_drawing_there_is_no_video(clip, tmp_path):
    run(clip, tmp_path / "out", draw=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip_detections.json"]


def test_a_file_that_is_no_video_is_one_line(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(DataError, match=r"broken\.mp4: cannot be read as a video"):
        run(path, tmp_path / "out.json")
    assert [item.name for item in tmp_path.iterdir()] == ["broken.mp4"]


def test_a_video_that_fails_on_its_way_leaves_nothing_behind(clip, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise DataError("no memory")

    monkeypatch.setattr(Detector, "detect", fail)
    with pytest.raises(DataError, match="no memory"):
        run(clip, tmp_path / "out.json")
    assert [item.name for item in tmp_path.iterdir()] == ["clip.mp4"]
