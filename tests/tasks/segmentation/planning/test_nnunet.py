"""Plans against those that nnU-Net v2.8.1 wrote for the same fingerprints."""

import json
from pathlib import Path

import pytest

from core.errors import ConfigError, DataError
from tasks.segmentation.planning.fingerprint import Fingerprint, read_fingerprint
from tasks.segmentation.planning.nnunet_json import read_plans, to_json, write_plans
from tasks.segmentation.planning.planner import make_plans
from tasks.segmentation.planning.presets import PRESETS

FIXTURES = Path(__file__).parent / "fixtures"
TABLE = json.loads((FIXTURES / "nnunet_plans.json").read_text())
PRESET_OF = {PRESETS[name].plans_name: name for name in PRESETS}
BOTH = [(dataset, plans) for dataset in TABLE for plans in TABLE[dataset]["plans"]]
STATISTICS = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)


def fingerprint_of(dataset):
    facts = TABLE[dataset]
    shapes = [tuple(shape) for shape, count in facts["shapes"] for _ in range(count)]
    spacings = [tuple(facts["spacing"])] * len(shapes)
    return Fingerprint(spacings, shapes, facts["relative_size"], list(facts["intensities"].values()))


def planned(dataset, plans_name):
    facts = TABLE[dataset]
    base, _, memory = plans_name.partition("_")
    return make_plans(
        fingerprint_of(dataset),
        facts["labels"],
        facts["channels"],
        PRESET_OF[base],
        float(memory[:-1]) if memory else None,
        name=facts["name"],
        training_cases=facts["cases"],
    )


def lits(preset="default"):
    """Like LiTS: CT, large volumes."""
    shapes = [(432, 512, 512)] * 131
    return make_plans(Fingerprint([(1.0, 0.768, 0.768)] * 131, shapes, 1.0, [STATISTICS]), 3, ["CT"], preset)


