"""From options to what is learned from and tested on."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from made_sets import found, image_set

from core.data.split import name_hash
from core.errors import ConfigError, DataError
from tasks.detection.config import DataConfig
from tasks.detection.data import load
from tasks.detection.data.load import load_data


@pytest.fixture
def given(monkeypatch):
    """What the readers find at each path."""
    paths = {}

    def read(path, layout, images, one_based):
        return paths[str(path)]

    monkeypatch.setattr(load, "read_parts", read)
    return paths


def objects(names, labels=(0,)):
    return {name: [(label, (1, 2, 20 + label, 30)) for label in labels] for name in names}


def part(root, name, count, labels=(0,)):
    return image_set(root, objects([f"{name}/{i}.png" for i in range(count)], labels))


def test_train_and_test_parts_stay_what_they_are(given, tmp_path):
    parts = {name: part(tmp_path, name, count) for name, count in (("train", 4), ("val", 2), ("test", 3))}
    given["x"] = replace(found(parts), notes=["a row was dropped"])
    data = load_data(DataConfig(path="x"))
    assert data.train.names.tolist() == parts["train"].names.tolist()
    assert data.validation.names.tolist() == parts["val"].names.tolist()
    assert data.test.names.tolist() == parts["test"].names.tolist()
    assert data.size == 9 and data.notes[0] == "a row was dropped"
    assert (
        "training: 4 images, 4 objects: a 4" in data.notes and "test: 3 images, 3 objects: a 3" in data.notes
    )
    assert "training: no object of b, c" in data.notes


def test_without_a_test_part_the_validation_part_is_tested_on_and_said_to_be(given, tmp_path):
    given["x"] = found({"train": part(tmp_path, "train", 4), "val": part(tmp_path, "val", 2)})
    data = load_data(DataConfig(path="x"))
    assert len(data.test) == 2 and len(data.validation) == 0
    assert "there is no test part: the validation part is tested on" in data.notes


def test_an_undivided_folder_is_split_by_names(given, tmp_path):
    given["x"] = found({"all": part(tmp_path, "all", 20)})
    data = load_data(DataConfig(path="x", test_share=0.25))
    first = sorted(given["x"].parts["all"].names.tolist(), key=name_hash)[:5]
    assert sorted(data.test.names.tolist()) == sorted(first) and len(data.train) == 15


def test_a_training_part_alone_is_split_too(given, tmp_path):
    given["x"] = found({"train": part(tmp_path, "train", 10)})
    data = load_data(DataConfig(path="x"))
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 0, 2)


def test_one_folder_named_as_training_and_validation_part_is_split(given, tmp_path):
    images = part(tmp_path, "all", 10)
    given["x"] = found({"train": images, "val": images})
    data = load_data(DataConfig(path="x"))
    assert (len(data.train), len(data.test)) == (8, 2)
    assert "the part val has the training images again; it is left out" in data.notes


def test_scenes_are_on_one_side_in_every_split(given, tmp_path):
    names = [f"scene{i // 4}_{i}.png" for i in range(40)]
    given["x"] = found({"all": image_set(tmp_path, objects(names))})
    data = load_data(DataConfig(path="x", group=r"scene\d+", validation_share=0.25))
    sides = [
        {str(name).split("_")[0] for name in images.names}
        for images in (data.train, data.validation, data.test)
    ]
    assert [len(side) for side in sides] == [6, 2, 2]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_a_share_of_the_training_images_is_looked_at(given, tmp_path):
    given["x"] = found({"train": part(tmp_path, "train", 10), "test": part(tmp_path, "test", 2)})
    data = load_data(DataConfig(path="x", validation_share=0.3))
    assert (len(data.train), len(data.validation), len(data.test)) == (7, 3, 2)
    given["x"] = found({"train": part(tmp_path, "train", 1), "test": part(tmp_path, "test", 2)})
    with pytest.raises(ConfigError, match=r"--data\.validation_share 0\.3 needs two training images"):
        load_data(DataConfig(path="x", validation_share=0.3))


def test_fewer_training_images_are_always_among_more_and_at_least_one_stays(given, tmp_path):
    given["x"] = found({"train": part(tmp_path, "train", 10), "test": part(tmp_path, "test", 2)})
    sets = [set(load_data(DataConfig(path="x", train_share=s)).train.names) for s in (0.01, 0.3, 0.6, 1.0)]
    assert [len(names) for names in sets] == [1, 3, 6, 10]
    assert sets[0] < sets[1] < sets[2] < sets[3]


def test_a_test_folder_of_its_own_is_read_with_the_classes_of_the_training(given, tmp_path):
    given["x"] = found({"train": part(tmp_path, "train", 4, (0, 1))}, ["cat", "dog"], [7, 9])
    other = part(tmp_path, "other", 2, (0, 1, 2))
    given["y"] = found({"test": other}, ["bird", "dog", "cat", "fish"], [7, 8, 9, 10])
    data = load_data(DataConfig(path="x", test_path="y"))
    assert data.classes == ["cat", "dog", "bird"] and data.category_ids == [7, 9, 10]
    assert data.test.targets(0).labels.tolist() == [2, 1, 0]
    assert np.array_equal(data.test.boxes, other.boxes) and len(data.train) == 4
    assert "classes of the test images alone, of which nothing can be learned: bird" in data.notes


def test_a_test_folder_alone_leaves_nothing_to_learn_from(given, tmp_path):
    given["y"] = found({"train": part(tmp_path, "train", 4), "val": part(tmp_path, "val", 2)})
    data = load_data(DataConfig(test_path="y"))
    assert (len(data.train), len(data.validation)) == (0, 0)
    assert data.test.names.tolist() == ["val/0.png", "val/1.png"]


def test_other_classes_are_left_out_and_their_images_stay(given, tmp_path):
    parts = {"train": part(tmp_path, "train", 3, (0, 1, 2)), "test": part(tmp_path, "test", 2, (0, 2))}
    given["x"] = found(parts, ["a", "b", "c"], [3, 5, 8])
    data = load_data(DataConfig(path="x", classes=["c", "a", "c"]))
    assert data.classes == ["c", "a"] and data.category_ids == [8, 3]
    assert data.train.targets(0).labels.tolist() == [1, 0]
    data = load_data(DataConfig(path="x", classes=["b", "c"], single_class=True))
    assert data.classes == ["object"] and data.category_ids == [1]
    assert data.train.labels.tolist() == [0, 0] * 3 and data.test.labels.tolist() == [0, 0]
    with pytest.raises(ConfigError, match=r"x has no class 'dogs'\. It has a, b, c"):
        load_data(DataConfig(path="x", classes=["dogs"]))


def test_a_test_folder_need_not_have_every_class_that_was_learned(given, tmp_path):
    given["y"] = found({"all": part(tmp_path, "all", 3, (0, 1))}, ["a", "b"])
    assert load_data(DataConfig(test_path="y", classes=["a", "other"])).classes == ["a"]
    with pytest.raises(ConfigError, match="none of them is in y, which has a, b"):
        load_data(DataConfig(test_path="y", classes=["other"]))


def test_a_training_image_that_is_tested_on_too_is_left_out(given, tmp_path):
    parts = {"train": part(tmp_path, "train", 3), "test": part(tmp_path, "test", 2)}
    shutil.copy(tmp_path / "test/1.png", tmp_path / "train/1.png")
    given["x"] = found(parts)
    data = load_data(DataConfig(path="x"))
    assert data.train.names.tolist() == ["train/0.png", "train/2.png"] and len(data.test) == 2
    assert any("train/1.png" in note and "held out" in note for note in data.notes)
    for i in (0, 2):
        shutil.copy(tmp_path / "test/0.png", tmp_path / f"train/{i}.png")
    with pytest.raises(DataError, match="every training image is held out too"):
        load_data(DataConfig(path="x"))


def test_sets_without_objects_are_refused(given, tmp_path):
    some, none = part(tmp_path, "some", 2), part(tmp_path, "none", 2, ())
    given["x"] = found({"train": none, "test": some})
    with pytest.raises(
        DataError, match=r"x: no training image has an object that .*; check the annotations$"
    ):
        load_data(DataConfig(path="x"))
    given["x"] = found({"train": some, "test": none})
    with pytest.raises(DataError, match="x: no test image has an object"):
        load_data(DataConfig(path="x"))
    given["x"] = found({"train": some, "test": some})
    with pytest.raises(DataError, match=r"has an object that .*; .* or --data\.classes \['b'\]"):
        load_data(DataConfig(path="x", classes=["b"]))


@pytest.mark.parametrize("side", ["train", "test"])
def test_sets_whose_objects_are_all_crowds_are_refused(given, tmp_path, side):
    parts = {name: part(tmp_path, name, 2) for name in ("train", "test")}
    crowd = np.array([True, False])
    given["x"] = found({**parts, side: replace(parts[side], crowd=crowd)})
    load_data(DataConfig(path="x"))
    given["x"] = found({**parts, side: replace(parts[side], crowd=crowd | True)})
    name = {"train": "training", "test": "test"}[side]
    with pytest.raises(DataError, match=f"x: no {name} image has an object that is not crowd or difficult"):
        load_data(DataConfig(path="x"))


def test_classes_that_a_share_of_the_training_leaves_out_are_put_down_to_it(given, tmp_path):
    names = sorted((f"train/{i}.png" for i in range(10)), key=name_hash)
    # Of the first three images c is only a crowd; d is in no image, which is no matter of the share.
    rows = {name: [(0, (1, 2, 20, 30))] for name in names}
    rows[names[1]].append((2, (3, 4, 20, 30), None, True))
    rows[names[5]] += [(1, (5, 6, 20, 30)), (2, (5, 6, 20, 30))]
    parts = {"train": image_set(tmp_path, rows), "test": part(tmp_path, "test", 2)}
    given["x"] = found(parts, ["a", "b", "c", "d"])
    told = "--data.train_share 0.3 leaves no training object of b, c; raise it"
    assert told in load_data(DataConfig(path="x", train_share=0.3)).notes
    assert not any("leaves no" in note for note in load_data(DataConfig(path="x", train_share=0.6)).notes)


def test_a_folder_without_training_part_is_for_tests(given, tmp_path):
    given["x"] = found({"test": part(tmp_path, "test", 2)})
    with pytest.raises(
        DataError, match=r"x: has a part test and none to learn from; test on it with --data\.test_path"
    ):
        load_data(DataConfig(path="x"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"test_share": 1.0}, "--data.test_share 1.0"),
        ({"validation_share": 1.0}, "--data.validation_share 1.0"),
        ({"train_share": 0.0}, "--data.train_share 0.0"),
        ({"memory": -1.0}, "--data.memory -1.0"),
        ({"classes": []}, "--data.classes is empty"),
        ({"name": "folder"}, "--data.name folder needs --data.path"),
        ({"name": "overlays", "path": "x"}, "--data.name overlays takes no path"),
    ],
)
def test_options_that_cannot_be_meant_are_one_line(options, text):
    with pytest.raises(ConfigError) as error:
        load_data(DataConfig(**options))
    assert text in str(error.value) and "\n" not in str(error.value)


def test_the_digest_tells_other_images_boxes_classes_and_splits_apart(given, tmp_path):
    def digest(**options):
        return load_data(DataConfig(path="x", **options)).digest

    parts = {"train": part(tmp_path, "train", 5, (0, 1)), "test": part(tmp_path, "test", 2, (0, 1))}
    given["x"] = found(parts)
    first = digest()
    assert digest() == first
    digests = {first, digest(train_share=0.5), digest(validation_share=0.5), digest(single_class=True)}
    given["x"] = found(parts, ["a", "b", "other"])
    digests.add(digest())
    moved = replace(parts["test"], boxes=parts["test"].boxes + np.float32(1))
    given["x"] = found({**parts, "test": moved})
    digests.add(digest())
    given["x"] = found(parts)
    with (tmp_path / "test/0.png").open("ab") as file:
        file.write(b"x")
    digests.add(digest())
    assert len(digests) == 7


def test_made_images_are_read_and_removed_with_the_data(monkeypatch):
    from tasks.detection.data import synthetic

    monkeypatch.setattr(synthetic, "COUNTS", {"train": 12, "test": 6})
    data = load_data(DataConfig())
    folder = data.folder.path
    assert data.name == "overlays" and (len(data.train), len(data.validation), len(data.test)) == (12, 0, 6)
    assert data.classes == list(synthetic.CLASSES) and data.category_ids == [1, 2, 3, 4]
    assert data.train.polygons is not None and os.path.exists(data.test.path(0))
    del data
    assert not folder.exists()
