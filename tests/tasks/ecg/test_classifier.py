"""From records of any length to probabilities, and where a finding is seen."""

import numpy as np
import pytest
import torch
from peak_network import CLASSES, RATE, PeakNet, beats, peak_classifier, settings, small_data

from core.errors import ConfigError, DataError
from tasks.ecg.classifier import Classifier, classifier_settings
from tasks.ecg.config import LEADS, DataConfig, EcgConfig, WindowConfig
from tasks.ecg.data.records import Record
from tasks.ecg.learner import EcgLearner
from tasks.ecg.losses import MultiLabelLoss
from tasks.ecg.normalise import DataNormaliser
from tasks.ecg.saliency import flatten, occlusion


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def late_peak():
    """One wave of 2 mV in I at 9.5 s of 10."""
    signal = np.zeros((12, 1000), np.float32)
    signal[0, 950] = 2
    return signal


def test_probabilities_are_pooled_over_windows():
    signals = [late_peak(), np.zeros((12, 100), np.float32)]
    result = peak_classifier().probabilities(signals)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, sigmoid(np.array([[4, -4, -9], [-4, -4, -9]])), rtol=1e-5)
    mean = peak_classifier().probabilities(signals, window=WindowConfig(pool="mean"))
    assert mean[0, 0] == pytest.approx((sigmoid(4) + 6 * sigmoid(-4)) / 7, rel=1e-5)
    # Of 16 windows that are 0.5 s apart the last one holds it.
    dense = peak_classifier().probabilities(signals, window=WindowConfig(stride=0.5, pool="mean"))
    assert dense[0, 0] == pytest.approx((sigmoid(4) + 15 * sigmoid(-4)) / 16, rel=1e-5)
    assert peak_classifier().probabilities([]).shape == (0, 3)


def test_the_size_of_a_batch_changes_nothing():
    data = small_data()
    whole = peak_classifier().probabilities(data.signals)
    for size in (1, 5):
        small = peak_classifier().probabilities(data.signals, window=WindowConfig(batch=size))
        np.testing.assert_allclose(small, whole, rtol=1e-6)


def test_what_is_left_open_is_as_when_thresholds_were_chosen():
    classifier = peak_classifier(options={"scoring": {"stride": 0.5, "pool": "mean"}})
    assert classifier.stride() == 50 and classifier.window().pool == "mean"
    asked = WindowConfig(stride=2.0, pool="max", batch=3)
    assert classifier.window(asked) == asked and classifier.stride(asked) == 200
    assert peak_classifier().window() == WindowConfig(pool="max")


def test_folds_are_asked_alone_or_averaged_each_with_its_own_scaling():
    networks = {"a": PeakNet(), "b": PeakNet(1.0)}
    scaling = {"a": [0.0, 1.0], "b": [0.0, 2.0]}
    classifier = Classifier(settings(scaling=scaling, normalise="data"), networks, {})
    a, b, both = (classifier.probabilities([late_peak()], fold=fold)[0] for fold in ("a", "b", None))
    assert a[0] == pytest.approx(sigmoid(4)) and b[0] == pytest.approx(sigmoid(1))
    np.testing.assert_allclose(both, (a + b) / 2, rtol=1e-6)


def test_classes_in_another_order():
    classifier = peak_classifier(thresholds=[0.1, 0.2, 0.3])
    assert classifier.ordered(CLASSES) is classifier
    other = classifier.ordered(["never", "Tall I"])
    assert other.classes == ["never", "Tall I"]
    assert other.thresholds == [0.3, 0.1] and other.codes == ["", "1"]
    expected = classifier.probabilities([late_peak()])[0]
    np.testing.assert_allclose(other.probabilities([late_peak()])[0], [expected[2], expected[0]])
    assert classifier.classes == CLASSES and peak_classifier().thresholds == [0.5] * 3
    with pytest.raises(
        ConfigError, match=r"--data.labels: the model does not know 'tall II'; .* mean 'tall I'"
    ):
        classifier.ordered(["never", "tall II"])


