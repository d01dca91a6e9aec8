"""Scores by the protocol of the papers, what other protocols give, and the baselines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.data.images.files import to_float
from core.data.images.folder import Loaded
from core.data.images.quality import Protocol
from core.data.images.resize import RESIZERS, imresize
from core.errors import ConfigError
from core.infer.restorer import Restorer
from tasks.super_resolution.config import (
    SuperResolutionEvaluateConfig,
    SuperResolutionScoringConfig,
)
from tasks.super_resolution.data import ImageSet, SuperResolutionData
from tasks.super_resolution.models.carn import CARN
from tasks.super_resolution.scoring import BASELINES, all_cases, score_baselines, score_network


def dataset(scales, **options):
    rng = np.random.default_rng(0)
    images = [imresize(rng.integers(0, 256, (7, 8, 3), np.uint8), (37, 41)) for _ in range(2)]
    part = ImageSet(Loaded(["a", "b"], images))
    return SuperResolutionData("t", 3, None, {"t": part}, scales, **options)


def luma_psnr(restored, truth, border):
    """Written out: MATLAB's rgb2ycbcr of 8-bit values, shaved, peak 255."""
    y = [16 + (image.astype(np.float64) @ [65.481, 128.553, 24.966]) / 255 for image in (restored, truth)]
    a, b = (values[border:-border, border:-border] for values in y)
    return 10 * np.log10(255**2 / np.mean((a - b) ** 2))


def test_bicubic_is_scored_as_in_the_papers():
    data = dataset((2, 3))
    metrics = score_baselines(SuperResolutionEvaluateConfig(), data)["bicubic"].metrics
    for scale in (2, 3):
        expected = []
        for i in range(2):
            low, high = data.tests["t"].pair(i, scale)
            expected.append(luma_psnr(imresize(low, scale), high, scale))
        assert metrics[f"t x{scale}/psnr"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert metrics["psnr"] == pytest.approx((metrics["t x2/psnr"] + metrics["t x3/psnr"]) / 2)


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({"channel": "rgb"}, Protocol("rgb", 2)),
        ({"shave": 0}, Protocol("y", 0)),
        ({"rounding": "truncate"}, Protocol("y", 2, "truncate")),
        ({"y_rounding": True}, Protocol("y", 2, "round", True)),
    ],
)
def test_each_switch_of_the_protocol(options, protocol):
    data = dataset((2,))
    config = SuperResolutionEvaluateConfig(scoring=SuperResolutionScoringConfig(**options))
    low, high = data.tests["t"].pair(1, 2)
    rows = score_baselines(config, data)["bicubic"].rows
    assert rows.psnr[1] == pytest.approx(protocol.psnr(imresize(low, 2), high), abs=1e-5)


def test_network_is_scored_on_its_own_output():
    torch.manual_seed(0)
    model = CARN((2, 3), width=4).eval()
    data = dataset((3,))
    low, high = data.tests["t"].pair(0, 3)
    with torch.inference_mode():
        y = model(torch.from_numpy(to_float(low).transpose(2, 0, 1))[None], 3)[0]
    stored = np.floor(np.clip(y.permute(1, 2, 0).double().numpy(), 0, 1) * 255 + 0.5)
    result = score_network(Restorer(model), SuperResolutionEvaluateConfig(), data)
    assert result.rows.psnr[0] == pytest.approx(luma_psnr(stored, high, 3), abs=1e-3)


def test_all_protocols_name_every_careless_choice():
    data = dataset((2,))
    config = SuperResolutionEvaluateConfig(all_protocols=True)
    notes = score_network(Restorer(CARN((2,), width=4).eval()), config, data).notes
    text = "\n".join(notes)
    for words in ("RGB instead of luma", "luma rounded", "truncated", "no border", "cv2_cubic", "cv2_area"):
        assert words in text
    assert "pil_bicubic" in text and "torch_antialias" in text
    assert notes[1].split("as given")[1].split()[-1] == "+0.000"
    paired = dataset((2,))
    paired.tests["t"].low = Loaded(["a", "b"], [paired.tests["t"].pair(i, 2)[0] for i in range(2)])
    paired.tests["t"].high.images = [image[:36, :40] for image in paired.tests["t"].high.images]
    notes = score_network(Restorer(CARN((2,), width=4).eval()), config, paired).notes
    assert "small images by" not in "\n".join(notes)


def test_other_resizers_change_the_small_image_alone():
    ours, theirs = (list(all_cases(dataset((2,)), name)) for name in ("matlab", "cv2_cubic"))
    np.testing.assert_array_equal(ours[0].truth, theirs[0].truth)
    high = np.floor(ours[0].truth * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(theirs[0].pixels, to_float(RESIZERS["cv2_cubic"](high, 0.5)))


def test_jpeg_of_the_test_images_and_its_name():
    plain, rough = (next(all_cases(dataset((2,), quality=q))) for q in (None, 20))
    assert (plain.condition, rough.condition) == ("x2", "x2 jpeg 20")
    assert 0.002 < np.abs(plain.pixels - rough.pixels).mean() < 0.3


def test_ensemble_scores_the_mean_of_eight():
    torch.manual_seed(0)
    model = CARN((2,), width=4).eval()
    data = dataset((2,))
    one, eight = (
        score_network(Restorer(model), SuperResolutionEvaluateConfig(ensemble=e), data).outputs.images
        for e in (False, True)
    )
    key = ("t", "a", "x2")
    assert np.abs(one[key] - eight[key]).max() > 1e-4
    turned = Restorer(model)(np.ascontiguousarray(next(all_cases(data)).pixels[::-1]))[::-1]
    flat = Restorer(model)(next(all_cases(data)).pixels)
    assert np.abs(flat - one[key]).max() < 1e-6 < np.abs(turned - one[key]).max()


def test_baselines_have_the_right_size_and_nearest_its_squares():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for name in BASELINES:
        assert BASELINES[name](image, 3).shape == (6, 6, 3)
    np.testing.assert_array_equal(
        BASELINES["nearest"](image, 3)[3:, :3], np.broadcast_to(image[1, 0], (3, 3, 3))
    )


def test_a_scale_that_the_model_lacks_is_one_line():
    with pytest.raises(ConfigError, match="does not enlarge by 4; it has 2, 3"):
        score_network(Restorer(CARN((2, 3), width=4).eval()), SuperResolutionEvaluateConfig(), dataset((4,)))
