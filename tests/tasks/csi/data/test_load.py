import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from tasks.csi.config import ChannelConfig, DataConfig
from tasks.csi.data import load
from tasks.csi.data.checks import conditions_of
from tasks.csi.data.load import load_data
from tasks.csi.data.store import HISTORY, UPLINK, write_condition


def change(config, **values):
    return dataclasses.replace(config, **values)


def test_generated_channels_are_split_by_condition_and_kept_in_the_cache(data_config, capsys):
    data = load_data(data_config)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 6)
    assert data.train.history.shape == (18, 4, 4, 4)
    assert data.train.target.shape == (18, 4, 2, 4)
    assert data.train.history.dtype == data.test.target.dtype == np.complex64
    assert data.train.condition.tolist() == [0] * 9 + [1] * 9
    assert data.validation.condition.tolist() == [0, 1]
    assert [item.name for item in data.test.conditions] == ["cm_A_ds_100_ms_010", "cm_D_ds_100_ms_010"]
    assert (data.name, data.notes, data.size) == ("cdl", [], 26)
    assert data.interval == pytest.approx(70 * 17 / 11 / 30e3)
    assert "generating 20 train samples" in capsys.readouterr().out
    again = load_data(data_config)
    assert again.digest == data.digest
    assert "generating" not in capsys.readouterr().out


def test_fdd_has_the_same_histories_and_other_targets(data_config):
    apart = {"subcarriers": 32, "gap": 200, "models": ["C"], "delay_spreads": [400.0], "speeds": [1.0]}
    tdd = load_data(change(data_config, **apart))
    fdd = load_data(change(data_config, **apart, duplex="fdd"))
    np.testing.assert_array_equal(tdd.train.history, fdd.train.history)
    assert (tdd.train.target != fdd.train.target).all()
    # the uplink goes on from its history, the downlink is another band
    step = np.abs(tdd.train.target[:, :, 0] - tdd.train.history[:, :, -1]).mean()
    assert 5 * step < np.abs(fdd.train.target[:, :, 0] - fdd.train.history[:, :, -1]).mean()


def test_train_and_test_channels_differ_and_another_seed_gives_others(data_config):
    data, other = load_data(data_config), load_data(change(data_config, seed=1))
    assert not np.isin(data.test.history, data.train.history).any()
    assert not np.isin(other.train.history, data.train.history).any()


def test_files_of_the_authors_are_read_with_their_generalisation(data_config, authors_folder):
    config = change(data_config, cache=None, path=str(authors_folder), test_models=["A", "E"], samples=1000)
    data = load_data(config)
    assert data.name == "csi_rrg"
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 6)
    assert [item.model for item in data.test.conditions] == ["A", "E"]
    assert data.notes == [
        "report interval and carrier are taken from the options: the files do not say",
        "2 of 2 conditions to learn from have fewer than 1000 samples: 20 in all",
    ]
    stored = torch.load(authors_folder / "test/generalization/cm_E_ds_100_ms_010" / UPLINK, weights_only=True)
    np.testing.assert_array_equal(data.test.target[3:], stored.numpy())


def test_fewer_samples_can_be_read_than_there_are(data_config, authors_folder):
    data = load_data(
        change(data_config, path=str(authors_folder), samples=4, validation_share=0.25, test_samples=1)
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 2)


def test_a_folder_to_test_on_alone_has_nothing_to_learn_from(data_config, tmp_path, condition_files):
    write_condition(tmp_path / "only/test/regular/cm_A_ds_100_ms_010", condition_files(3))
    data = load_data(change(data_config, path=str(tmp_path / "only"), test_models=["A"]))
    assert (len(data.train), len(data.validation), len(data.test)) == (0, 0, 3)
    assert "nothing to learn from" in data.notes[1]
    assert len(load_data(change(data_config, samples=0)).train) == 0


def replace_samples(folder, places, other, chosen):
    for name in (HISTORY, UPLINK):
        values = torch.load(folder / name, weights_only=True)
        values[places] = torch.load(other / name, weights_only=True)[chosen]
        torch.save(values, folder / name)


