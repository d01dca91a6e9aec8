"""Programs for other runtimes give what the network gives, for images of any size."""

import json

import numpy as np
import pytest
import torch
from restoring_nets import Blurred, Repeated
from tiled_nets import Plain

from core import export
from core.errors import PackageError
from core.infer.programs import export_restorer
from core.infer.restorer import Restorer


def loaded(path):
    extra = {"metadata.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    return program, json.loads(extra["metadata.json"])


@pytest.mark.parametrize(("model", "shape"), [(Plain(1), (1, 23, 61)), (Blurred(3), (3, 64, 40))])
def test_a_pt2_program_gives_the_networks_output(model, shape, tmp_path):
    restorer = Restorer(model, {"data": {"name": "photos"}})
    path = export_restorer(restorer, tmp_path, "pt2", "denoising")[0]
    assert path == tmp_path / "denoising.pt2"
    program, metadata = loaded(path)
    batch, height, width = shape
    x = torch.rand(batch, model.channels, height, width)
    torch.testing.assert_close(program(x), model.eval()(x), atol=1e-5, rtol=1e-5)
    assert metadata["task"] == "denoising" and metadata["channels"] == str(model.channels)
    assert metadata["scale"] == "1" and metadata["trained_on"] == '"photos"'


def test_one_program_for_each_enlargement(tmp_path):
    paths = export_restorer(Restorer(Repeated()), tmp_path, "pt2", "super_resolution")
    assert [path.name for path in paths] == ["super_resolution_x2.pt2", "super_resolution_x3.pt2"]
    x = torch.rand(2, 3, 21, 34)
    for path, scale in zip(paths, (2, 3), strict=True):
        program, metadata = loaded(path)
        expected = x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        torch.testing.assert_close(program(x), expected)
        assert metadata["scale"] == str(scale)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # inside torch.onnx
def test_an_onnx_program_gives_the_networks_output(tmp_path):
    import onnxruntime

    model = Plain(3)
    (path,) = export_restorer(Restorer(model), tmp_path, "onnx", "denoising")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.rand(3, 3, 29, 62)
    (restored,) = session.run(None, {"image": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(restored, model.eval()(x).numpy(), atol=1e-5)
    assert session.get_outputs()[0].name == "restored"
    assert session.get_modelmeta().custom_metadata_map["channels"] == "3"


def test_a_program_that_differs_is_not_kept(tmp_path, monkeypatch):
    written = export._write_pt2

    def wrong(*arguments):
        return tuple(output + 0.01 for output in written(*arguments))

    monkeypatch.setattr(export, "_write_pt2", wrong)
    with pytest.raises(PackageError, match=r"differs from the model by .* and was removed"):
        export_restorer(Restorer(Plain(1)), tmp_path, "pt2", "denoising")
    assert list(tmp_path.iterdir()) == []
