"""The contract between a trainable model and whatever engine trains it.

A model owns its networks, their learning rates and the order of its losses; the engine owns devices, processes,
precision, the backward pass and the checkpoints. The engine has no branch on the kind of model.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

Batch = Mapping[str, Tensor]
"""``image`` (B, C, H, W), uint8 or float in [-1, 1]; ``domain`` (B,) int64. The first half of a batch is of one
domain and the second half of another."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands. Every schedule is a function of this and of nothing else."""

    step: int
    """Index of this step, from 0."""
    total_steps: int
    """Steps in the whole run."""
    epoch: float
    """Passes over the largest domain so far."""
    ends_step: bool = True
    """Whether this is all of the step's batch, or its last part where gradients are accumulated over several."""

    @property
    def fraction(self) -> float:
        """Share of the run that is done, in [0, 1)."""
        return self.step / self.total_steps


class Update(Protocol):
    """One optimizer step of one network: zero the gradients, backward, clip, step. Where the engine accumulates
    gradients over several parts of a batch, it steps with the last part only."""

    def __call__(self, name: str, loss: Tensor, clip_norm: float | None = None) -> None:
        """Update network ``name`` by the gradient of ``loss``, its norm clipped to ``clip_norm`` if given."""


class Model(nn.Module, ABC):
    """What the engine can train. ``state_dict()`` is the whole of what a checkpoint keeps of it."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The trained networks by name; each gets one optimizer and, on several workers, one DDP wrapper."""

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """A new optimizer for each network, under the same names."""

    @abstractmethod
    def learning_rates(self, progress: Progress) -> dict[str, float]:
        """The learning rate of each network at this point of the run, under the same names."""

    @abstractmethod
    def train_step(
        self, nets: Mapping[str, nn.Module], batch: Batch, update: Update, progress: Progress
    ) -> dict[str, Tensor]:
        """Train on one batch.

        ``nets`` are the networks as the engine wrapped them (DDP, or bare on one worker). Returns scalars to log as
        detached 0-d tensors; nothing here may wait for the device. Draws its noise from torch's default generator,
        which the engine seeds from (seed, step, rank). Where gradients are accumulated it is called for each part of
        the step's batch; averages of weights are due in the last, `progress.ends_step`.
        """

    @abstractmethod
    def eval_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars of one held-out batch (0-d tensors, means over the batch), without noise or gradient."""

    @abstractmethod
    def previews(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures of what the model does now, by name: uint8 (3, H, W) on the CPU."""

    def component_shares(self) -> Tensor | None:
        """Share of each component in each domain by the running mean of q(y|x), (D, K) on the model's device.

        None where there are no components. Every rank has the same.
        """
        return None

    @abstractmethod
    def exported(self) -> nn.Module:
        """The network that translation needs, with the weights that an export keeps."""
