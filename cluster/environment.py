"""What a run was computed with, in words, for whoever has to repeat it. Names no machine and no person."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def describe() -> dict[str, str]:
    """Versions, source and hardware of this process, by name; what cannot be known is left out."""
    import torch

    from cluster.precision import resolve_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = {
        "gmvae-drit": _version("gmvae-drit"),
        "git commit": _commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "ray": _version("ray"),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPU": f"{_cpu_model()}, {_cores()} cores",
        "GPU": _gpus([torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]),
        "CUDA": torch.version.cuda if device.type == "cuda" else None,
        "NCCL": ".".join(map(str, torch.cuda.nccl.version())) if device.type == "cuda" else None,
        "bf16": "yes" if resolve_precision("auto", device, world_size=1) else "no",
    }
    return {name: value for name, value in facts.items() if value}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


def _commit() -> str | None:
    """The commit of the checkout that this code runs from; None where it is installed or git cannot tell."""
    if not (REPOSITORY / ".git").exists():
        return None
    words = ["git", "-C", str(REPOSITORY), "describe", "--always", "--exclude=*", "--abbrev=12"]
    try:
        found = subprocess.run([*words, "--dirty= with changes"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a file system that hangs: not worth a run
        return None
    return found.stdout.strip() or None


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus(names: list[str]) -> str | None:
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or None
