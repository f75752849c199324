"""Where and in which precision a model computes, as asked for on the command line."""

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from gmvae_drit.errors import ModelError
from gmvae_drit.options import Precision

MEMORY = Path("/proc/meminfo")
CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Device:
    """A device that is there, and whether to compute in bf16 on it."""

    torch: torch.device
    bf16: bool

    @property
    def is_cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.torch.type == "cuda"

    def autocast(self) -> AbstractContextManager[None]:
        """bf16 where it was chosen, fp32 elsewhere."""
        return torch.autocast(self.torch.type, dtype=torch.bfloat16, enabled=self.bf16)

    def free_bytes(self) -> int:
        """Memory that can still be had; on systems that do not tell, without end."""
        if self.is_cuda:
            cached = torch.cuda.memory_reserved(self.torch) - torch.cuda.memory_allocated(self.torch)
            return torch.cuda.mem_get_info(self.torch)[0] + cached
        if not MEMORY.exists():
            return sys.maxsize
        fields = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
        limit = CONTAINER_MEMORY.read_text().strip() if CONTAINER_MEMORY.exists() else "max"
        return free if limit == "max" else min(free, int(limit))


def choose_device(name: str, precision: Precision) -> Device:
    """The device `name`: auto (a GPU where there is one), cpu, cuda or cuda:N.

    `auto` precision is bf16 on a GPU that computes in it, and fp32 elsewhere. Raises ModelError for what is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda"}:
        raise ModelError(f"--device {name}: choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"--device {name}: this machine has {torch.cuda.device_count()} GPUs that torch can use"
        )
    native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return Device(device, precision is Precision.BF16 or (precision is Precision.AUTO and native))
