"""The optimizer step that the engine hands to a model: accumulated, and guarded against what is not finite."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer


@dataclass(frozen=True)
class Part:
    """A part of one step's batch."""

    weight: float = 1.0
    """What its mean loss counts for, so that the sum over parts and the mean over ranks is that of the whole batch."""
    is_last: bool = True


class GuardedUpdate:
    """Zero, backward, clip, step; a step whose loss or gradient holds an infinity or NaN is left out.

    DDP has averaged the gradients over the ranks by then, and a NaN of one rank is a NaN in the average: so
    all ranks see the same norm and leave out the same steps without asking each other. On CUDA the decision
    stays on the device where the optimizer is fused (the protocol of `torch.amp.GradScaler`); any other
    optimizer costs one wait for the device per update.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], device: torch.device) -> None:
        self._optimizers = optimizers
        self._device_type = device.type
        self._accumulating: set[str] = set()
        self.part = Part()
        """What the next calls belong to."""
        self._bad = torch.zeros((), dtype=torch.bool, device=device)
        self._skipped, self._in_a_row, self._longest = torch.zeros(
            3, dtype=torch.int64, device=device
        ).unbind()

    def __call__(self, name: str, loss: Tensor, clip_norm: float | None = None) -> None:
        """See `gmvae_drit.model.Update`."""
        optimizer = self._optimizers[name]
        if name not in self._accumulating:
            optimizer.zero_grad(set_to_none=True)
        # A loss that is not finite need not have such a gradient; this one has, and so on all ranks.
        weight = torch.where(loss.isfinite(), self.part.weight, torch.nan).to(loss.dtype)
        with torch.autocast(self._device_type, enabled=False):
            loss.backward(weight)
        if not self.part.is_last:
            self._accumulating.add(name)
            return
        self._accumulating.discard(name)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        if clip_norm is not None:
            clip_grads_with_norm_(parameters, clip_norm, norm)
        finite = norm.isfinite()
        self._bad |= ~finite
        if norm.is_cuda and getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf, optimizer.grad_scale = (~finite).float(), None  # type: ignore[attr-defined]
            optimizer.step()
        elif finite:
            optimizer.step()
        # Within one autocast region the low-precision copies of weights are cached: they are stale now.
        torch.clear_autocast_cache()

    def end_step(self) -> None:
        """Count the step as skipped if any of its updates was."""
        self._skipped += self._bad
        self._in_a_row = torch.where(self._bad, self._in_a_row + 1, 0)
        self._longest = torch.maximum(self._longest, self._in_a_row)
        self._bad = torch.zeros_like(self._bad)

    def restore(self, skipped: int) -> None:
        """Go on counting from ``skipped``."""
        self._skipped.fill_(skipped)

    @property
    def skipped(self) -> int:
        """Skipped steps so far. Waits for the device."""
        return int(self._skipped)

    @property
    def longest_in_a_row(self) -> int:
        """Most steps skipped in a row. Waits for the device."""
        return int(self._longest)
