"""Splits that keep together what belongs together."""

import pytest

from core.data.split import hold_out
from core.errors import ConfigError, DataError

NAMES = [f"{who}_{take}.wav" for who in ("ann", "bob", "cid", "dee", "eve") for take in range(4)]


def group(name):
    return name.split("_")[0]


@pytest.mark.parametrize("pattern", ["^[^_]+", "^([a-z]+)_\\d"])
def test_no_group_is_on_both_sides(pattern):
    split = hold_out(NAMES, 0.4, pattern, "--data.speaker")
    assert sorted([*split.train, *split.test]) == list(range(20))
    train, test = ({group(NAMES[i]) for i in side} for side in (split.train, split.test))
    assert not train & test and len(test) == 2
    assert "8 to test on, 12 to learn from" in split.note


def test_the_order_and_number_of_samples_of_a_group_do_not_matter():
    once = hold_out(["a1", "b1", "c1"], 0.3, "^[a-z]", "--x")
    often = hold_out(["a1", "a2", "b1", "c1", "c2", "c3"], 0.3, "^[a-z]", "--x")
    assert {["a1", "b1", "c1"][i][0] for i in once.test} == {
        ["a1", "a2", "b1", "c1", "c2", "c3"][i][0] for i in often.test
    }


def test_one_group_more_moves_one_at_most():
    names = [f"photo_{i}.png" for i in range(60)]
    before = None
    for count in range(10, 61):
        split = hold_out(names[:count][::-1], 0.3, None, "--x")
        held_out = {names[:count][::-1][i] for i in split.test}
        assert len(held_out) == round(0.3 * count)
        if before is not None:
            assert len((held_out ^ before) - {names[count - 1]}) <= 1
        before = held_out


def test_the_held_out_groups_are_those_of_the_smallest_hash():
    """As `printf NAME | sha256sum | sort` lists them."""
    names = ["a", "b", "c", "d", "e", "f"]
    assert [names[i] for i in hold_out(names, 0.5, None, "--x").test] == ["c", "d", "f"]


def test_a_name_that_is_no_unicode():
    assert len(hold_out(["a\udcff.png", "b.png"], 0.5, None, "--x").test) == 1


@pytest.mark.parametrize(("share", "tested"), [(0.01, 1), (0.5, 10), (0.99, 19)])
def test_each_side_keeps_something(share, tested):
    assert len(hold_out(NAMES, share, None, "--x").test) == tested


@pytest.mark.parametrize(
    ("share", "pattern", "error", "match"),
    [
        (0, None, ConfigError, "test_share 0 is not a share"),
        (1.0, None, ConfigError, "test_share 1.0 is not a share"),
        (0.1, "(", ConfigError, r"--data.speaker '\(' is not a regular expression"),
        (0.1, "x_", ConfigError, "finds nothing in the name ann_0.wav"),
        (0.1, "_", DataError, "one group alone"),
    ],
)
def test_what_cannot_be_split_is_said(share, pattern, error, match):
    with pytest.raises(error, match=match):
        hold_out(NAMES, share, pattern, "--data.speaker")
