import pickle

import numpy as np
import pytest
import torch

from core.errors import DataError
from tasks.csi.data.dataset import Condition
from tasks.csi.data.files import find_condition, open_condition
from tasks.csi.data.store import DOWNLINK, HISTORY, UPLINK


@pytest.fixture
def folder(authors_folder):
    return authors_folder / "train/regular/cm_A_ds_100_ms_010"


def test_targets_follow_the_duplex(folder, channel, condition_files):
    files = condition_files(10, 1)
    for duplex, name in (("tdd", UPLINK), ("fdd", DOWNLINK)):
        opened = open_condition(folder, channel, duplex)
        history, target = opened.read(range(4))
        assert len(opened) == 10
        np.testing.assert_array_equal(history, files[HISTORY][:4].numpy())
        np.testing.assert_array_equal(opened.read(range(3, 7))[0], files[HISTORY][3:7].numpy())
        np.testing.assert_array_equal(target, files[name][:4].numpy())


def test_double_precision_becomes_single(folder, channel, condition_files):
    for name, tensor in condition_files(10, 1, torch.complex128).items():
        torch.save(tensor, folder / name)
    assert open_condition(folder, channel, "tdd").read(range(2))[0].dtype == np.complex64


def with_nan(tensor):
    tensor[3, 1, 2, 0] = complex(float("nan"), 0)
    return tensor


def with_zeros(tensor):
    tensor[2] = 0
    return tensor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.real, r"is of type float32; complex64 is expected"),
        (lambda x: x[0], r"has the shape \(4, 4, 4\); \(samples, antennas, reports, subcarriers\)"),
        (lambda x: x[:, :3], r"has 3 antennas, not 4; .*set --data.rows and --data.columns"),
        (lambda x: x[:, :, :3], r"has 3 reports, not 4; .*set --data.history"),
        (lambda x: x[..., :2], r"has 2 subcarriers, not 4; .*set --data.subcarriers"),
        (lambda x: x[:0], r"has no samples"),
        (lambda x: x[:5], r"H_U_hist.pt has 5 samples and H_U_pred.pt has 10"),
        (with_nan, r"sample 3 has values that are not finite"),
        (with_zeros, r"sample 2 is 0 throughout"),
        (lambda x: {"h": x}, r"holds no tensor"),
    ],
)
def test_wrong_content_is_one_line_that_names_the_file(folder, channel, condition_files, change, message):
    torch.save(change(condition_files(10, 1)[HISTORY].clone()), folder / HISTORY)
    with pytest.raises(DataError, match=message) as caught:
        open_condition(folder, channel, "tdd").read(range(1, 10))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_samples_beyond_those_that_are_read_do_not_matter(folder, channel, condition_files):
    torch.save(with_nan(condition_files(10, 1)[HISTORY].clone()), folder / HISTORY)
    assert len(open_condition(folder, channel, "tdd").read(range(3))[0]) == 3


class Code:
    def __reduce__(self):
        return print, ("never",)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(Code()), b"PK\x03\x04 cut off"])
def test_a_damaged_or_unsafe_file_is_one_line(folder, channel, content, capsys):
    (folder / UPLINK).write_bytes(content)
    with pytest.raises(DataError, match=r"H_U_pred\.pt is damaged, or no tensor"):
        open_condition(folder, channel, "tdd")
    assert "never" not in capsys.readouterr().out


def test_a_file_that_is_cut_off_is_one_line(folder, channel):
    whole = (folder / HISTORY).read_bytes()
    (folder / HISTORY).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"H_U_hist\.pt is damaged"):
        open_condition(folder, channel, "tdd")


def test_a_missing_file_is_one_line(folder, channel):
    (folder / UPLINK).unlink()
    open_condition(folder, channel, "fdd")
    with pytest.raises(DataError, match=r"H_U_pred\.pt is missing"):
        open_condition(folder, channel, "tdd")


def test_conditions_are_looked_for_in_both_test_folders_and_a_missing_one_names_what_is_there(authors_folder):
    assert find_condition(authors_folder, "test", Condition("E", 100.0, 10.0)).parent.name == "generalization"
    assert find_condition(authors_folder, "test", Condition("A", 100.0, 10.0)).parent.name == "regular"
    with pytest.raises(
        DataError, match=r"no folder cm_B_ds_030_ms_001; there are cm_A_\S+, cm_D_\S+; set --data.m"
    ):
        find_condition(authors_folder, "train", Condition("B", 30.0, 1.0))
    with pytest.raises(DataError, match=r"cm_E_ds_100_ms_010; set --data\.test_models"):
        find_condition(authors_folder, "test", Condition("B", 30.0, 1.0))
