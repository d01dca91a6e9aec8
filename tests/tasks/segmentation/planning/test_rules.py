"""The rules one by one, on numbers that were worked out by hand or stand in nnU-Net's plans."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError
from tasks.segmentation.data.cases import Scan
from tasks.segmentation.planning.configure import Planner
from tasks.segmentation.planning.fingerprint import Fingerprint, take_fingerprint
from tasks.segmentation.planning.memory import feature_map_size
from tasks.segmentation.planning.planner import make_plans
from tasks.segmentation.planning.presets import PRESETS
from tasks.segmentation.planning.spacing import median_shape, target_spacing
from tasks.segmentation.planning.topology import pool_and_kernels

STATISTICS = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)


def constant(spacing, shape, cases, relative_size=1.0, channels=1):
    return Fingerprint([spacing] * cases, [shape] * cases, relative_size, [STATISTICS] * channels)


LITS = constant((1.0, 0.768, 0.768), (432, 512, 512), 131)
DRIVE = constant((999.0, 1.0, 1.0), (1, 584, 565), 20)
HIPPOCAMPUS = constant((1.0, 1.0, 1.0), (36, 50, 35), 260)


@pytest.mark.parametrize(
    ("preset", "patch", "stages", "labels", "expected"),
    [
        ("default", (128, 128, 128), 6, 3, 453_694_976),
        ("resenc", (128, 128, 128), 6, 3, 558_319_104),
        ("default", (512, 512), 7, 3, 83_033_856),
        ("resenc", (512, 512), 7, 3, 129_793_792),
        ("default", (40, 56, 40), 4, 3, 19_212_200),
        ("resenc", (40, 56, 40), 4, 3, 23_647_400),
    ],
)
def test_estimate_is_that_of_nnunets_networks(preset, patch, stages, labels, expected):
    """Values of ``compute_conv_feature_map_size`` of nnU-Net's networks, with deep supervision."""
    rules, dims = PRESETS[preset], len(patch)
    strides = [(1,) * dims] + [(2,) * dims] * (stages - 1)
    network = (patch, strides, rules.stage_widths(stages, dims), rules.stage_blocks(stages))
    convs = (rules.decoder_convs,) * (stages - 1)
    assert (
        feature_map_size(*network, convs, labels, residual=rules.residual, deep_supervision=True) == expected
    )
    # Without it, one output at the full size is left.
    voxels = [np.prod(patch) // 2 ** (dims * stage) for stage in range(1, stages - 1)]
    assert feature_map_size(*network, convs, labels, residual=rules.residual) == expected - labels * sum(
        voxels
    )


@pytest.mark.parametrize(
    ("preset", "configuration", "patch", "batch", "stages"),
    [
        ("default", "2d", (512, 512), 12, 8),
        ("default", "3d_fullres", (128, 128, 128), 2, 6),
        ("default", "3d_lowres", (128, 128, 128), 2, 6),
        ("resenc_l", "3d_fullres", (160, 224, 192), 2, 6),
        ("resenc_xl", "3d_fullres", (192, 256, 256), 2, 7),
    ],
)
def test_lits(preset, configuration, patch, batch, stages):
    plan = make_plans(LITS, 3, ["CT"], preset).configurations[configuration]
    assert (plan.patch_size, plan.batch_size, len(plan.strides)) == (patch, batch, stages)
    assert plan.normalisation == ("ct",)
    assert plan.batch_dice == (configuration != "3d_lowres")


def test_lits_lowres_and_the_uneven_axes_of_xl():
    default = make_plans(LITS, 3, ["CT"], "default")
    assert default.configurations["3d_lowres"].spacing == pytest.approx((2.427, 1.864, 1.864), abs=1e-3)
    large = make_plans(LITS, 3, ["CT"], "resenc_l").configurations["3d_lowres"]
    assert large.spacing == pytest.approx((1.605, 1.232, 1.232), abs=1e-3)
    huge = make_plans(LITS, 3, ["CT"], "resenc_xl").configurations["3d_fullres"]
    assert tuple(np.log2(np.prod(huge.strides, axis=0)).astype(int)) == (5, 6, 6)
    cascade = default.configurations["3d_cascade_fullres"]
    full = default.configurations["3d_fullres"]
    assert replace(cascade, configuration="3d_fullres") == full


def test_acdc():
    plans = make_plans(constant((10.0, 1.5625, 1.5625), (10, 256, 224), 200), 4, ["cineMRI"], "default")
    plan = plans.configurations["3d_fullres"]
    assert (plan.patch_size, plan.batch_size) == ((10, 256, 224), 7)
    assert plan.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert plan.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert "3d_fullres: stage 2 pools y and x alone: z is at least twice as coarse" in plans.why
    assert "3d_fullres: stage 4 pools y and x alone: z has 5 voxels" in plans.why


def test_residual_planners_keep_the_batch_and_the_first_planner_grows_the_patch():
    default = make_plans(DRIVE, 2, ["zscore"], "default")
    assert list(default.configurations) == ["2d"]
    plan = default.configurations["2d"]
    assert (plan.patch_size, plan.batch_size) == ((640, 640), 2)
    plan = make_plans(DRIVE, 2, ["zscore"], "resenc_m").configurations["2d"]
    assert (plan.patch_size, plan.batch_size) == ((512, 512), 13)


def test_medians_are_not_rounded_before_the_patch_is_padded():
    assert pool_and_kernels((1, 1, 1), (16.5, 16.5, 16.5)).patch_size == (20, 20, 20)
    assert pool_and_kernels((1, 1, 1), (16, 16, 16)).patch_size == (16, 16, 16)
    fingerprint = replace(HIPPOCAMPUS, shapes=[(16, 16, 16), (17, 17, 17)], spacings=[(1.0, 1.0, 1.0)] * 2)
    plan = make_plans(fingerprint, 3, ["MRI"], "default").configurations["3d_fullres"]
    assert plan.median_shape == (16.5, 16.5, 16.5)
    assert plan.patch_size == (20, 20, 20)


def test_a_last_axis_alone_needs_twelve_voxels():
    assert pool_and_kernels((1, 1), (7, 11)).strides == ((1, 1),)
    assert pool_and_kernels((1, 1), (7, 12)).strides == ((1, 1), (1, 2))
    # Two axes need eight each.
    assert pool_and_kernels((1, 1), (8, 8)).strides == ((1, 1), (2, 2))


@pytest.mark.parametrize(
    ("slices", "spacings", "expected"),
    [
        (20, [3, 4, 5, 6, 7], np.percentile([3, 4, 5, 6, 7], 10)),
        # Coarse, but with about as many voxels as the others: the median.
        (100, [3, 4, 5, 6, 7], 5),
        # Not coarse: the median.
        (20, [2, 2, 2.5, 3, 3], 2.5),
        # The percentile is finer than the other axes: just above theirs.
        (20, [0.5, 0.5, 6, 7, 8], 1 + 1e-5),
    ],
)
def test_tenth_percentile_needs_both_conditions(slices, spacings, expected):
    fingerprint = Fingerprint(
        [(float(z), 1.0, 1.0) for z in spacings], [(slices, 200, 200)] * 5, 1.0, [STATISTICS]
    )
    spacing, why = target_spacing(fingerprint)
    assert tuple(spacing) == pytest.approx((expected, 1, 1), abs=1e-12)
    assert ("10th percentile" in why) == (expected != np.median(spacings))


def test_axes_are_turned_so_that_the_coarsest_is_first():
    fingerprint = constant((0.5, 0.5, 3.0), (300, 280, 30), 10)
    plans = make_plans(fingerprint, 2, ["MRI"], "default")
    assert plans.transpose == (2, 0, 1)
    assert plans.configurations["3d_fullres"].median_shape == (30, 300, 280)
    assert plans.median_shape == (30, 300, 280)
    assert "axes in the order x z y: x has the largest spacing and goes first" in plans.why
    assert make_plans(HIPPOCAMPUS, 2, ["MRI"], "default").transpose == (0, 1, 2)


def test_sizes_at_the_new_spacing_are_rounded_case_by_case():
    fingerprint = Fingerprint([(2.0, 1.0, 1.0), (1.0, 1.0, 1.0)], [(10, 9, 9), (21, 8, 8)], 1.0, [STATISTICS])
    assert median_shape(fingerprint, np.array([1.0, 2.0, 2.0])).tolist() == [20.5, 4, 4]


@pytest.mark.parametrize(("factor", "batch"), [(1.25, 2), (1.75, 4), (2.25, 4), (2.26, 5)])
def test_batch_is_rounded_to_even_at_halves(factor, batch):
    planner = Planner(LITS, 3, ["CT"], PRESETS["resenc_l"])
    topology = pool_and_kernels((1, 1, 1), (64, 64, 64))
    rules = replace(PRESETS["resenc_l"], reference_3d=factor * planner.estimate(topology))
    plan = Planner(LITS, 3, ["CT"], rules).configuration(
        "3d_fullres", (1, 1, 1), (64, 64, 64), patch_size=(64, 64, 64)
    )
    assert plan.batch_size == batch


def test_lowres_is_dropped_where_it_would_be_nearly_the_same():
    """The patch holds 23 % of such a case, so that a few steps of 3 % already reach a quarter."""
    plans = make_plans(constant((1.0, 1.0, 1.0), (208, 208, 208), 50), 2, ["MRI"], "default")
    assert list(plans.configurations) == ["2d", "3d_fullres"]
    assert not plans.configurations["3d_fullres"].batch_dice
    assert any(line.startswith("no 3d_lowres: a patch of 3d_fullres holds 23%") for line in plans.why)


def test_lowres_first_coarsens_the_fine_axes():
    """From 5 x 1 x 1 mm the fine axes go alone until they are within a factor of two."""
    plans = make_plans(constant((5.0, 1.0, 1.0), (160, 512, 512), 50), 2, ["MRI"], "default")
    z, y, x = plans.configurations["3d_lowres"].spacing
    assert z == 5
    assert y == x == pytest.approx(1.03 ** round(np.log(y) / np.log(1.03)))
    assert 1 < y < 2.6


def test_normalisation_follows_the_names_and_the_crop():
    names = ["ct", "noNorm", "RGB_to_0_1", "T1", "zscore"]
    fingerprint = constant((1.0, 1.0, 1.0), (40, 40, 40), 10, relative_size=0.7, channels=5)
    plan = make_plans(fingerprint, 2, names, "default").configurations["3d_fullres"]
    assert plan.normalisation == ("ct", "none", "rgb_to_0_1", "zscore", "zscore")
    assert plan.masked_normalisation == (False, False, False, True, True)
    whole = replace(fingerprint, relative_size=0.75)
    assert not any(make_plans(whole, 2, names, "cpu").configurations["2d"].masked_normalisation)
    one = make_plans(fingerprint, 2, names, "cpu", normalisation=["none"]).configurations["2d"]
    assert one.normalisation == ("none",) * 5
    with pytest.raises(ConfigError, match="Did you mean 'zscore'"):
        make_plans(fingerprint, 2, names, "cpu", normalisation=["zscores"])
    with pytest.raises(ConfigError, match="2 entries for 5 channels"):
        make_plans(fingerprint, 2, names, "cpu", normalisation=["ct", "ct"])


def test_ct_without_labelled_voxels_is_normalised_by_itself():
    plans = make_plans(replace(HIPPOCAMPUS, intensities=[{}]), 1, ["CT"], "cpu")
    assert plans.configurations["2d"].normalisation == ("zscore",)
    assert any("ct needs labelled voxels" in line for line in plans.why)


def test_every_choice_says_why():
    plans = make_plans(LITS, 3, ["CT"], "default")
    assert "spacing 1 x 0.768 x 0.768 mm: medians of 131 cases" in plans.why
    assert (
        "3d_fullres: patch 128 x 128 x 128: reduced from 224 x 320 x 320 until two patches fit 8 GB"
        in plans.why
    )
    drive = make_plans(DRIVE, 2, ["zscore"], "default", training_cases=1)
    assert (
        "2d: batch 2: the smallest; the rule gave 0: no more than 5% of the voxels of all cases" in drive.why
    )
    assert "spacing 1 x 1 mm: medians of 20 cases, which are images" in drive.why
    small = make_plans(
        replace(HIPPOCAMPUS, shapes=HIPPOCAMPUS.shapes[:50], spacings=HIPPOCAMPUS.spacings[:50]),
        3,
        ["MRI"],
        "resenc_l",
    )
    assert "3d_fullres: batch 35: as many voxels as all cases have" in small.why


@pytest.mark.parametrize("preset", ["cpu", "default", "resenc_l"])
def test_memory_for_one_stage_alone_is_too_little(preset):
    with pytest.raises(ConfigError, match=rf"--plan\.memory 0\.001: .*{preset}.* more memory is needed"):
        make_plans(HIPPOCAMPUS, 3, ["MRI"], preset, 0.001)
    # A case that is too small to halve needs no more memory.
    plans = make_plans(constant((1.0, 1.0, 1.0), (7, 7, 7), 10), 3, ["MRI"], preset)
    assert plans.configurations["3d_fullres"].strides == ((1, 1, 1),)


@pytest.mark.parametrize(
    ("memory", "suffix"),
    [
        (8, ""),
        (16.0, "_16G"),
        (0.5, "_0.5G"),
        (123456789, "_123456789G"),
        (1e6, "_1000000G"),
        (1e20, "_1" + "0" * 20 + "G"),
    ],
)
def test_memory_is_in_the_name_without_exponents(memory, suffix):
    assert make_plans(HIPPOCAMPUS, 3, ["MRI"], "default", memory).plans_name == f"nnUNetPlans{suffix}"


def test_cpu_preset_is_small():
    hippocampus = make_plans(HIPPOCAMPUS, 3, ["MRI"], "cpu").configurations["3d_fullres"]
    assert (hippocampus.patch_size, hippocampus.batch_size) == ((40, 56, 40), 4)
    assert (hippocampus.widths, hippocampus.blocks) == ((16, 32, 64, 128), (1, 2, 2, 2))
    drive = make_plans(DRIVE, 2, ["zscore"], "cpu").configurations["2d"]
    assert (drive.patch_size, drive.batch_size) == ((192, 192), 8)
    for fingerprint in (LITS, DRIVE, HIPPOCAMPUS):
        for plan in make_plans(fingerprint, 3, ["MRI"], "cpu").configurations.values():
            assert 2 <= plan.batch_size <= 8
            assert max(plan.widths) <= 128


def test_fingerprint_of_scans():
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(2, n)).astype(np.float32) for n in (50, 0, 70)]
    scans = [
        Scan("", (10 + i, 20, 30), (2.0, 1.0, 1.0), 0.5 + 0.1 * i, each, {1: 5})
        for i, each in enumerate(values)
    ]
    fingerprint = take_fingerprint(scans, 2)
    assert fingerprint.shapes == [(10, 20, 30), (11, 20, 30), (12, 20, 30)]
    assert fingerprint.relative_size == pytest.approx(0.6)
    second = np.concatenate([each[1] for each in values]).astype(float)
    expected = {
        "max": second.max(),
        "mean": second.mean(),
        "median": np.median(second),
        "min": second.min(),
        "percentile_00_5": np.percentile(second, 0.5),
        "percentile_99_5": np.percentile(second, 99.5),
        "std": second.std(),
    }
    assert fingerprint.intensities[1] == pytest.approx(expected)
    unlabelled = take_fingerprint(
        [replace(scan, intensities=np.zeros((2, 0), np.float32)) for scan in scans], 2
    )
    assert unlabelled.intensities == [{}, {}]


def test_planning_needs_no_torch():
    code = "import sys, tasks.segmentation.planning.choose; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
