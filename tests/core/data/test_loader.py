"""Batches by number."""

import itertools
import os
from itertools import chain

import numpy as np
import pytest
import torch

from core.data.loader import EpochLoader
from core.errors import DataError
from core.train.distributed import World
from core.train.seeds import derive_seed

CPU = torch.device("cpu")


class Numbers:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def draw(self, index, rng):
        noise = rng.standard_normal(2).astype(np.float32)
        return {"x": torch.tensor([float(index)]), "noise": noise, "ids": f"n{index}"}


def batches(loader, start, count):
    return list(itertools.islice(loader.batches(start, CPU), count))


def take(loader, start, count):
    return [batch["x"].flatten().tolist() for batch in batches(loader, start, count)]


def drawn(loader, start, count):
    """What each batch holds, with the random part."""
    return [
        [(int(x), *noise.tolist()) for x, noise in zip(batch["x"], batch["noise"], strict=True)]
        for batch in batches(loader, start, count)
    ]


def test_an_epoch_holds_every_sample_once_but_for_the_rest():
    loader = EpochLoader(Numbers(11), 3, seed=1)
    assert loader.steps_per_epoch == 3
    epochs = [list(chain.from_iterable(take(loader, 3 * epoch, 3))) for epoch in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 9
        assert set(epoch) <= set(range(11))
    assert epochs[0] != epochs[1]
    left_out = [set(range(11)) - set(epoch) for epoch in epochs]
    assert left_out[0] != left_out[1] or left_out[1] != left_out[2], "the rest is not always the same"


@pytest.mark.parametrize("start", [0, 1, 2, 3, 5, 7])
def test_it_can_be_entered_anywhere(start):
    loader = EpochLoader(Numbers(11), 3, seed=1)
    assert drawn(loader, start, 4) == drawn(loader, 0, 12)[start : start + 4]


def test_the_order_is_the_seeds_alone():
    torch.manual_seed(1)
    expected = take(EpochLoader(Numbers(9), 3, seed=4), 0, 6)
    torch.manual_seed(2)
    assert take(EpochLoader(Numbers(9), 3, seed=4), 0, 6) == expected
    assert take(EpochLoader(Numbers(9), 3, seed=5), 0, 6) != expected


def test_without_shuffling_the_numbers_tell_the_place_in_the_batch():
    expected = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 1, 2]]
    assert take(EpochLoader(Numbers(10), 3, seed=4, shuffle=False), 0, 4) == expected


def test_what_a_sample_draws_depends_on_seed_epoch_and_index_alone():
    """Not on the order, the size of the batches, the number of samples, or the global generators."""
    by_index = {}
    for count, size in ((9, 3), (9, 1), (12, 4)):
        np.random.seed(count)
        torch.manual_seed(count)
        steps = count // size
        for epoch in range(2):
            for index, *noise in chain.from_iterable(
                drawn(EpochLoader(Numbers(count), size, seed=4), epoch * steps, steps)
            ):
                assert by_index.setdefault((epoch, index), noise) == noise
    assert len(by_index) == 24
    assert len({tuple(noise) for noise in by_index.values()}) == 24, "every epoch and sample is new"
    rng = np.random.Generator(np.random.PCG64(derive_seed(4, "draw", 1, 7)))
    assert by_index[1, 7] == rng.standard_normal(2).astype(np.float32).tolist()
    other = chain.from_iterable(drawn(EpochLoader(Numbers(9), 3, seed=5), 0, 3))
    assert not {tuple(noise) for _, *noise in other} & {tuple(noise) for noise in by_index.values()}


def test_it_leaves_the_global_generators_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(2), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    take(EpochLoader(Numbers(9), 3, seed=4), 0, 7)
    assert torch.equal(torch.rand(2), expected[0])
    assert np.random.rand() == expected[1]


