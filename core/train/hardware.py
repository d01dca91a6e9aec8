"""Device, precision and allocator, chosen from the hardware and said aloud."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

from core.errors import ConfigError
from core.train.distributed import environment_world


def choose_device(name: str) -> torch.device:
    """Returns the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; raises ``ConfigError``."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--train.device {name!r} is not a device; use auto, cpu, cuda or cuda:0")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("--train.device cuda: torch sees no GPU here; use cpu or auto")
        count = torch.cuda.device_count()
        if device.index is None:
            device = torch.device("cuda", environment_world().local_rank % count)
        if device.index >= count:
            raise ConfigError(f"--train.device {name}: torch sees {count} GPU(s) here, numbered from 0")
    return device


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; without, it is tens of times slower than float32."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_precision(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    """Returns the autocast dtype and the reason, in words that are shown to the user."""
    if name == "fp32":
        return torch.float32, "float32 as configured"
    hardware = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    if name == "bf16":
        if not hardware:
            raise ConfigError(
                f"--train.precision bf16: this {device.type} has no bfloat16 instructions and would be tens "
                "of times slower; use fp32 or auto"
            )
        return torch.bfloat16, "bfloat16 as configured"
    if hardware:
        return torch.bfloat16, f"bfloat16: this {device.type} has the instructions"
    return torch.float32, f"float32: this {device.type} has no bfloat16 instructions"


def keep_large_allocations() -> bool:
    """Tells glibc to keep large freed blocks instead of returning them to the kernel after each operation.

    Activations over 32 MB are otherwise mapped and faulted in again by every layer. It costs memory (measured by
    ``benchmarks/allocator.py``);
    returns whether it took effect. The environment variable ``SKIPWAY_MALLOC=default`` turns it off.
    """
    if platform.system() != "Linux" or os.environ.get("SKIPWAY_MALLOC") == "default":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # M_* constants of <malloc.h>
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 256 * 2**20))
    return all(mallopt(option, value) == 1 for option, value in settings)
