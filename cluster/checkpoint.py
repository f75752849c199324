"""What a checkpoint holds: all that a run needs to go on as if it had never stopped.

Weights and optimizers are tensors; whatever else decides the course of a run is in its configuration, or is a
function of the step.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from cluster.errors import RunError


@dataclass(frozen=True)
class Identity:
    """What a checkpoint must share with the run that loads it."""

    model: dict[str, Any]
    """`ModelSettings.model_dump(mode="json")`."""
    data: dict[str, Any]
    """Digest of the manifest and what else decides the order of samples."""
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step`` steps."""

    step: int
    total_steps: int
    """Length of the run it belongs to, to which schedules stretch."""
    skipped: int
    """Steps so far whose gradient was not finite."""
    identity: Identity
    tensors: dict[str, Tensor]
    """``model/NAME`` and ``optimizer/NETWORK/PARAMETER/NAME``."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Means over the held-out images, where they were looked at after this very step."""


def tensors_of(model: torch.nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """A copy on the CPU of the whole state of the model and of the optimizers, for `Checkpoint.tensors`.

    Hyper-parameters of the optimizers are left out: they are the configuration's.
    """
    named = {f"model/{name}": value for name, value in model.state_dict().items()}
    for network, optimizer in optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            named |= {f"optimizer/{network}/{number}/{name}": value for name, value in state.items()}
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in named.items()}


def restore_tensors(
    tensors: Mapping[str, Tensor], model: torch.nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> None:
    """Give a model and its optimizers the state that `tensors_of` copied."""
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model/")})
    states: dict[str, dict[int, dict[str, Tensor]]] = {network: {} for network in optimizers}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, network, number, key = name.split("/")
            states[network].setdefault(int(number), {})[key] = value
    for network, optimizer in optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states[network], "param_groups": groups})


def check_identity(where: str, saved: Identity, wanted: Identity) -> None:
    """Raise one line naming what differs between a checkpoint and the run that wants it."""
    changes = differences(asdict(saved), asdict(wanted))
    if changes:
        raise RunError(f"{where}: belongs to another run: {'; '.join(changes)}")


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``model.mixture.components was 4, is 6`` for each leaf that differs."""
    lines = []
    for key in {**saved, **wanted}:
        was, now = saved.get(key), wanted.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            lines += differences(was, now, f"{prefix}{key}.")
        elif was != now:
            lines.append(f"{prefix}{key} was {was}, is {now}")
    return lines
