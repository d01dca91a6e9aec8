"""Programs give what the network gives, for sizes and batches that were not in the example."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from core import export
from core.errors import ConfigError, PackageError
from core.export import check_outputs, check_packages, write_program

warns = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # inside torch.onnx


class Doubling(nn.Module):
    """Convolution, channel attention and pixel shuffle, as networks for super-resolution have them."""

    def __init__(self):
        super().__init__()
        self.head, self.gate = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 1)
        self.up = nn.PixelShuffle(2)

    def forward(self, x):
        features = self.head(x)
        gate = torch.sigmoid(self.gate(features.mean((2, 3), keepdim=True)))
        return self.up(features * gate)


class Two(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, a, b):
        return a + b, a * b


def dims(*names):
    return {axis: torch.export.Dim(name) for axis, name in zip((0, 2, 3), names, strict=True)}


def run(path, *inputs):
    """Runs a program and returns its outputs and its metadata."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [x.name for x in session.get_inputs()]
        feeds = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return session.run(None, feeds), session.get_modelmeta().custom_metadata_map
    extra = {"metadata.json": ""}
    outputs = torch.export.load(path, extra_files=extra).module()(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [x.detach().numpy() for x in outputs], json.loads(extra["metadata.json"])


@warns
@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_images_of_any_size(format, tmp_path):
    torch.manual_seed(0)
    network, path = Doubling().eval(), tmp_path / f"net.{format}"
    example = torch.rand(2, 3, 8, 9)
    (written,) = write_program(
        network,
        (example,),
        path,
        input_names=["image"],
        output_names=["restored"],
        dynamic_shapes=(dims("batch", "height", "width"),),
        metadata={"scale": "2", "input": "image (batch, 3, height, width)"},
    )
    with torch.no_grad():
        np.testing.assert_allclose(written, network(example), atol=1e-6)
        for shape in ((1, 3, 13, 7), (3, 3, 4, 21)):
            image = torch.rand(shape)
            (restored,), metadata = run(path, image)
            np.testing.assert_allclose(restored, network(image), atol=1e-6)
    assert metadata == {"scale": "2", "input": "image (batch, 3, height, width)"}


@warns
@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_several_inputs_and_outputs(format, tmp_path):
    a, b = torch.rand(2, 3), torch.rand(2, 3)
    path = tmp_path / f"net.{format}"
    written = write_program(
        Two(),
        (a, b),
        path,
        input_names=("a", "b"),
        output_names=("sum", "product"),
        dynamic_shapes=({}, {}),
        metadata={},
    )
    for value, expected in zip(written, (a + b, a * b), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    if format == "onnx":
        import onnx

        graph = onnx.load(path).graph
        assert [x.name for x in graph.input] == ["a", "b"]
        assert [x.name for x in graph.output] == ["sum", "product"]


def test_missing_packages_are_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    check_packages("pt2")
    with pytest.raises(ConfigError, match=r"pip install 'skipway\[export\]'"):
        check_packages("onnx")
    with pytest.raises(ConfigError, match="--format onnx needs more packages"):
        write_program(
            Two(),
            (torch.ones(2), torch.ones(2)),
            tmp_path / "a.onnx",
            input_names=("a", "b"),
            output_names=("c", "d"),
            dynamic_shapes=({}, {}),
            metadata={},
        )
    assert not list(tmp_path.iterdir())


def test_a_program_that_differs_is_removed(tmp_path):
    path = tmp_path / "net.pt2"
    path.touch()
    expected = np.array([1.0, -200.0])
    check_outputs(path, expected + 0.01, expected)
    assert path.exists()
    with pytest.raises(PackageError, match=r"differs from the model by 1\.5e-04 and was removed"):
        check_outputs(path, expected + 0.03, expected)
    assert not path.exists()
    path.touch()
    with pytest.raises(PackageError, match="by nan"):
        check_outputs(path, expected * np.nan, expected)
