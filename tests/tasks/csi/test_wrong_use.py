"""What users get wrong, in whole commands: one line each, and no run is left behind."""

from __future__ import annotations

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from channel_files import SMALL, TINY, histories
from commands import run_command, run_folder

from tasks.csi.task import TASK

run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.rul=add"], "unknown option --model.rul. Did you mean '--model.rule'?"),
        (["--data.rowz=2"], "Did you mean '--data.rows'?"),
        (["--model=csi4cas_small"], "Did you mean 'csi4cast_small'?"),
        (["--model.rule=ad"], "Did you mean 'add'?"),
        (["--scoring.baselines=[lst]"], "Did you mean 'last'?"),
        (["--train.freeze=[encoderr]"], "Did you mean 'encoder'?"),
        (["--train.teacher_distance=kl"], "--train.teacher_distance takes 'mse', 'relative', not 'kl'"),
        (["--model=backbone", "--model.backbone=resnet51"], "Did you mean 'resnet50'?"),
        (["--model.heads=3"], "--model.heads 3 must divide --model.width 8"),
        (["--model.dropout=1"], "--model.dropout 1.0 must be 0 or more and below 1"),
        (["--data.models=[F]"], "there is no CDL model 'F'"),
        (["--data.test_noise=[wgn:10]"], "--data.test_noise 'wgn:10': give clean or one of awgn:DEGREE"),
        (["--data.snr=[5]"], "--data.snr [5.0] must be two numbers"),
        (["--data.name=cdl"], "--data.name cdl takes no path"),
        (["--data.samples=0"], "there are no channels to learn from"),
        (["--train.patience=2", "--data.validation_share=0"], "set --data.validation_share above 0"),
        (["--scoring.order=0"], "--scoring.order 0 must be 1 or more"),
    ],
)
def test_a_wrong_option_is_one_line(options, said, files, work, capsys):
    own = [] if options[0].startswith("--model=") else SMALL
    code, _, error = run("train", [f"--data.path={files}", *TINY, *own, *options], capsys)
    assert code == 2 and said in error and len(error.strip().splitlines()) == 1
    assert not (work / "runs").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data.path=nowhere"], "--data.path nowhere is no folder"),
        (["--data.rows=2"], "has 2 antennas, not 4; check the file, or set --data.rows and --data.columns"),
        (["--data.history=7"], "has 6 reports, not 7"),
        (["--data.models=[B]"], "has no folder cm_B_ds_100_ms_001; there are cm_A_ds_100_ms_001"),
    ],
)
def test_files_that_do_not_fit_the_options_are_one_line(options, said, files, work, capsys):
    code, _, error = run("train", [f"--data.path={files}", *TINY, *SMALL, *options], capsys)
    assert code == 1 and said in error and len(error.strip().splitlines()) == 1
    assert not (work / "runs").exists()


def changed(file, change):
    def damage(folder):
        values = torch.load(folder / file, weights_only=True)
        torch.save(change(values), folder / file)

    return damage


def with_value(place, value):
    def change(values):
        values[place] = value
        return values

    return change


HIST, PRED = "H_U_hist.pt", "H_U_pred.pt"
DAMAGES = {
    "real": (changed(HIST, torch.real), f"{HIST} is of type float32; complex64 is expected"),
    "one sample": (changed(HIST, lambda x: x[0]), f"{HIST} has the shape (2, 6, 8); (samples, antennas,"),
    "antennas": (changed(HIST, lambda x: x.repeat(1, 2, 1, 1)), f"{HIST} has 4 antennas, not 2"),
    "subcarriers": (changed(PRED, lambda x: x[..., :5]), f"{PRED} has 5 subcarriers, not 8"),
    "fewer": (changed(PRED, lambda x: x[:5]), f"{HIST} has 8 samples and {PRED} has 5; they belong in pairs"),
    "nan": (
        changed(HIST, with_value((3, 0, 0), torch.nan)),
        f"{HIST}: sample 3 has values that are not finite",
    ),
    "zero": (changed(HIST, with_value(2, 0)), f"{HIST}: sample 2 is 0 throughout"),
    "dead antenna": (
        changed(PRED, with_value((5, 1), 0)),
        "report 0 of antenna 1 of sample 5 is 0 throughout",
    ),
    "dictionary": (changed(HIST, lambda x: {"history": x}), f"{HIST} holds no tensor"),
    "missing": (lambda folder: (folder / PRED).unlink(), f"{PRED} is missing"),
    "torn": (lambda folder: (folder / HIST).write_bytes(b"PK"), f"{HIST} is damaged"),
    "no condition": (shutil.rmtree, "has no folder cm_A_ds_100_ms_010; there are cm_A_ds_100_ms_001;"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_one_line(files, work, capsys, name):
    damage, said = DAMAGES[name]
    shutil.copytree(files, work / "bad")
    folder = work / "bad" / "train" / "regular" / "cm_A_ds_100_ms_010"
    damage(folder)
    code, _, error = run("train", ["--data.path=bad", *TINY, *SMALL], capsys)
    assert code == 1 and said in error and len(error.strip().splitlines()) == 1
    assert "cm_A_ds_100_ms_010" in error and not (work / "runs").exists()


def test_a_folder_without_training_channels_teaches_nothing(files, work, capsys):
    shutil.copytree(files / "test", work / "bad" / "test")
    code, _, error = run("train", ["--data.path=bad", *TINY, *SMALL], capsys)
    assert code == 2 and "a --data.path with train/regular" in error


@pytest.mark.parametrize(
    ("options", "said", "wanted"),
    [
        (["--input=nowhere.npy"], "--input nowhere.npy does not exist", 2),
        (["--input=H.npy", "--batch=0"], "--batch 0 must be 1 or more", 2),
        (["--input=H.npy", "--output=x.csv"], "write a file of .npy, .npz, .pt", 2),
        (["--input=real.npy"], "real.npy: holds float32 numbers; a channel is complex", 1),
        (["--input=short.npy"], "short.npy: has 5 reports, and the model needs 6", 1),
        (["--input=nan.npy"], "nan.npy: sample 0 has NaN or infinite values", 1),
    ],
)
def test_wrong_inputs_of_predict_are_one_line(trained, files, work, capsys, options, said, wanted):
    history = histories(files)
    np.save("H.npy", history)
    np.save("real.npy", history.real)
    np.save("short.npy", history[:, :, 1:])
    np.save("nan.npy", np.full_like(history, np.nan))
    code, _, error = run("predict", ["--model", the_run(trained), "--tracking=none", *options], capsys)
    assert code == wanted and said in error and len(error.strip().splitlines()) == 1
