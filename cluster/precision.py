"""Which number format a run computes in."""

import torch
import torch.distributed as dist


def resolve_precision(precision: str, device: torch.device, world_size: int) -> torch.dtype | None:
    """The dtype of autocast, or None for fp32. ``auto`` is bf16 if every worker's hardware computes in it."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else None
    able = torch.tensor([int(_computes_in_bf16(device))], device=device)
    if world_size > 1:
        dist.all_reduce(able, dist.ReduceOp.MIN)
    return torch.bfloat16 if able.item() else None


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
