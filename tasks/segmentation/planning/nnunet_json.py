"""nnU-Net's own plans file, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ConfigError, DataError
from core.track.folder import write_atomic
from tasks.segmentation.planning.fingerprint import normalising, read_json
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.planning.planner import Plans
from tasks.segmentation.planning.presets import PRESETS
from tasks.segmentation.planning.schemes import CLASSES

NETWORKS = "dynamic_network_architectures.architectures.unet."
PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
_BLOCKS = {False: "n_conv_per_stage", True: "n_blocks_per_stage"}
_RESAMPLE = "resample_data_or_seg_to_shape"
_CASCADE, _LOWRES, _FULLRES = "3d_cascade_fullres", "3d_lowres", "3d_fullres"


def to_json(plans: Plans) -> dict[str, Any]:
    """Returns the content of a plans file.

    Raises:
        ConfigError: A channel's normalisation is one that nnU-Net does not have.
    """
    backward = [plans.transpose.index(axis) for axis in range(3)]
    return {
        "dataset_name": plans.name,
        "plans_name": plans.plans_name,
        "original_median_spacing_after_transp": list(plans.median_spacing),
        "original_median_shape_after_transp": list(plans.median_shape),
        "image_reader_writer": plans.reader,
        "transpose_forward": list(plans.transpose),
        "transpose_backward": backward,
        "configurations": {name: _configuration(plans, name) for name in plans.configurations},
        "experiment_planner_used": plans.planner_name,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): dict(each) for channel, each in enumerate(plans.intensities)
        },
    }


def _configuration(plans: Plans, name: str) -> dict[str, Any]:
    if name == _CASCADE:
        return {"inherits_from": _FULLRES, "previous_stage": _LOWRES}
    plan = plans.configurations[name]
    if unknown := set(plan.normalisation) - set(CLASSES):
        raise ConfigError(
            f"--plan.normalisation: nnU-Net has no scheme {unknown.pop()}, so it is not in its file"
        )
    image, labels = _resampling(3, False), _resampling(1, True)
    written = {
        "data_identifier": plans.identifiers[name],
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.batch_size,
        "patch_size": list(plan.patch_size),
        "median_image_size_in_voxels": list(plan.median_shape),
        "spacing": list(plan.spacing),
        "normalization_schemes": [CLASSES[scheme] for scheme in plan.normalisation],
        "use_mask_for_norm": list(plan.masked_normalisation),
        "resampling_fn_data": _RESAMPLE,
        "resampling_fn_seg": _RESAMPLE,
        "resampling_fn_data_kwargs": image,
        "resampling_fn_seg_kwargs": labels,
        "resampling_fn_probabilities": _RESAMPLE,
        "resampling_fn_probabilities_kwargs": _resampling(1, False),
        "architecture": _architecture(plan),
        "batch_dice": plan.batch_dice,
    }
    if name == _LOWRES and _CASCADE in plans.configurations:
        written["next_stage"] = _CASCADE
    return written


def _resampling(order: int, labels: bool) -> dict[str, Any]:
    return {"is_seg": labels, "order": order, "order_z": 0, "force_separate_z": None}


def _architecture(plan: Plan) -> dict[str, Any]:
    return {
        "network_class_name": NETWORKS + (RESIDUAL if plan.residual else PLAIN),
        "arch_kwargs": {
            "n_stages": len(plan.strides),
            "features_per_stage": list(plan.widths),
            "conv_op": f"torch.nn.modules.conv.Conv{plan.dims}d",
            "kernel_sizes": [list(kernel) for kernel in plan.kernels],
            "strides": [list(stride) for stride in plan.strides],
            _BLOCKS[plan.residual]: list(plan.blocks),
            # nnU-Net counts the decoder from the coarsest stage.
            "n_conv_per_stage_decoder": list(plan.decoder_convs[::-1]),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{plan.dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def write_plans(plans: Plans, path: Path) -> None:
    """Writes a plans file that nnU-Net takes.

    Raises:
        ConfigError: See :func:`to_json`.
        OSError: It cannot be written there.
    """
    write_atomic(path, json.dumps(to_json(plans), indent=4) + "\n")


def read_plans(path: Path) -> Plans:
    """Reads a plans file of nnU-Net or of :func:`write_plans`.

    Files before nnU-Net 2.3, which name the parts of the network one by one, are read too.

    Raises:
        DataError: It cannot be read, lacks something, or names a network, a normalisation or a resampling that is
            not here.
    """
    return plans_of(read_json(path), path)


def plans_of(stored: Mapping[str, Any], path: Path) -> Plans:
    """Returns the plans that the content of a plans file describes.

    Args:
        stored: Content.
        path: Where it is from, for messages.

    Raises:
        DataError: As for :func:`read_plans`.
    """
    try:
        return _from_json(stored, path)
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{path}: {error} is missing; it should be a plans file of nnU-Net v2") from None
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise DataError(f"{path} is not a plans file of nnU-Net v2: {error}") from None


def _from_json(stored: Mapping[str, Any], path: Path) -> Plans:
    known = {preset.plans_name: preset.name for preset in map(PRESETS.__getitem__, PRESETS)}
    planner = stored["experiment_planner_used"]
    preset = known.get(stored["plans_name"].split("_")[0], planner)
    channels = stored["foreground_intensity_properties_per_channel"]
    intensities = [channels[key] for key in sorted(channels, key=int)]
    first, second, third = stored["transpose_forward"]
    plans = Plans(
        name=stored["dataset_name"],
        preset=preset,
        plans_name=stored["plans_name"],
        planner_name=planner,
        reader=stored["image_reader_writer"],
        transpose=(first, second, third),
        median_spacing=tuple(stored["original_median_spacing_after_transp"]),
        median_shape=tuple(stored["original_median_shape_after_transp"]),
        intensities=intensities,
        configurations={},
        identifiers={},
    )
    for name in stored["configurations"]:
        values = _inherited(stored["configurations"], name)
        plans.configurations[name] = _read_configuration(plans, name, values, f"{path}: {name}")
        plans.identifiers[name] = values["data_identifier"]
    return plans


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    values, chain = dict(configurations[name]), {name}
    while parent := values.pop("inherits_from", None):
        if parent in chain:
            raise ValueError(f"configuration {name} inherits from itself")
        chain.add(parent)
        values = {
            **configurations[parent],
            **values,
            "inherits_from": configurations[parent].get("inherits_from"),
        }
    return values


def _read_configuration(plans: Plans, name: str, values: Mapping[str, Any], where: str) -> Plan:
    names = {theirs: ours for ours, theirs in CLASSES.items()}
    if unknown := [each for each in values["normalization_schemes"] if each not in names]:
        raise DataError(f"{where}: unknown normalisation {unknown[0]}. Known: {', '.join(names)}")
    network, parts = _read_network(values)
    if network not in (PLAIN, RESIDUAL):
        raise DataError(f"{where}: unknown network {network}. Known: {PLAIN}, {RESIDUAL}")
    why = [f"{where}: as the file says"]
    if values.get("resampling_fn_data", _RESAMPLE) != _RESAMPLE:
        why.append(f"{values['resampling_fn_data']} is replaced by cubic splines")
    return Plan(
        configuration=name,
        preset=plans.preset,
        transpose=plans.transpose,
        spacing=tuple(values["spacing"]),
        patch_size=tuple(values["patch_size"]),
        batch_size=values["batch_size"],
        median_shape=tuple(values["median_image_size_in_voxels"]),
        normalisation=tuple(names[each] for each in values["normalization_schemes"]),
        masked_normalisation=tuple(values["use_mask_for_norm"]),
        intensities=normalising(plans.intensities),
        residual=network == RESIDUAL,
        batch_dice=values["batch_dice"],
        why=tuple(why),
        **parts,
    )


def _read_network(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the network's class and its stages."""
    if "architecture" in values:
        stored = values["architecture"]["arch_kwargs"]
        network = values["architecture"]["network_class_name"].rpartition(".")[2]
        widths, strides, kernels = (stored[key] for key in ("features_per_stage", "strides", "kernel_sizes"))
        blocks = stored.get(_BLOCKS[network == RESIDUAL], ())
        convs = stored["n_conv_per_stage_decoder"]
    else:
        network = values["UNet_class_name"]
        blocks, convs = values["n_conv_per_stage_encoder"], values["n_conv_per_stage_decoder"]
        strides, kernels = values["pool_op_kernel_sizes"], values["conv_kernel_sizes"]
        base, largest = values["UNet_base_num_features"], values["unet_max_num_features"]
        widths = [min(base * 2**stage, largest) for stage in range(len(strides))]
    return network, {
        "widths": tuple(widths),
        "strides": tuple(tuple(stride) for stride in strides),
        "kernels": tuple(tuple(kernel) for kernel in kernels),
        "blocks": tuple(blocks),
        "decoder_convs": tuple(convs[::-1]),
    }