def same(ours, theirs, where=""):
    """Equal, and of equal types, since JSON tells 1 from 1.0."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for key in ours:
            same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            same(our, their, f"{where}/{i}")
    else:
        assert ours == theirs, where


@pytest.mark.parametrize(("dataset", "plans_name"), BOTH)
def test_plans_are_nnunets(dataset, plans_name):
    expected = TABLE[dataset]["plans"][plans_name]
    written = to_json(planned(dataset, plans_name))
    assert written["plans_name"] == plans_name
    same(written["experiment_planner_used"], expected["planner"])
    same(written["transpose_forward"], expected["transpose"])
    same(written["original_median_spacing_after_transp"], expected["spacing"])
    same(written["original_median_shape_after_transp"], expected["shape"])
    assert list(written["configurations"]) == list(expected["configurations"])
    for name, wanted in expected["configurations"].items():
        got = written["configurations"][name]
        network = got["architecture"]["arch_kwargs"]
        blocks = network.get("n_conv_per_stage", network.get("n_blocks_per_stage"))
        ours = {
            "patch": got["patch_size"],
            "batch": got["batch_size"],
            "spacing": got["spacing"],
            "median": got["median_image_size_in_voxels"],
            "batch_dice": got["batch_dice"],
            "schemes": got["normalization_schemes"],
            "masked": got["use_mask_for_norm"],
            "data": got["data_identifier"],
            "features": network["features_per_stage"],
            "strides": network["strides"],
            "kernels": network["kernel_sizes"],
            "blocks": blocks,
            "network": got["architecture"]["network_class_name"].rpartition(".")[2],
        }
        same(ours, wanted, name)


def test_every_field_of_the_file():
    expected = json.loads((FIXTURES / "nnUNetResEncUNetLPlans.json").read_text())
    same(to_json(planned("prostate", "nnUNetResEncUNetLPlans")), expected)


def test_a_file_of_nnunet_is_read_and_written_unchanged(tmp_path):
    path = FIXTURES / "nnUNetResEncUNetLPlans.json"
    plans = read_plans(path)
    assert plans.preset == "resenc_l"
    ours = planned("prostate", "nnUNetResEncUNetLPlans")
    assert plans.configurations == ours.configurations
    write_plans(plans, tmp_path / "plans.json")
    same(json.loads((tmp_path / "plans.json").read_text()), json.loads(path.read_text()))


def test_lowres_and_cascade_are_written_as_nnunet_has_them(tmp_path):
    plans = lits()
    write_plans(plans, tmp_path / "plans.json")
    written = json.loads((tmp_path / "plans.json").read_text())["configurations"]
    assert list(written) == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    assert written["3d_cascade_fullres"] == {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    assert written["3d_lowres"]["next_stage"] == "3d_cascade_fullres"
    same(written["3d_lowres"]["median_image_size_in_voxels"], [178, 211, 211])
    again = read_plans(tmp_path / "plans.json")
    assert again.configurations == plans.configurations
    # The residual planners share the data of the first, but not where the resolution is their own.
    identifiers = lits("resenc_l").identifiers
    assert identifiers["3d_fullres"] == "nnUNetPlans_3d_fullres"
    assert identifiers["3d_lowres"] == "nnUNetResEncUNetLPlans_3d_lowres"


def test_files_of_older_versions_and_inherited_configurations_are_read(tmp_path):
    stored = to_json(planned("hippocampus", "nnUNetPlans"))
    old = stored["configurations"]["3d_fullres"]
    network = old.pop("architecture")["arch_kwargs"]
    old |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 32,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": network["n_conv_per_stage"],
        "n_conv_per_stage_decoder": network["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": network["strides"],
        "conv_kernel_sizes": network["kernel_sizes"],
    }
    stored["configurations"]["3d_small_batch"] = {"inherits_from": "3d_fullres", "batch_size": 2}
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(stored))
    plans = read_plans(path).configurations
    assert plans["3d_fullres"] == planned("hippocampus", "nnUNetPlans").configurations["3d_fullres"]
    assert plans["3d_small_batch"].batch_size == 2
    assert plans["3d_small_batch"].strides == plans["3d_fullres"].strides


def broken(change):
    stored = json.loads((FIXTURES / "nnUNetResEncUNetLPlans.json").read_text())
    change(stored, stored["configurations"]["2d"])
    return json.dumps(stored)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no JSON object"),
        (broken(lambda stored, _: stored.pop("transpose_forward")), "'transpose_forward' is missing"),
        (broken(lambda _, two: two["normalization_schemes"].append("Mine")), "unknown normalisation Mine"),
        (broken(lambda _, two: two["architecture"].update(network_class_name="a.Primus")), "network Primus"),
        (broken(lambda _, two: two.update(inherits_from="2d")), "inherits from itself"),
        (broken(lambda stored, _: stored.update(transpose_forward=[0, 1])), "not a plans file"),
    ],
)
def test_bad_plans_files_are_one_line(tmp_path, text, message):
    path = tmp_path / "plans.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_plans(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scheme_that_nnunet_lacks_is_not_written():
    plans = make_plans(fingerprint_of("hippocampus"), 3, ["MRI"], "cpu", normalisation=["clahe"])
    assert plans.configurations["2d"].normalisation == ("clahe",)
    with pytest.raises(ConfigError, match="no scheme clahe"):
        to_json(plans)


def test_fingerprint_files(tmp_path):
    fingerprint = fingerprint_of("hippocampus")
    path = tmp_path / "dataset_fingerprint.json"
    path.write_text(json.dumps(fingerprint.to_json()))
    assert read_fingerprint(path) == fingerprint
    path.write_text('{"spacings": []}')
    with pytest.raises(DataError, match=r"dataset_fingerprint\.json"):
        read_fingerprint(path)
    path.write_text(json.dumps(fingerprint.to_json() | {"spacings": [[1, 1, 1]]}))
    with pytest.raises(DataError, match="260 shapes and 1 spacings"):
        read_fingerprint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacings": [[0, 1, 1]]}, r"spacing \[0, 1, 1\] must be three numbers of mm above 0"),
        ({"spacings": [[1, -1, 1]]}, r"spacing \[1, -1, 1\]"),
        ({"spacings": [[1, 1, float("nan")]]}, r"spacing \[1, 1, nan\]"),
        ({"spacings": [[1, 1, float("inf")]]}, r"spacing \[1, 1, inf\]"),
        ({"spacings": ["abc"]}, r"spacing \['a', 'b', 'c'\]"),
        ({"shapes_after_crop": [[8, 0, 8]]}, r"shape \[8, 0, 8\] must be three whole numbers from 1 on"),
        ({"shapes_after_crop": [[8, 8.5, 8]]}, r"shape \[8, 8\.5, 8\]"),
        ({"median_relative_size_after_cropping": "1"}, "median_relative_size_after_cropping '1' must lie"),
        (
            {"foreground_intensity_properties_per_channel": {"0": {"mean": 1}}},
            "channel 0 needs the numbers max",
        ),
        ({"foreground_intensity_properties_per_channel": [1]}, "is not a dataset_fingerprint.json"),
    ],
)
def test_sizes_that_no_case_has_are_refused(tmp_path, change, message):
    good = Fingerprint([(1.0, 1.0, 1.0)], [(8, 8, 8)], 1.0, [STATISTICS])
    path = tmp_path / "dataset_fingerprint.json"
    path.write_text(json.dumps(good.to_json()))
    assert read_fingerprint(path) == good
    path.write_text(json.dumps(good.to_json() | change))
    with pytest.raises(DataError, match=message) as error:
        read_fingerprint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_write_that_fails_leaves_the_old_plans(tmp_path, monkeypatch):
    plans = lits()
    path = tmp_path / "plans.json"
    write_plans(plans, path)
    old = path.read_text()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.track.folder.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_plans(lits("resenc_l"), path)
    assert path.read_text() == old
    assert [each.name for each in tmp_path.iterdir()] == ["plans.json"]
