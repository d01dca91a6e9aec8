"""Weights that the authors of CSI-4CAST have released, read into our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from core.backbones.load import load_weights, plain_weights
from tasks.csi.models.csi4cast import Csi4Cast

BLOCK = {
    "g_pw_conv_in": "conv1",
    "g_pw_conv_in_bn": "norm1",
    "dw_conv": "conv2",
    "dw_conv_bn": "norm2",
    "g_pw_conv_out": "conv3",
    "g_pw_conv_out_bn": "norm3",
    "ca.se.1": "attention.fc1",
    "ca.se.3": "attention.fc2",
    "ca.fc1": "attention.fc1",
    "ca.fc2": "attention.fc2",
}
"""Layers of a shuffle block: theirs and ours. TDD and FDD model name those of the attention differently."""

LAYER = {
    "self_attn.in_proj_": (0, "branch.in_proj."),
    "self_attn.out_proj.": (0, "branch.out_proj."),
    "norm1.": (0, "act."),
    "linear1.": (1, "branch.0."),
    "linear2.": (1, "branch.3."),
    "norm2.": (1, "act."),
}
"""Layers of PyTorch's encoder layer, and which of our two blocks has them as what."""

ENDS = {
    "embedding.embedding.value_embedding.tokenConv.": "embedding.conv.",
    "embedding.embedding.temporal_embedding.embed.": "embedding.temporal.",
    "embedding.predict_linear_pre.": "embedding.mix.",
    "mlp.pred_to_data.": "project.",
    "mlp.hist_to_pred.": "steps.",
}

ARL = re.compile(r"arl\.(temporal|subcarrier)_proj_(freq|delay)\.(mlp\.mlp|layernorm)\.(.+)")
CONVS = re.compile(r"embedding\.RB_(delay|freq)\.(\d+)\.(?:(.+)\.)?(\w+)")
CODER = re.compile(r"denoiser\.(encoder|decoder)\.(\d+)\.([01])\.(\w+)")
ENCODER = re.compile(r"transformer\.transformer\.layers\.(\d+)\.(.+)")

DOMAINS = {"freq": "frequency", "delay": "delay"}
AXES = {"temporal": "time", "subcarrier": "band"}


def load_released(network: Csi4Cast, state: Mapping[str, Tensor], source: str = "the state_dict") -> Csi4Cast:
    """Gives a network the weights of a released checkpoint and returns it in evaluation mode.

    Args:
        network: Of the sizes of the checkpoint and with ``temporal``; predictions are the authors' with
            the standardisation ``batch``, and ``delay_residual`` ``multiply`` for FDD.
        state: As :func:`core.backbones.load.read_weights` reads it from the file.
        source: Where the weights are from, for messages.

    Raises:
        DataError: The weights are of another network.
    """
    weights = plain_weights(state, source)
    weights = {key.removeprefix("model."): value for key, value in weights.items()}
    convolutions = sum(CODER.fullmatch(key) is not None and key.endswith(".0.weight") for key in weights)
    ours = {
        _rename(key, convolutions // 2): value
        for key, value in weights.items()
        if not key.endswith("position_embedding.pe")  # positions are computed
    }
    return load_weights(network, ours, source=source).eval()


def _rename(key: str, encoders: int) -> str:
    """Returns our name of a weight; what is unknown keeps its name, so that the message about it has that."""
    if found := ARL.fullmatch(key):
        axis, domain, part, rest = found.groups()
        return f"{DOMAINS[domain]}.{AXES[axis]}.{'norm' if part == 'layernorm' else 'perceptron'}.{rest}"
    if found := CONVS.fullmatch(key):
        domain, place, layer, leaf = found.groups()
        inner = f".{BLOCK.get(layer, layer)}" if layer else ""
        return f"{DOMAINS[domain]}.convs.{place}{inner}.{leaf}"
    if found := CODER.fullmatch(key):
        coder, place, layer, leaf = found.groups()
        conv = int(place) + (encoders if coder == "decoder" else 0)
        return f"denoiser.0.layers.{3 * conv + int(layer)}.{leaf}"
    if found := ENCODER.fullmatch(key):
        place, rest = found.groups()
        for theirs, (half, name) in LAYER.items():
            if rest.startswith(theirs):
                return f"encoder.{2 * int(place) + half}.{name}{rest.removeprefix(theirs)}"
    for theirs, name in ENDS.items():
        if key.startswith(theirs):
            return name + key.removeprefix(theirs)
    return key