def test_channels_of_two_parts_stay_in_one_and_a_note_counts_them(data_config, authors_folder):
    train, test = authors_folder / "train/regular", authors_folder / "test/regular"
    of_a, of_d = train / "cm_A_ds_100_ms_010", train / "cm_D_ds_100_ms_010"
    replace_samples(of_d, [4, 9], test / "cm_A_ds_100_ms_010", [0, 1])
    replace_samples(of_a, [9], of_d, [2])
    data = load_data(change(data_config, path=str(authors_folder)))
    assert (len(data.train), len(data.validation), len(data.test)) == (17, 0, 6)
    assert data.train.condition.tolist() == [0] * 9 + [1] * 8
    stored = torch.load(of_d / UPLINK, weights_only=True).numpy()
    np.testing.assert_array_equal(data.train.target[9:], stored[[0, 1, 2, 3, 5, 6, 7, 8]])
    assert data.notes[1:] == [
        "dropped 1 samples to learn from that are test samples too, and 2 for validation that are test samples or"
        " learned from too"
    ]


def test_channels_that_agree_in_a_part_of_their_reports_are_different(data_config, authors_folder):
    history = authors_folder / "train/regular/cm_D_ds_100_ms_010" / HISTORY
    values = torch.load(history, weights_only=True)
    values[:3] = torch.load(authors_folder / "test/regular/cm_A_ds_100_ms_010" / HISTORY, weights_only=True)
    torch.save(values, history)
    data = load_data(change(data_config, path=str(authors_folder)))
    assert (len(data.train), len(data.validation), len(data.notes)) == (18, 2, 1)


def test_a_condition_that_is_emptied_is_named(data_config, authors_folder):
    train, test = authors_folder / "train/regular", authors_folder / "test/regular"
    replace_samples(train / "cm_D_ds_100_ms_010", [0, 1, 2], test / "cm_D_ds_100_ms_010", [2, 0, 1])
    data = load_data(change(data_config, path=str(authors_folder), samples=3))
    assert data.notes[-1] == "1 conditions have nothing left to learn from: cm_D_ds_100_ms_010"
    assert {*data.train.condition.tolist()} == {0}


@pytest.fixture
def made_folder(data_config, authors_folder):
    """A folder that says what it was made with."""
    said = {name: getattr(data_config, name) for name in ChannelConfig.__dataclass_fields__}
    (authors_folder / "parameters.json").write_text(json.dumps({"seed": 3, **said}))
    return authors_folder


@pytest.mark.parametrize(
    ("values", "made", "given"),
    [
        ({"period": 10}, "--data.period 5", "10"),
        ({"spacing": 15e3}, "--data.spacing 30000.0", "15000.0"),
        ({"gap": 0}, "--data.gap 3", "0"),
        ({"slower": True}, "--data.slower false", "true"),
        ({"rows": 2, "columns": 1}, "--data.rows 1 --data.columns 2", "2, 1"),
        ({"carrier": 28e9, "period": 10}, "--data.carrier 2400000000.0 --data.period 5", "28000000000.0, 10"),
    ],
)
def test_options_that_the_files_were_not_made_with_are_one_line(
    data_config, made_folder, values, made, given
):
    assert load_data(change(data_config, path=str(made_folder))).notes == []
    with pytest.raises(DataError) as caught:
        load_data(change(data_config, path=str(made_folder), **values))
    expected = f"parameters.json: the channels were made with {made}, not {given}; give these options"
    assert str(caught.value) == f"{made_folder}/{expected}"


@pytest.mark.parametrize("text", ["{", "[]", '{"period": 5}'])
def test_parameters_that_cannot_be_read_are_one_line(data_config, made_folder, text):
    (made_folder / "parameters.json").write_text(text)
    with pytest.raises(DataError, match=r"parameters\.json cannot be read; generate the folder"):
        load_data(change(data_config, path=str(made_folder)))


