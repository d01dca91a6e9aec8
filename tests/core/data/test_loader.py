"""Batches by number."""

import itertools
from itertools import chain

import pytest
import torch
from torch.utils.data import Dataset

from core.data.loader import EpochLoader
from core.errors import DataError
from core.train.distributed import World

CPU = torch.device("cpu")


class Numbers(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"x": torch.tensor([float(index)]), "ids": f"n{index}"}


def take(loader, start, count):
    return [batch["x"].flatten().tolist() for batch in itertools.islice(loader.batches(start, CPU), count)]


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
    assert take(loader, start, 4) == take(loader, 0, 12)[start : start + 4]


def test_the_order_is_the_seeds_alone():
    torch.manual_seed(1)
    expected = take(EpochLoader(Numbers(9), 3, seed=4), 0, 6)
    torch.manual_seed(2)
    assert take(EpochLoader(Numbers(9), 3, seed=4), 0, 6) == expected
    assert take(EpochLoader(Numbers(9), 3, seed=5), 0, 6) != expected


def test_it_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    take(EpochLoader(Numbers(9), 3, seed=4), 0, 7)
    assert torch.equal(torch.rand(2), expected)


def test_ranks_share_each_batch():
    whole = take(EpochLoader(Numbers(13), 6, seed=2), 0, 4)
    parts = [take(EpochLoader(Numbers(13), 6, seed=2, world=World(rank, 3)), 0, 4) for rank in range(3)]
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


@pytest.mark.slow
def test_workers_load_the_same_batches():
    expected = take(EpochLoader(Numbers(9), 3, seed=4), 1, 4)
    assert take(EpochLoader(Numbers(9), 3, seed=4, workers=1), 1, 4) == expected
