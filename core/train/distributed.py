"""Process groups as ``torchrun`` starts them. One process needs nothing of this."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """This process's place among all.

    Attributes:
        rank: Number of this process, 0 is the one that logs and saves.
        size: Number of processes.
        local_rank: Number on this machine; chooses the GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the tracking server."""
        return self.rank == 0


def environment_world() -> World:
    """Reads RANK, WORLD_SIZE and LOCAL_RANK, as torchrun and SLURM wrappers set them."""
    return World(
        int(os.environ.get("RANK", 0)),
        int(os.environ.get("WORLD_SIZE", 1)),
        int(os.environ.get("LOCAL_RANK", 0)),
    )


def start(device: torch.device) -> World:
    """Joins the process group when there is more than one process."""
    world = environment_world()
    if world.size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return world


def stop() -> None:
    """Leaves the process group."""
    if dist.is_initialized():
        # Data parallelism leaves cycles that hold the group; its threads must be joined before the interpreter ends.
        gc.collect()
        dist.destroy_process_group()


def broadcast_text(text: str) -> str:
    """Returns rank 0's text on every rank."""
    if not dist.is_initialized():
        return text
    box = [text]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def mean_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Averages a tensor over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether any process raised its flag: all must stop at the same step."""
    if not dist.is_initialized():
        return flag
    value = torch.tensor([float(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())