def test_reading_allocates_the_channels_once(data_config, tmp_path, condition_files):
    for part, seed in (("train", 0), ("test", 50)):
        for i, speed in enumerate(("001", "002", "003", "004", "005", "006", "007", "008")):
            write_condition(
                tmp_path / f"many/{part}/regular/cm_A_ds_100_ms_{speed}", condition_files(300, seed + i)
            )
    speeds = [float(speed) for speed in range(1, 9)]
    config = change(
        data_config, path=str(tmp_path / "many"), models=["A"], speeds=speeds, samples=300, test_samples=300
    )
    load_data(config)  # what is imported and compiled on the way is not counted
    tracemalloc.start()
    data = load_data(config)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(part.history.nbytes + part.target.nbytes for part in (data.train, data.validation, data.test))
    assert size == 16 * 300 * 4 * 6 * 4 * 8
    # marks and lists of these small samples add to the arrays
    once = 4 * load.AT_ONCE * 4 * 6 * 4 * 8
    assert size < peak < load.memory_bytes(config, [300] * 16) + once + 4800 * 120


def test_channels_beyond_the_memory_are_the_same_from_a_file(
    data_config, authors_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("SKIPWAY_CACHE", str(tmp_path))
    whole = load_data(change(data_config, path=str(authors_folder)))
    mapped = load_data(change(data_config, path=str(authors_folder), memory=0.0))
    for part in ("train", "validation", "test"):
        for name in ("history", "target", "condition"):
            np.testing.assert_array_equal(
                getattr(getattr(mapped, part), name), getattr(getattr(whole, part), name)
            )
    assert mapped.digest == whole.digest
    told = [note for note in mapped.notes if "--data.memory" in note]
    assert len(told) == 1 and whole.notes == [note for note in mapped.notes if note not in told]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "files"}, "--data.name files needs --data.path"),
        ({"name": "cdl", "path": "somewhere"}, "--data.name cdl takes no path"),
        ({"models": ["F"]}, "--data.models: there is no CDL model 'F'; they are A, B, C, D, E"),
        ({"test_models": []}, "--data.test_models .* at least one"),
        ({"speeds": [1.0, 1.0]}, "--data.speeds .* different values"),
        ({"speeds": [-1.0]}, "--data.speeds -1.0 must be 0 m/s or more"),
        ({"delay_spreads": [30.5]}, "--data.delay_spreads 30.5 must be a whole number of ns"),
        ({"test_delay_spreads": [float("nan")]}, "--data.test_delay_spreads nan"),
        ({"rows": 0}, "--data.rows 0 must be 1 or more"),
        ({"gap": -1}, "--data.gap -1"),
        ({"carrier": 0.0}, "--data.carrier 0.0"),
        ({"samples": -1}, "--data.samples -1"),
        ({"test_samples": 0}, "--data.test_samples 0 must be 1 or more"),
        ({"validation_share": 1.0}, "--data.validation_share 1.0"),
        ({"snr": [10.0]}, r"--data.snr \[10.0\] must be two numbers"),
        ({"snr": [25.0, 0.0]}, "the lower one first"),
        ({"snr": [0.0, float("nan")]}, "--data.snr"),
        ({"test_noise": ["rain"]}, "--data.test_noise 'rain'"),
        ({"test_noise": []}, "must name disturbances"),
        ({"test_noise": ["awgn:10", "awgn:10dB"]}, "each once"),
    ],
)
def test_wrong_options_are_one_line(data_config, values, message):
    with pytest.raises(ConfigError, match=message):
        load_data(change(data_config, **values))


def test_a_path_that_is_no_folder_is_one_line(data_config, tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        load_data(change(data_config, path=str(tmp_path / "nothing")))


def test_the_defaults_are_the_papers_27_conditions_and_generalisation_is_510():
    config = DataConfig()
    assert len(conditions_of(config, "train")) == len(conditions_of(config, "test")) == 27
    config.test_models = ["A", "B", "C", "D", "E"]
    config.test_delay_spreads = [30.0, 50.0, 100.0, 200.0, 300.0, 400.0]
    config.test_speeds = [1.0, 10.0, *(float(speed) for speed in range(3, 46, 3))]
    names = {item.name for item in conditions_of(config, "test")}
    assert len(names) == 510
    assert "cm_E_ds_050_ms_045" in names
