"""Batches by number."""

import itertools
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