def test_ranks_share_each_batch():
    whole = drawn(EpochLoader(Numbers(13), 6, seed=2), 0, 4)
    parts = [drawn(EpochLoader(Numbers(13), 6, seed=2, world=World(rank, 3)), 0, 4) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert [len(share) for share in shares] == [2, 2, 2]
        assert sorted(chain.from_iterable(shares)) == sorted(batch)


def test_batches_name_their_samples():
    batch = next(EpochLoader(Numbers(4), 2, seed=0).batches(0, CPU))
    assert batch["ids"] == [f"n{int(x)}" for x in batch["x"].flatten()]


def test_what_cannot_be_loaded_is_said():
    with pytest.raises(DataError, match=r"3 samples do not fill a batch of 4; set --train.batch_size to 3"):
        EpochLoader(Numbers(3), 4, seed=0)
    with pytest.raises(DataError, match="a batch of 5 cannot be shared by 2 processes equally"):
        EpochLoader(Numbers(30), 5, seed=0, world=World(0, 2))


def test_workers_load_the_same_batches():
    expected = drawn(EpochLoader(Numbers(9), 3, seed=4), 1, 4)
    assert drawn(EpochLoader(Numbers(9), 3, seed=4, workers=2), 1, 4) == expected


def test_a_batch_is_of_one_group_and_all_groups_come():
    loader = EpochLoader(Numbers(23), 4, seed=0, groups=[9, 14])
    assert loader.steps_per_epoch == 2 + 3
    epoch = take(loader, 0, 5)
    sides = [{value >= 9 for value in batch} for batch in epoch]
    assert all(len(side) == 1 for side in sides)
    assert sum(side == {True} for side in sides) == 3
    assert len({*chain(*epoch)}) == 20
    assert take(loader, 3, 4) == take(loader, 0, 7)[3:]
    orders = [[batch[0] >= 9 for batch in take(loader, 5 * e, 5)] for e in range(8)]
    assert len({tuple(order) for order in orders}) > 1


def test_one_group_is_no_groups():
    plain, one = EpochLoader(Numbers(23), 4, seed=3), EpochLoader(Numbers(23), 4, seed=3, groups=[23])
    assert take(plain, 0, 12) == take(one, 0, 12)


def test_each_group_fills_a_batch():
    with pytest.raises(DataError, match="3 samples do not fill a batch of 4"):
        EpochLoader(Numbers(23), 4, seed=0, groups=[20, 3])


class Mixed(Numbers):
    """Each sample tells its epoch and which others it may be mixed with."""

    window = 5

    def draw_at(self, place, rng):
        recent = [*place.recent, *[-1] * (self.window - len(place.recent))]
        return {"x": torch.tensor([float(place.index)]), "epoch": place.epoch, "recent": torch.tensor(recent)}


def test_what_was_drawn_last_is_known_and_reaches_over_the_end_of_an_epoch():
    drawn = batches(EpochLoader(Mixed(6), 3, seed=2), 0, 4)
    order = [int(x) for batch in drawn for x in batch["x"]]
    recent = [row.tolist() for batch in drawn for row in batch["recent"]]
    for i, row in enumerate(recent):
        before = order[:i][::-1][:5]
        assert row == [*before, *[-1] * (5 - len(before))]
    assert [batch["epoch"].tolist() for batch in drawn] == [[0] * 3, [0] * 3, [1] * 3, [1] * 3]


@pytest.mark.parametrize("start", [0, 1, 3])
def test_the_samples_before_are_those_of_the_same_process(start):
    """Also where the training was resumed, and torch counts its batches from there."""
    loader = EpochLoader(Mixed(8), 2, seed=2, workers=2)
    order = take(EpochLoader(Numbers(8), 2, seed=2), 0, 8)
    for number, batch in enumerate(batches(loader, start, 4), start):
        first, second = order[number]
        held = [x for earlier in range(number - 2, -1, -2) for x in order[earlier][::-1]]
        rows = batch["recent"].tolist()
        assert [x for x in rows[0] if x >= 0] == held[:5]
        assert [x for x in rows[1] if x >= 0] == [first, *held][:5]
        assert batch["x"].flatten().tolist() == [first, second]


def test_the_processes_of_the_loader_stay_over_the_epochs():
    class Processes(Numbers):
        def draw(self, index, rng):
            return {"process": os.getpid()}

    loader = EpochLoader(Processes(4), 2, seed=0, workers=2)
    seen = {int(pid) for batch in batches(loader, 0, 8) for pid in batch["process"]}
    assert len(seen) == 2 and os.getpid() not in seen


def test_samples_of_several_sizes_become_a_batch_by_the_function_given():
    class Growing(Numbers):
        def draw(self, index, rng):
            return {"boxes": torch.full((index, 4), float(index))}

    def joined(drawn):
        return {
            "boxes": torch.cat([each["boxes"] for each in drawn]),
            "sizes": [len(d["boxes"]) for d in drawn],
        }

    batch = batches(EpochLoader(Growing(3), 3, seed=0, collate=joined), 0, 1)[0]
    assert sorted(batch["sizes"]) == [0, 1, 2]
    assert batch["boxes"].shape == (3, 4)