def test_classes_are_known_by_abbreviation_code_and_name():
    named = settings(classes=["Sinus rhythm", "AF", "713427006"])
    classifier = Classifier(named, {"model": PeakNet()}, {"thresholds": [0.1, 0.2, 0.3]})
    assert classifier.ordered(["CRBBB", "sinus rhythm", "164889003"]).thresholds == [0.3, 0.1, 0.2]


def test_a_record_is_prepared_as_in_the_training():
    classifier = peak_classifier()
    signal = beats((2.0, 0.4), 5000, rate=500)
    names = list(reversed(LEADS))
    record = Record("r", signal[::-1][:-1].copy(), 500.0, names[:-1])  # without I
    prepared, present = classifier.prepare(record)
    assert prepared.shape == (12, 1000) and present.all()
    expected = beats((2.0, 0.4), 1000)
    np.testing.assert_allclose(prepared[:, 100:900], expected[:, 100:900], atol=0.05)
    with pytest.raises(DataError, match="has none of the leads"):
        classifier.prepare(Record("r", signal[:1], 500.0, ["X"]))


def test_settings_rebuild_the_classifier_of_a_training():
    config = EcgConfig(crop=1.5, data=DataConfig(missing_leads="drop", highpass=0.5))
    learners = {"model": EcgLearner(PeakNet(), DataNormaliser(0.1, 0.3), MultiLabelLoss(), 150)}
    made = classifier_settings(config, small_data(), learners)
    classifier = Classifier(made, {"model": learners["model"].model}, {"synthetic": True})
    assert made["folds"] == [] and classifier.synthetic and not peak_classifier().synthetic
    assert (classifier.length, classifier.rate, classifier.leads) == (150, RATE, list(LEADS))
    assert classifier.config.highpass == 0.5
    assert classifier.config.missing_leads == "derive"  # a record of one's own is not left out
    x = torch.randn(2, 12, 150, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = PeakNet()((x - 0.1) / 0.3).sigmoid()
    np.testing.assert_allclose(classifier.window_probabilities(x.numpy()), expected, rtol=1e-4)


def test_saliency_lies_where_the_finding_is():
    signal = np.zeros((12, 1000), np.float32)
    signal[0, 300:304] = 2  # in the windows from 1.25 and 2.5 s on
    strip = occlusion(peak_classifier(), signal, 0)
    assert strip.shape == (1000,) and strip.dtype == np.float32
    assert 285 <= strip.argmax() <= 318
    # Without it the log odds fall from 4 to -4, in each window that holds it.
    assert strip.max() == pytest.approx(8, rel=1e-3)
    assert not strip[:280].any() and not strip[325:].any()
    # What speaks against a class has the other sign: without the dip in V6, nothing changes at all.
    assert not occlusion(peak_classifier(), signal, 1).any()


def test_every_window_counts_and_not_only_the_largest():
    # A beat in each window: the maximum over the windows would stay, whichever is hidden.
    strip = occlusion(peak_classifier(), beats((2.0, 0.3), 1000, every=250, first=125), 0)
    for beat in (125, 375, 625, 875):
        assert strip[beat] > 2
        assert abs(strip[beat - 60]) < 0.01
    # Three equal beats in each: this network needs but one of them.
    assert np.abs(occlusion(peak_classifier(), beats((2.0, 0.3), 1000), 0)).max() < 0.2


def test_a_record_shorter_than_a_window_or_a_stretch():
    for samples in (100, 7):
        signal = np.zeros((12, samples), np.float32)
        signal[0, samples // 2] = 2
        strip = occlusion(peak_classifier(), signal, 0)
        assert strip.shape == (samples,) and strip.max() == pytest.approx(8, rel=1e-3)


def test_a_hidden_stretch_is_a_straight_line():
    window = np.array([[0.0, 1, 9, 9, 9, 5, 6]], np.float32)
    assert flatten(window, 2, 3).tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert flatten(window, -1, 3).tolist() == [[9, 9, 9, 9, 9, 5, 6]]
    assert flatten(window, 5, 3).tolist() == [[0, 1, 9, 9, 9, 9, 9]]
    assert flatten(window, 0, 7).tolist() == [[0] * 7]
    assert window[0, 2] == 9
