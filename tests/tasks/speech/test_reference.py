"""Released weights: the authors' network in functions, against what is made of their files."""

from __future__ import annotations

import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError, DataError, PackageError
from core.track.package import load_package, save_package
from tasks.speech.models.reference import CLASSES, load_reference, load_state, main, package_reference
from tasks.speech.task import TASK

WIDTH = 7
FORMS = {6: ((4, 3), False), 13: (None, True), 24: ((2, 2), False)}  # res8, res15, res26


def released(layers, scales=None, width=WIDTH, classes=12):
    """Random weights under the names of the authors' files; ``scales`` formats a name and a shape of theirs."""
    torch.manual_seed(layers)
    state = OrderedDict({"conv0.weight": torch.randn(width, 1, 3, 3) / 3})
    for i in range(1, layers + 1):
        state[f"bn{i}.running_mean"] = torch.rand(width)
        state[f"bn{i}.running_var"] = 0.5 + torch.rand(width)
        state[f"bn{i}.num_batches_tracked"] = torch.tensor(7)
        state[f"conv{i}.weight"] = torch.randn(width, width, 3, 3) / (3 * width**0.5)
        if scales and i % 2 and i < layers:
            name, *shape = scales
            state[name.format(i)] = torch.randn(width).reshape(shape)
    state["output.weight"], state["output.bias"] = torch.randn(classes, width), torch.randn(classes)
    return state


def formula(state, features, layers):
    """The authors' forward pass: the norm comes after the sum, and the sum goes on without it."""
    pool, dilated = FORMS[layers]
    scales = {
        int("".join(filter(str.isdigit, k))): v.reshape(-1, 1, 1) for k, v in state.items() if "scale" in k
    }
    x = F.relu(F.conv2d(features[:, None], state["conv0.weight"], padding=1))
    x = total = F.avg_pool2d(x, pool) if pool else x
    for i in range(1, layers + 1):
        dilation = 2 ** ((i - 1) // 3) if dilated else 1
        x = F.relu(F.conv2d(x, state[f"conv{i}.weight"], padding=dilation, dilation=dilation))
        if i % 2 == 0:
            x = total = x + total
        x = F.batch_norm(x, state[f"bn{i}.running_mean"], state[f"bn{i}.running_var"])
        x = x * scales.get(i, 1)
    return x.mean((2, 3)) @ state["output.weight"].T + state["output.bias"]


@pytest.mark.parametrize("layers", FORMS)
@pytest.mark.parametrize(
    "scales", [None, ("scale{}", WIDTH), ("scale{}.scale", WIDTH, 1, 1), ("scale{}.weight", 1, WIDTH, 1, 1)]
)
def test_network_is_the_authors(layers, scales):
    state = released(layers, scales)
    model = load_state(state)
    x = torch.randn(2, 33, 24)
    with torch.no_grad():
        expected = formula(state, x, layers)
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=0)
    assert expected.std(0).min() > 1e-4  # the clips differ
    assert not model.training


@pytest.mark.parametrize("wrapped", [False, True])
def test_files_of_any_age_are_read(tmp_path, wrapped):
    state = {k: v for k, v in released(6, classes=5).items() if not k.endswith("num_batches_tracked")}
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}} if wrapped else state, tmp_path / "w.pt"
    )
    model = load_reference(tmp_path / "w.pt")
    x = torch.randn(1, 20, 15)
    torch.testing.assert_close(model(x), formula(state, x, 6), atol=1e-5, rtol=0)
    assert int(model.norm.num_batches_tracked) == 0


def without(*keys):
    return lambda state: {k: v for k, v in state.items() if k not in keys}


def joined(**others):
    return lambda state: state | {name.replace("_dot_", "."): value for name, value in others.items()}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (joined(scale1_dot_keep_indices=torch.arange(4)), PackageError, "is pruned"),
        (without("conv6.weight"), DataError, "no res8, res15 or res26.*has 5"),
        (without("output.weight"), DataError, "no res8, res15 or res26"),
        (without("conv0.weight"), DataError, "no res8, res15 or res26"),
        (without("bn3.running_var"), DataError, "blocks.1.norm1.running_var"),
        (joined(scale2=torch.ones(WIDTH)), DataError, "scale2"),
        (joined(scale1=torch.ones(WIDTH), scale1_dot_more=torch.ones(WIDTH)), DataError, "scale1.more"),
        (joined(scale1=torch.ones(3), scale3=torch.ones(WIDTH), scale5=torch.ones(WIDTH)), DataError, "blocks.0.scale"),
        (joined(conv7_bias=torch.ones(1)), DataError, "conv7_bias"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, error, message):
    with pytest.raises(error, match=message) as caught:
        load_state(change(released(6)), "res8.pt")
    assert str(caught.value).startswith("res8.pt")
    assert "\n" not in str(caught.value)


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_file_is_executed(tmp_path):
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Touch(tmp_path / "touched"), protocol=2))
    torch.save({"conv0.weight": Touch(tmp_path / "touched")}, tmp_path / "v.pt")
    for name in ("w.pt", "v.pt"):
        with pytest.raises(DataError, match=name):
            load_reference(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_package_predicts_what_the_weights_say(tmp_path, capsys):
    state = released(6, ("scale{}.scale", WIDTH))
    torch.save(state, tmp_path / "res8.pt")
    assert main([str(tmp_path / "res8.pt"), str(tmp_path / "words")]) == 0
    assert "words" in capsys.readouterr().out
    spotter = TASK.predictor(load_package(tmp_path / "words"))
    assert spotter.classes == list(CLASSES)
    assert spotter.words == list(CLASSES[2:])
    wave = np.random.default_rng(0).normal(0, 0.1, (2, 16000)).astype(np.float32)
    with torch.no_grad():
        logits = formula(state, spotter.front(torch.from_numpy(wave)), 6)
    np.testing.assert_allclose(spotter.scores(wave), logits.softmax(1).numpy(), atol=1e-5)

    assert main([str(tmp_path / "res8.pt"), str(tmp_path / "words")]) == 2
    assert "exists; give a new folder" in capsys.readouterr().err


def test_package_of_other_words(tmp_path):
    torch.save(released(13, width=19, classes=3), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="has 3 classes and not 12"):
        package_reference(tmp_path / "w.pt")
    packaged = package_reference(tmp_path / "w.pt", ["unknown", "hey", "you"])
    assert packaged.config["model"]["name"] == "res15_narrow"
    spotter = TASK.predictor(load_package(save_package(tmp_path / "words", packaged, "speech")))
    assert spotter.words == ["hey", "you"]
