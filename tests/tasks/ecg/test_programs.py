"""Programs for other runtimes: mV in, probabilities out."""

import json

import numpy as np
import pytest
import torch
from peak_network import CLASSES, PeakNet, settings

from tasks.ecg.classifier import Classifier
from tasks.ecg.config import LEADS
from tasks.ecg.programs import export_classifier


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
    expected = {"sampling_rate": "100", "samples": "250", "stride": "125", "pool": "mean"}
    assert expected.items() <= metadata.items() and "not a medical device" in metadata["warning"]
