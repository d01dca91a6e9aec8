"""The plan of a run: what the user asks for meets data and model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError
from tasks.segmentation.config import PlainConfig, PlanConfig, R2UNetConfig, ResEncConfig, SMPConfig
from tasks.segmentation.data.cases import Case, Fold, Geometry, Scan, SegmentationData
from tasks.segmentation.labels import Labels, object_labels
from tasks.segmentation.planning.choose import choose_plan, count_labels, fingerprint_of
from tasks.segmentation.planning.plan import Plan

PLANS = str(Path(__file__).parent / "fixtures" / "nnUNetResEncUNetLPlans.json")
MODEL = ResEncConfig()


def dataset(shape, spacing, count=10, channels=("MRI",), cropped=None, name="mine"):
    values = np.linspace(0, 1, 50 * len(channels), dtype=np.float32).reshape(len(channels), 50)
    scan = Scan("", cropped or shape, spacing, 0.5 if cropped else 1.0, values, {0: 10, 1: 10})
    geometry = Geometry(shape, spacing, ".nii.gz")
    cases = [Case(f"case_{i:02}", (), None, None, geometry, scan) for i in range(count)]
    fold = Fold("model", tuple(range(count - 2)), (count - 2,), (count - 1,))
    labels = Labels(("background", "a", "b"), (0, 1, 2))
    return SegmentationData(name, cases, [fold], labels, list(channels), lambda case: None)


VOLUMES = dataset((36, 50, 35), (1.0, 1.0, 1.0), 260)
LARGE = dataset((432, 512, 512), (1.0, 0.768, 0.768), 131)
IMAGES = dataset((1, 512, 512), (999.0, 1.0, 1.0), 30)
PROSTATE = dataset((20, 320, 320), (3.6, 0.625, 0.625), 32, ("T2", "ADC"))


def test_auto_is_2d_for_images_and_3d_fullres_for_volumes():
    plan = choose_plan(VOLUMES, PlanConfig(), MODEL)
    assert (plan.configuration, plan.patch_size, plan.batch_size) == ("3d_fullres", (40, 56, 40), 4)
    assert plan.resample
    assert plan.crop
    assert Plan.from_dict(plan.to_dict()) == plan
    plan = choose_plan(IMAGES, PlanConfig(), MODEL)
    assert (plan.configuration, plan.patch_size, plan.batch_size) == ("2d", (192, 192), 8)
    assert not plan.resample
    assert not plan.crop


def test_only_training_cases_are_planned_for():
    assert len(fingerprint_of(VOLUMES).shapes) == 258


def test_images_are_taken_whole():
    data = dataset((1, 64, 64), (1.0, 1.0, 1.0), cropped=(1, 10, 10))
    plan = choose_plan(data, PlanConfig(), MODEL)
    assert plan.median_shape == (64, 64)
    assert plan.masked_normalisation == (False,)
    assert plan.transpose == (0, 1, 2)


def test_images_of_several_spacings_are_resampled():
    cases = [replace(case, scan=replace(case.scan, spacing=(999.0, 2.0, 2.0))) for case in IMAGES.cases[:5]]
    plan = choose_plan(replace(IMAGES, cases=[*cases, *IMAGES.cases[5:]]), PlanConfig(), MODEL)
    assert plan.resample
    assert choose_plan(IMAGES, PlanConfig(spacing=[2.0, 2.0]), MODEL).resample


def test_labels_are_counted_as_nnunet_does():
    assert count_labels(Labels(("background", "a"), (0, 1))) == 2
    assert count_labels(Labels(("background", "a"), (0, 1), ignore=2)) == 3
    assert count_labels(object_labels()) == 3


def test_batch_is_capped_with_a_line_that_says_so():
    config = PlanConfig(preset="default", configuration="2d")
    plan = choose_plan(VOLUMES, config, PlainConfig())
    assert plan.batch_size == 64
    assert (
        "batch 363 is capped at 64: so many patches make a step slow; --plan.max_batch 363 allows it"
        in plan.why
    )
    assert choose_plan(VOLUMES, replace(config, max_batch=400), PlainConfig()).batch_size == 363


def test_a_batch_that_is_asked_for_is_told_beside_the_planned_one():
    plan = choose_plan(VOLUMES, PlanConfig(), MODEL, 2)
    assert plan.batch_size == 2
    assert [line for line in plan.why if line.startswith("batch")] == ["batch 2: as asked (planned: 4)"]
    config = PlanConfig(preset="default", configuration="2d")
    plan = choose_plan(VOLUMES, config, PlainConfig(), 100)
    assert plan.batch_size == 100
    assert [line for line in plan.why if line.startswith("batch")] == ["batch 100: as asked (planned: 64)"]
    plan = choose_plan(PROSTATE, PlanConfig(file=PLANS), MODEL, 3)
    assert (plan.batch_size, plan.why[-1]) == (3, "batch 3: as asked (planned: 5)")


def test_encoder_widths_and_blocks_are_the_models():
    plan = choose_plan(VOLUMES, PlanConfig(preset="resenc_l"), PlainConfig())
    assert not plan.residual
    assert plan.blocks == (2, 2, 2, 2)
    assert plan.decoder_convs == (2, 2, 2)
    plan = choose_plan(VOLUMES, PlanConfig(preset="default"), MODEL)
    assert plan.residual
    assert plan.blocks == (1, 3, 4, 6)
    assert plan.decoder_convs == (1, 1, 1)
    model = ResEncConfig(base_width=12, max_width=40, blocks=[1, 2])
    plan = choose_plan(VOLUMES, PlanConfig(), model)
    assert plan.widths == (12, 24, 40, 40)
    assert plan.blocks == (1, 2, 2, 2)
    # A narrower network leaves memory for more patches.
    assert plan.batch_size > choose_plan(VOLUMES, PlanConfig(), MODEL).batch_size
    with pytest.raises(ConfigError, match=r"--model\.blocks takes numbers from 1 on"):
        choose_plan(VOLUMES, PlanConfig(), ResEncConfig(blocks=[1, 0]))


def test_patch_is_padded_and_topology_and_batch_follow():
    plan = choose_plan(LARGE, PlanConfig(patch_size=[30, 60, 60]), MODEL)
    assert plan.patch_size == (32, 64, 64)
    assert np.prod(plan.strides, axis=0).tolist() == [8, 16, 16]
    # Where a coarse model exists, the fine one has the Dice of the whole batch.
    assert plan.batch_dice
    assert "patch 32 x 64 x 64: as asked for, padded to multiples of the strides" in plan.why
    small = choose_plan(LARGE, PlanConfig(patch_size=[16, 16, 16]), MODEL)
    assert small.batch_size == 8


def test_spacing_is_replanned():
    plan = choose_plan(VOLUMES, PlanConfig(spacing=[2.0, 1.0, 1.0]), MODEL)
    assert plan.spacing == (2, 1, 1)
    assert plan.median_shape == (18, 50, 35)
    # At such a spacing there is a lowres model even of small data.
    plan = choose_plan(VOLUMES, PlanConfig(configuration="3d_lowres", spacing=[2.0, 2.0, 2.0]), MODEL)
    assert (plan.configuration, plan.median_shape, plan.spacing) == ("3d_lowres", (18, 25, 18), (2, 2, 2))


def test_lowres_and_cascade():
    coarse = choose_plan(LARGE, PlanConfig(configuration="3d_lowres"), MODEL)
    assert coarse.spacing[0] > 1
    assert not coarse.batch_dice
    again = choose_plan(LARGE, PlanConfig(configuration="3d_lowres", patch_size=[16, 32, 32]), MODEL)
    assert (again.patch_size, again.spacing) == ((16, 32, 32), coarse.spacing)
    fine = choose_plan(LARGE, PlanConfig(configuration="3d_cascade_fullres", previous="runs/x"), MODEL)
    assert fine.configuration == "3d_cascade_fullres"
    assert fine.batch_dice
    assert fine.previous_classes == 0
    assert replace(fine, configuration="3d_fullres") == choose_plan(LARGE, PlanConfig(), MODEL)


def test_networks_that_are_not_planned():
    model = R2UNetConfig()
    plan = choose_plan(dataset((1, 100, 70), (999.0, 1.0, 1.0)), PlanConfig(), model)
    assert plan.patch_size == (112, 80)
    plan = choose_plan(IMAGES, PlanConfig(patch_size=[50, 50]), model)
    assert (plan.patch_size, plan.batch_size) == ((50, 50), 32)
    plan = choose_plan(VOLUMES, PlanConfig(), SMPConfig())
    assert (plan.configuration, plan.patch_size) == ("2d", (64, 64))
    assert "patch 64 x 64: smp takes multiples of 32" in plan.why


@pytest.mark.parametrize("model", [R2UNetConfig(), SMPConfig()], ids=["r2unet", "smp"])
def test_networks_that_are_not_planned_are_not_explained_by_stages(model):
    told = choose_plan(IMAGES, PlanConfig(), MODEL).why
    assert any(line.startswith("stages 6: the last feature map, 6 x 6,") for line in told)
    assert any("channels" in line and "blocks" in line for line in told)
    why = choose_plan(IMAGES, PlanConfig(), model).why
    assert not [line for line in why if "stage" in line or "channels" in line or "blocks" in line]
    assert "2d by the preset cpu" in why
    why = choose_plan(IMAGES, PlanConfig(patch_size=[50, 50]), model).why
    assert [line for line in why if line.startswith("patch")] == ["patch 50 x 50: as asked for"]


@pytest.mark.parametrize(
    ("data", "config", "message"),
    [
        (
            VOLUMES,
            PlanConfig(spacing=[100.0, 200.0, 300.0]),
            r"--plan\.spacing 100 x 200 x 300 mm: .* would have 0 x 0 x 0 voxels; make it finer",
        ),
        # The order is that of the files, though the coarsest axis comes first in the plan.
        (VOLUMES, PlanConfig(spacing=[1.0, 1.0, 90.0]), "1 x 1 x 90 mm: .* have 36 x 50 x 0 voxels"),
        (
            VOLUMES,
            PlanConfig(spacing=[2.0, 200.0, 2.0], configuration="3d_lowres"),
            "2 x 200 x 2 mm: .* 18 x 0 x 18 voxels",
        ),
        (IMAGES, PlanConfig(spacing=[2000.0, 2.0]), "2000 x 2 mm: .* have 0 x 256 voxels"),
        (VOLUMES, PlanConfig(memory=0.001), r"--plan\.memory 0\.001: .*cpu.* more memory is needed"),
        (VOLUMES, PlanConfig(memory=float("nan")), r"--plan\.memory must be above 0"),
        (VOLUMES, PlanConfig(spacing=[1.0, float("inf"), 1.0]), r"--plan\.spacing must be above 0"),
    ],
)
def test_spacings_and_memory_that_leave_nothing_are_one_line(data, config, message):
    with pytest.raises(ConfigError, match=message) as error:
        choose_plan(data, config, MODEL)
    assert "\n" not in str(error.value)


def test_a_plans_file_is_taken_as_it_is():
    config = PlanConfig(file=PLANS)
    plan = choose_plan(PROSTATE, config, MODEL)
    assert (plan.patch_size, plan.batch_size, plan.preset) == ((20, 320, 320), 5, "resenc_l")
    assert plan.crop
    plan = choose_plan(PROSTATE, replace(config, patch_size=[18, 100, 64], normalisation=["none"]), MODEL)
    assert plan.patch_size == (20, 128, 64)
    assert plan.normalisation == ("none", "none")
    plan = choose_plan(PROSTATE, config, PlainConfig(base_width=8))
    assert not plan.residual
    assert plan.blocks == (2,) * 7
    assert plan.widths == (8, 16, 32, 64, 128, 256, 320)
    assert any("not as in the file" in line for line in plan.why)
    assert choose_plan(PROSTATE, config, ResEncConfig(blocks=[1])).blocks == (1,) * 7


@pytest.mark.parametrize(
    ("data", "config", "model", "message"),
    [
        (
            IMAGES,
            PlanConfig(configuration="3d_fullres"),
            MODEL,
            "needs volumes, and all cases of mine are images",
        ),
        (
            VOLUMES,
            PlanConfig(configuration="3d_lowres"),
            MODEL,
            "no 3d_lowres: a patch of 3d_fullres holds 142%",
        ),
        (VOLUMES, PlanConfig(patch_size=[32, 32]), MODEL, "patch_size has 2 entries; .* 3 dimensions"),
        (VOLUMES, PlanConfig(configuration="3d_cascade_fullres"), MODEL, r"needs --plan\.previous"),
        (VOLUMES, PlanConfig(previous="runs/x"), MODEL, "is for --plan.configuration 3d_cascade_fullres"),
        (VOLUMES, PlanConfig(configuration="3d_fullres"), SMPConfig(), "smp is for images"),
        (VOLUMES, PlanConfig(memory=0), MODEL, r"--plan\.memory must be above 0"),
        (VOLUMES, PlanConfig(max_batch=0), MODEL, r"--plan\.max_batch must be above 0"),
        (VOLUMES, PlanConfig(patch_size=[0, 8, 8]), MODEL, r"--plan\.patch_size must be above 0"),
        (VOLUMES, PlanConfig(spacing=[1.0, 1.0]), MODEL, "spacing has 2 entries; it takes 3"),
        (VOLUMES, PlanConfig(file=PLANS), MODEL, "is for 2 channels, and mine has 1"),
        (
            PROSTATE,
            PlanConfig(file=PLANS, configuration="3d_lowres"),
            MODEL,
            "no configuration 3d_lowres; it has 2d",
        ),
        (PROSTATE, PlanConfig(file=PLANS, spacing=[1.0, 1.0, 1.0]), MODEL, "the spacing is in the file"),
        (PROSTATE, PlanConfig(file=PLANS, memory=4), MODEL, "planned already"),
    ],
)
def test_what_does_not_fit_is_one_line(data, config, model, message):
    with pytest.raises(ConfigError, match=message) as error:
        choose_plan(data, config, model)
    assert "\n" not in str(error.value)
