"""Which number format a run computes in, and how the GPU's libraries are set."""

import os

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


def set_up_libraries(device: torch.device, deterministic: bool) -> None:
    """Fast kernels on a GPU: TF32 for what is left in fp32, and cuDNN's search for the fastest convolution. Or those
    that repeat bit for bit. Nothing of the sort matters on a CPU."""
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
