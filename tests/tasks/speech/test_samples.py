"""Training samples: what an epoch is made of, augmentation against its formulas, features that are kept."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.data import cache
from core.data.loader import EpochLoader
from core.data.split import Fold
from core.errors import ConfigError, DataError
from tasks.speech.config import DataConfig, FeatureConfig
from tasks.speech.data import augment
from tasks.speech.data.clips import Clips, SpeechData
from tasks.speech.data.samples import KeywordSamples
from tasks.speech.frontend import FrontEnd

RATE, LENGTH = 8000, 4000
CLASSES = ["silence", "unknown", "cat", "dog"]
FRONT = FrontEnd(FeatureConfig(window=240, hop=80, mels=12, coefficients=10), RATE)
FRAMES = FRONT.frames(LENGTH)


def make_data(cats=12, dogs=8, others=15):
    rng = np.random.default_rng(0)
    labels = np.repeat([2, 3, 1], [cats, dogs, others])
    waves = rng.integers(-9000, 9000, (len(labels), LENGTH)).astype(np.int16)
    names = [f"{CLASSES[label]}/{i}.wav" for i, label in enumerate(labels)]
    clips = Clips(names, waves, labels, [""] * len(names), np.zeros(len(names), bool))
    # The last dog is held out.
    held_out = cats + dogs - 1
    train = np.delete(np.arange(len(labels)), held_out)
    fold = Fold("model", train, np.array([], int), np.array([held_out]))
    noise = [rng.uniform(-1, 1, size).astype(np.float32) for size in (3 * LENGTH, LENGTH // 3)]
    return SpeechData("made", CLASSES, RATE, clips, [fold], noise, noise)


def make(balance="none", data=None, workers=0, **options):
    data = data or make_data()
    options = {"unknown": 0.3, "silence": 0.2, "duration": LENGTH / RATE, "variants": 3, **options}
    return KeywordSamples(data, data.folds[0], DataConfig(**options), FRONT, balance, workers)


def rng(seed=0):
    return np.random.default_rng(seed)


def epoch(made, seed=0):
    return [made.draw(i, rng([seed, i])) for i in range(len(made))]


# ---------------------------------------------------------------- an epoch


def test_an_epoch_has_every_word_once_and_shares_of_the_rest():
    made = make(shift=0.0)
    drawn = epoch(made)
    names = Counter(item["ids"] for item in drawn)
    words = [made.data.clips.names[i] for i in made.data.folds[0].train if made.data.clips.labels[i] > 1]
    assert len(words) == 19 and all(names.pop(word) == 1 for word in words)
    assert names.pop("silence") == round(0.2 * 19) == 4
    assert sum(names.values()) == round(0.3 * 19) == 6 and all(name.startswith("unknown/") for name in names)
    labels = np.bincount([item["label"] for item in drawn], minlength=4)
    np.testing.assert_array_equal(labels, [4, 6, 12, 7])
    np.testing.assert_array_equal(made.class_counts, labels)
    assert all(item["ids"].split("/")[0] == CLASSES[item["label"]] for item in drawn)


def test_other_words_are_drawn_anew():
    made = make()
    drawn = [{item["ids"] for item in epoch(made, seed) if item["label"] == 1} for seed in range(20)]
    assert drawn[0] != drawn[1] and set.union(*drawn) == {f"unknown/{i}.wav" for i in range(20, 35)}


def test_balanced_samples_are_of_each_class_equally_often():
    made = make("samples", variants=0)
    assert len(made) == 29
    np.testing.assert_allclose(made.class_counts, 29 / 4)
    labels = [made.draw(i % 29, rng(i))["label"] for i in range(2000)]
    # 500 expected, standard deviation 19.
    assert all(abs(count - 500) < 80 for count in np.bincount(labels, minlength=4))
    ids = Counter(made.draw(0, rng(i))["ids"] for i in range(2000))
    dogs = [ids[f"dog/{i}.wav"] for i in range(12, 19)]
    assert max(dogs) < 2 * min(dogs) and "dog/19.wav" not in ids


def test_classes_without_samples_count_nothing():
    made = make("samples", make_data(others=0), silence=0.0)
    np.testing.assert_allclose(made.class_counts, [0, 0, 9.5, 9.5])
    assert {made.draw(0, rng(i))["label"] for i in range(50)} == {2, 3}
    made = make(data=make_data(others=0), silence=1e-9)
    np.testing.assert_array_equal(made.class_counts, [1, 0, 12, 7])  # one at least


def test_no_words_are_an_error():
    data = make_data()
    data.folds[0].train = np.array([20, 21])
    with pytest.raises(DataError, match="fold model has no recordings of the words"):
        make(data=data)


# ---------------------------------------------------------------- augmentation


def test_shift_moves_to_both_sides_and_fills_with_zeros():
    wave = np.arange(1, 101, dtype=np.float32)
    seen = set()
    for seed in range(300):
        moved = augment.shift(wave, 7, rng(seed))
        kept = moved[moved > 0]
        offset = int(np.flatnonzero(moved)[0]) or int(1 - kept[0])
        expected = [wave[i - offset] if 0 <= i - offset < 100 else 0 for i in range(100)]
        np.testing.assert_array_equal(moved, expected)
        seen.add(offset)
    assert seen == set(range(-7, 8))
    np.testing.assert_array_equal(augment.shift(wave, 0, rng()), wave)


def test_noise_is_a_crop_times_a_volume_and_clipped():
    ramp = np.arange(1, 1001, dtype=np.float32)
    factors = []
    for seed in range(200):
        noise = augment.add_noise(np.zeros(10, np.float32), [ramp], 0.0009, rng(seed))
        step = np.diff(noise)[0]
        np.testing.assert_allclose(np.diff(noise), step, rtol=1e-2, atol=1e-6)
        factors.append(step)
    assert 0 <= min(factors) < 0.0001 and 0.0008 < max(factors) <= 0.0009
    loud = augment.add_noise(np.full(10, 0.9, np.float32), [ramp], 1.0, rng())
    assert loud.dtype == np.float32 and loud.max() == 1
    short = augment.crop([np.array([1, 2, 3], np.float32)], 7, rng())
    np.testing.assert_array_equal(short, [1, 2, 3, 1, 2, 3, 1])


def test_noise_comes_with_its_probability():
    made = make(variants=0, shift=0.0, noise=0.25)
    clean = made.data.clips.waves[0] / np.float32(32768)
    noisy = [not np.array_equal(made.draw(0, rng(i))["wave"], clean) for i in range(400)]
    assert abs(np.mean(noisy) - 0.25) < 0.09  # 4 standard deviations


def test_silence_is_noise_half_of_it_quiet():
    made = make(variants=0, noise=0.0, volume=0.05)
    peaks = np.array([made.draw(28, rng(i))["wave"].abs().max() for i in range(400)])
    assert made.draw(28, rng())["label"] == 0
    assert 0.4 < np.mean(peaks <= 0.05) < 0.65 and peaks.max() > 0.8 and peaks.min() > 0


def test_masks_fill_with_the_mean_of_the_clip():
    torch.manual_seed(0)
    features = torch.randn(3, 9, 7)
    mel = torch.tensor([[[0, 2], [5, 1]], [[3, 0], [0, 0]], [[6, 1], [2, 5]]])
    time = torch.tensor([[[8, 1], [0, 0]], [[2, 3], [4, 2]], [[0, 0], [0, 0]]])
    expected = features.clone()
    for clip, (bands, stretches) in enumerate(zip(mel.tolist(), time.tolist(), strict=True)):
        for start, width in bands:
            expected[clip, :, start : start + width] = features[clip].mean()
        for start, width in stretches:
            expected[clip, start : start + width] = features[clip].mean()
    masked = augment.apply_masks(features, mel, time)
    torch.testing.assert_close(masked, expected)
    assert (masked != features).any((1, 2)).all()


def test_masks_lie_inside_and_have_all_widths():
    masks = np.concatenate([augment.draw_masks(2, 4, 10, rng(i)) for i in range(300)])
    assert masks.shape == (600, 2) and masks.dtype == np.int64
    assert set(masks[:, 1]) == set(range(5)) and masks[:, 0].min() == 0 and masks.sum(1).max() == 10
    assert augment.draw_masks(1, 10, 10, rng(3)).sum() <= 10  # as wide as the axis


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": -0.1}, "--data.shift -0.1 must lie between 0 and the length of a clip, 0.5 s"),
        ({"shift": 0.5}, "--data.shift 0.5"),
        ({"noise": 1.2}, "--data.noise 1.2 must lie between 0 and 1"),
        ({"volume": float("nan")}, "--data.volume nan"),
        ({"variants": -1}, "--data.variants -1 must not be negative"),
        ({"mel_masks": 11}, "--data.mel_masks 11 is wider than the features of a clip; use 10 at most"),
        ({"time_masks": 52}, "--data.time_masks 52 .* use 51 at most"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


# ---------------------------------------------------------------- kept features


def test_kept_features_are_those_of_the_waveform():
    plain = make(shift=0.0, noise=0.0)
    for item, wave in zip(epoch(plain), epoch(make(shift=0.0, noise=0.0, variants=0)), strict=True):
        if item["label"] > 1:
            assert item["ids"] == wave["ids"] and set(wave) == {"wave", "label", "ids"}
            torch.testing.assert_close(item["features"], FRONT(wave["wave"][None])[0])
            assert item["features"].shape == (FRAMES, 10) and item["features"].dtype == torch.float32


def test_a_draw_depends_on_index_and_generator_alone():
    options = {"mel_masks": 3, "time_masks": 9}
    first = epoch(make(**options))
    other = make(**options)
    epoch(other, seed=1)  # what was kept before changes nothing
    for index in reversed(range(len(other))):
        item = other.draw(index, rng([0, index]))
        assert (item["ids"], item["label"]) == (first[index]["ids"], first[index]["label"])
        assert torch.equal(item["features"], first[index]["features"])


def test_variants_differ_and_no_others_are_made():
    made = make()
    for index in (0, 28):
        distinct = {made.draw(index, rng(i))["features"].numpy().tobytes() for i in range(60)}
        assert len(distinct) == 3
    assert made.filled[0].all() and not made.filled[1].any()
    assert not made.features[1].any()


def test_masks_are_drawn_anew_on_a_copy():
    made, plain = make(mel_masks=4, time_masks=20, masks=3), make()
    seen = set()
    for seed in range(20):
        random = rng(seed)
        features = plain.draw(5, rng(seed))["features"]
        random.integers(3)
        masks = [augment.draw_masks(3, *sizes, random)[None] for sizes in ((4, 10), (20, FRAMES))]
        expected = augment.apply_masks(features[None], *map(torch.from_numpy, masks))[0]
        masked = made.draw(5, rng(seed))["features"]
        assert torch.equal(masked, expected)
        seen.add(masked.numpy().tobytes())
    assert len(seen) == 20
    assert torch.equal(made.features[5], plain.features[5])
    made.draw(5, rng())["features"].zero_()
    plain.draw(5, rng())["features"].zero_()
    assert torch.equal(made.features[5], plain.features[5]) and made.features[5].any()


def test_waveforms_come_with_masks():
    item = make(variants=0, mel_masks=4).draw(5, rng())
    assert item["wave"].shape == (LENGTH,) and item["wave"].dtype == torch.float32
    assert item["mel_masks"].shape == item["time_masks"].shape == (2, 2)
    assert not item["time_masks"][:, 1].any()
    assert "mel_masks" not in make(variants=0, mel_masks=4, masks=0).draw(5, rng())


@pytest.mark.parametrize(("quarter", "variants"), [(4, 3), (3, 3), (2.9, 2), (0.9, 0)])
def test_variants_fit_into_a_quarter_of_the_memory(monkeypatch, quarter, variants):
    version = (19 + 15 + 4) * FRAMES * 10 * 4
    memory = SimpleNamespace(total=int(4 * quarter * version))
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(cache, "LIMITS", ())
    made = make()
    assert made.variants == variants and (made.note == "") == (variants == 3)
    if made.note:
        assert f"--data.variants 3 lowered to {variants}" in made.note
    assert ("features" in made.draw(0, rng())) == (variants > 0)


@pytest.mark.parametrize(("text", "variants"), [("8", 2), ("max\n", 3), ("99999999999999999999", 3)])
def test_a_container_may_have_less_memory_than_the_machine(monkeypatch, tmp_path, text, variants):
    version = (19 + 15 + 4) * FRAMES * 10 * 4
    (tmp_path / "max").write_text(f"{2 * 4 * version}\n" if text == "8" else text)
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * version))
    monkeypatch.setattr(cache, "LIMITS", (str(tmp_path / "missing"), str(tmp_path / "max")))
    assert make().variants == variants


def test_processes_share_the_memory_of_the_machine(monkeypatch):
    version = (19 + 15 + 4) * FRAMES * 10 * 4
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: SimpleNamespace(total=4 * 4 * version))
    monkeypatch.setattr(cache, "LIMITS", ())
    for size, variants in (("1", 3), ("2", 2), ("4", 1), ("8", 0)):
        monkeypatch.setenv("WORLD_SIZE", size)
        assert make().variants == variants


def test_loader_processes_share_what_they_compute():
    apart, shared = make(), make(workers=2)
    first, second = (
        EpochLoader(item, 4, seed=0, workers=workers).batches(0, torch.device("cpu"))
        for item, workers in ((apart, 0), (shared, 2))
    )
    for _ in range(7):
        one, two = next(first), next(second)
        assert torch.equal(one["features"], two["features"]) and torch.equal(one["label"], two["label"])
    second.close()
    assert shared.filled.sum() > 20 and (shared.filled & apart.filled).sum() == apart.filled.sum()
    assert torch.equal(shared.features[apart.filled], apart.features[apart.filled])


# ---------------------------------------------------------------- other speakers, other microphones


def test_speed_moves_a_tone_and_keeps_its_middle():
    time = (np.arange(LENGTH) - (LENGTH - 1) / 2) / RATE
    tone = np.cos(2 * np.pi * 200 * time).astype(np.float32)
    for seed in range(5):
        factor = 1.25 ** np.random.default_rng(seed).uniform(-1, 1)
        played = augment.change_speed(tone, 0.25, rng(seed))
        inside = np.abs(time * factor) < time[-1]
        expected = np.where(inside, np.cos(2 * np.pi * 200 * factor * time), 0)
        assert played.dtype == np.float32 and np.abs(played - expected)[10:-10].max() < 0.01


def test_an_equaliser_changes_the_gain_of_each_frequency_by_so_many_decibels():
    wave = rng().standard_normal(LENGTH).astype(np.float32)
    gains = []
    for seed in range(200):
        spectra = [np.fft.rfft(w) for w in (wave, augment.equalise(wave, 4.0, rng(seed)))]
        gains.append(20 * np.log10(np.abs(spectra[1][1:-1] / spectra[0][1:-1])))
    # At the six frequencies the deviation is the one asked for; halfway two of them are averaged.
    places = np.arange(1, 5) * len(gains[0]) // 5
    np.testing.assert_allclose(np.std(gains, axis=0)[places], 4, rtol=0.15)
    np.testing.assert_allclose(np.mean(gains, axis=0), 0, atol=1.2)


def test_both_take_part_in_what_is_drawn():
    plain = make(shift=0.0, noise=0.0, variants=0)
    for option in ({"speed": 0.2}, {"equaliser": 3.0}):
        changed = make(shift=0.0, noise=0.0, variants=0, **option)
        waves = [made.draw(0, rng(1))["wave"] for made in (plain, changed)]
        assert waves[0].shape == waves[1].shape and not torch.allclose(*waves)
        assert torch.equal(changed.draw(0, rng(1))["wave"], waves[1])


@pytest.mark.parametrize("option", [{"speed": 1.0}, {"speed": -0.1}, {"equaliser": -1.0}])
def test_their_options_are_checked(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        make(**option)
