"""Low-rank storage against the singular values and the sizes that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from core.compress import decode, encode, tensor_bytes
from core.compress.lowrank import LEFT, RIGHT, WHOLE
from core.errors import ConfigError, PackageError


def pair(shape, rank=None, seed=0, dtype=torch.float32, size=0.1):
    """Base and tuned weights; their difference has full or the given rank as a matrix of ``shape[0]`` rows."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator).double()
    if rank is None:
        difference = torch.randn(shape, generator=generator).double()
    else:
        factors = (shape[0], rank), (rank, base[0].numel())
        left, right = (torch.randn(factor, generator=generator).double() for factor in factors)
        difference = (left @ right).reshape(shape)
    return {"w": base.to(dtype)}, {"w": (base + size * difference).to(dtype)}


@pytest.mark.parametrize("shape", [(20, 30), (12, 4, 3, 3), (16, 8, 5), (48, 2, 3, 3, 3)])
@pytest.mark.parametrize("rank", [1, 3])
def test_the_error_is_the_tail_of_the_singular_values(shape, rank):
    """Eckart and Young: Frobenius and spectral error of the best approximation of a rank."""
    base, tuned = pair(shape)
    restored = decode(base, encode(base, tuned, rank))["w"]
    values = torch.linalg.svdvals((tuned["w"] - base["w"]).double().flatten(1))
    error = (restored - tuned["w"]).double().flatten(1)
    assert error.square().sum().item() == pytest.approx(values[rank:].square().sum().item(), rel=1e-4)
    assert torch.linalg.svdvals(error)[0].item() == pytest.approx(values[rank].item(), rel=1e-4)


@pytest.mark.parametrize("size", [1.0, 0.1, 0.001])
def test_the_whole_rank_restores_the_weights_up_to_rounding(size):
    base, tuned = pair((64, 100), rank=5, size=size)
    stored = encode(base, tuned, None)
    assert stored[LEFT + "w"].shape == (64, 5) and stored[RIGHT + "w"].shape == (5, 100)
    error = (decode(base, stored)["w"] - tuned["w"]).abs().max()
    assert error < 32 * torch.finfo(torch.float32).eps * tuned["w"].abs().max()


def test_a_difference_of_full_rank_is_stored_as_it_is():
    base, tuned = pair((20, 30))
    stored = encode(base, tuned, None)
    assert list(stored) == [WHOLE + "w"]
    assert torch.equal(decode(base, stored)["w"], tuned["w"])


@pytest.mark.parametrize(("rank", "factored"), [(11, True), (12, False)])
def test_factors_are_stored_only_where_they_are_smaller(rank, factored):
    """20 x 30 has 600 values; 11 x 50 is less, 12 x 50 is not."""
    base, tuned = pair((20, 30))
    assert (LEFT + "w" in encode(base, tuned, rank)) == factored


def test_bytes_on_disk_fall_by_the_predicted_amount(tmp_path):
    base, tuned = pair((40, 16, 3, 3))
    tuned["bias"], base["bias"] = torch.ones(40), torch.zeros(40)
    stored = encode(base, tuned, 4)
    assert tensor_bytes(tuned) == 4 * (40 * 144 + 40)
    assert tensor_bytes(stored) == 4 * (4 * (40 + 144) + 40)
    save_file(tuned, tmp_path / "before")
    save_file(stored, tmp_path / "after")
    saved = (tmp_path / "before").stat().st_size - (tmp_path / "after").stat().st_size
    assert saved == pytest.approx(tensor_bytes(tuned) - tensor_bytes(stored), abs=300), (
        "headers differ by less"
    )


def test_stacked_members_are_split_where_factors_are_smallest():
    base, tuned = pair((3, 40, 50))
    stored = encode(base, tuned, 2)
    assert stored[LEFT + "w"].shape == (120, 2) and stored[RIGHT + "w"].shape == (2, 50)


def test_energy_keeps_the_fewest_values_that_reach_it():
    values = torch.tensor([4.0, 2.0, 1.0, 0.5])  # squares 16, 4, 1, 0.25 of 21.25
    base = {"w": torch.zeros(10, 10)}
    tuned = {"w": torch.diag(torch.cat([values, torch.zeros(6)]))}
    for energy, rank in [(0.7, 1), (0.75, 1), (0.76, 2), (0.95, 3), (1.0, 4)]:
        assert encode(base, tuned, None, energy)[LEFT + "w"].shape[1] == rank
    assert encode(base, tuned, 2, 1.0)[LEFT + "w"].shape[1] == 2


def test_everything_but_float_matrices_is_kept_exactly():
    base = {
        "count": torch.tensor(3),
        "mask": torch.zeros(9, 9, dtype=torch.bool),
        "same": torch.ones(9, 9),
        "head": torch.zeros(2, 9),
        "bias": torch.zeros(9),
        "broken": torch.zeros(9, 9),
        "empty": torch.zeros(0, 3),
    }
    tuned = {
        "count": torch.tensor(12345678901),
        "mask": torch.eye(9, dtype=torch.bool),
        "same": torch.ones(9, 9),
        "head": torch.randn(5, 9),
        "bias": torch.randn(9),
        "broken": torch.full((9, 9), torch.nan),
        "empty": torch.zeros(0, 3),
    }
    stored = encode(base, tuned, 1)
    assert set(stored) == {WHOLE + name for name in ("count", "mask", "head", "bias", "broken")}
    restored = decode(base, stored)
    for name, tensor in tuned.items():
        torch.testing.assert_close(restored[name], tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_are_kept(dtype):
    base, tuned = pair((30, 30), rank=2, dtype=dtype)
    stored = encode(base, tuned, 2)
    restored = decode(base, stored)["w"]
    assert stored[LEFT + "w"].dtype == restored.dtype == dtype
    assert (restored - tuned["w"]).abs().max() <= 4 * torch.finfo(dtype).eps * tuned["w"].abs().max()


def test_a_base_of_another_precision_serves():
    base, tuned = pair((30, 30), rank=2)
    tuned = {"w": tuned["w"].half()}
    restored = decode(base, encode(base, tuned, 4))["w"]
    assert restored.dtype == torch.float16
    assert (restored - tuned["w"]).abs().max() < 5e-3


def test_user_errors_are_one_line():
    base, tuned = pair((4, 4))
    for wrong in ({"rank": 0}, {"rank": 1, "energy": 0.0}, {"rank": 1, "energy": 1.1}):
        with pytest.raises(ConfigError, match="must be"):
            encode(base, tuned, **wrong)
    with pytest.raises(ConfigError, match="2 tensors are in one of them alone, such as 'a' in the base"):
        encode({**base, "a": base["w"]}, {**tuned, "b": base["w"]}, 1)
    with pytest.raises(ConfigError, match="such as 'b' in the tuned"):
        encode(base, {**tuned, "b": base["w"]}, 1)


def test_a_difference_of_other_weights_is_refused():
    base, tuned = pair((20, 20))
    stored = encode(base, tuned, 1)
    with pytest.raises(PackageError, match="no stored difference of a weight of this base"):
        decode({"other": base["w"]}, stored)
    with pytest.raises(PackageError, match="no stored difference"):
        decode(base, {"w": tuned["w"]})
    with pytest.raises(PackageError, match=r"do not fit the base's \(20, 21\)"):
        decode({"w": torch.zeros(20, 21)}, stored)
    with pytest.raises(PackageError, match="do not fit each other"):
        decode(base, {LEFT + "w": stored[LEFT + "w"]})
