"""The newest checkpoint, for every rank: rank 0 reads it, the others are told, so the storage is read once."""

from dataclasses import replace

import torch
import torch.distributed as dist

from cluster.checkpoint import Checkpoint
from cluster.checkpoints import Checkpoints


def newest_checkpoint(
    checkpoints: Checkpoints, rank: int, world_size: int, device: torch.device
) -> Checkpoint | None:
    """The same on all ranks, its tensors on the CPU. Raises what reading it raises, on rank 0."""
    checkpoint = checkpoints.newest() if rank == 0 else None
    if world_size == 1:
        return checkpoint
    told: list[tuple[Checkpoint, dict[str, tuple[torch.Size, torch.dtype]]] | None] = [None]
    if checkpoint is not None:
        shapes = {name: (value.shape, value.dtype) for name, value in checkpoint.tensors.items()}
        told = [(replace(checkpoint, tensors={}), shapes)]
    dist.broadcast_object_list(told, device=device)
    if told[0] is None:
        return None
    bare, shapes = told[0]
    tensors = {}
    for name, (shape, dtype) in shapes.items():
        value = torch.empty(shape, dtype=dtype) if checkpoint is None else checkpoint.tensors[name]
        value = value.to(device)
        dist.broadcast(value, 0)
        tensors[name] = value.cpu()
    return replace(bare, tensors=tensors)
