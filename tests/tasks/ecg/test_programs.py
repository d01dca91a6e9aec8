"""Programs for other runtimes: mV in, probabilities out."""

import json

import numpy as np
import pytest
import torch
from peak_network import CLASSES, PeakNet, beats, settings
from scipy.signal import butter, filtfilt, iirnotch, resample_poly, sosfiltfilt

from tasks.ecg.classifier import Classifier
from tasks.ecg.config import LEADS
from tasks.ecg.data.records import Record
from tasks.ecg.programs import HOW_TO_FEED, export_classifier


@pytest.mark.parametrize("kind", ["data", "record"])
@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_program_gives_the_classifiers_probabilities(tmp_path, kind, format):
    scaling = {"a": [0.1, 0.5], "b": [0.0, 1.0]}
    classifier = Classifier(
        settings(normalise=kind, scaling=scaling),
        {"a": PeakNet(), "b": PeakNet(0.5)},
        {"thresholds": [0.25, 0.5, 0.75], "data": {"name": "made"}, "options": {"scoring": {"pool": "mean"}}},
    )
    (path,) = export_classifier(classifier, tmp_path, format, "ecg")
    assert path == tmp_path / f"ecg.{format}"
    signal = np.random.default_rng(0).standard_normal((5, 12, 250)).astype(np.float32)
    signal[2, 3] = 0
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {"signal": signal})
        metadata = session.get_modelmeta().custom_metadata_map
    else:
        extra = {"metadata.json": ""}
        program = torch.export.load(path, extra_files=extra)
        output = program.module()(torch.from_numpy(signal)).detach().numpy()
        metadata = json.loads(extra["metadata.json"])
    np.testing.assert_allclose(output, classifier.window_probabilities(signal), rtol=1e-4, atol=1e-6)
    assert json.loads(metadata["classes"]) == CLASSES and json.loads(metadata["leads"]) == list(LEADS)
    assert json.loads(metadata["thresholds"]) == [0.25, 0.5, 0.75] and json.loads(metadata["codes"]) == [
        "1",
        "2",
        "",
    ]
    expected = {
        "sampling_rate": "100",
        "samples": "250",
        "stride": "125",
        "pool": "mean",
        "missing_leads": "derive",
        "centre": "true",
    }
    assert expected.items() <= metadata.items() and "not a medical device" in metadata["warning"]


def test_the_instructions_lead_to_the_classifiers_input():
    # A record without aVF, with offsets, at another rate.
    prepared = {"leads": list(LEADS), "rate": 100, "highpass": 0.5, "lowpass": 40.0, "notch": 50.0}
    classifier = Classifier(settings(prepared=prepared), {"model": PeakNet()}, {})
    signal = beats((2.0, 0.4), 5000, rate=500) + np.arange(12, dtype=np.float32)[:, None]
    rows = np.delete(signal, 5, 0).astype(np.float64)
    by_hand = np.insert(rows, 5, rows[1] - rows[0] / 2, 0)
    by_hand -= np.median(by_hand, 1, keepdims=True)
    for corner, kind in ((0.5, "highpass"), (40, "lowpass")):
        by_hand = sosfiltfilt(
            butter(2, corner, kind, fs=500, output="sos"), by_hand, padtype="even", padlen=2000
        )
    by_hand = filtfilt(*iirnotch(50, 30, fs=500), by_hand, padtype="even", padlen=600)
    by_hand = resample_poly(by_hand, 1, 5, axis=1, padtype="line")
    got, present = classifier.prepare(Record("r", rows.astype(np.float32), 500.0, [*LEADS[:5], *LEADS[6:]]))
    assert present.all()
    np.testing.assert_allclose(got[:, 100:-100], by_hand[:, 100:-100], atol=1e-3)
    for word in ("missing_leads", "centre", "highpass", "lowpass", "notch", "median", "II - I / 2"):
        assert word in HOW_TO_FEED
