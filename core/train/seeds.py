"""Seeds in one place. Every random stream is named by a key, so that none depends on the order of calls."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(seed: int, *key: str | int) -> int:
    """Returns a 63-bit seed for the stream ``key`` of a run; equal on every platform and process."""
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *key: str | int) -> torch.Generator:
    """Returns a CPU generator for the stream ``key`` of a run."""
    return torch.Generator().manual_seed(derive_seed(seed, *key))


def seed_everything(seed: int, *key: str | int, deterministic: bool = False) -> None:
    """Seeds Python, NumPy and torch (all devices); ``deterministic`` also asks for deterministic kernels."""
    value = derive_seed(seed, *key)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def rng_state() -> dict[str, object]:
    """Returns the state of the global generators as tensors and primitives."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, object] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).copy()), position, has_gauss, cached],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict) -> None:
    """Restores what :func:`rng_state` returned."""
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy(), position, has_gauss, cached))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
