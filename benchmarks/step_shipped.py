"""The shipped update, its variants by settings, and the same update with one optimisation taken back."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from benchmarks.step_plain import PLAIN, BlocksPerContent, replace
from cluster.update import GuardedUpdate
from gmvae_drit.config import ModelSettings
from gmvae_drit.model import Batch, Progress
from gmvae_drit.networks.blocks import InstanceNorm, WideConv2d
from gmvae_drit.networks.concat_generator import ConcatGenerator
from gmvae_drit.training import TranslationModel

PROGRESS = Progress(step=1, total_steps=1000, epoch=0.0)
MakeOptimizer = Callable[[list[nn.Parameter], float], Optimizer]
Step = Callable[[Batch], object]

VARIANTS: dict[str, dict[str, Any]] = {
    "`loss.mode_seeking: 1` (the default)": {"loss": {"mode_seeking": 1}},
    "`loss.content_reconstruction: 1`": {"loss": {"content_reconstruction": 1}},
    "`content_discriminator: null`": {"content_discriminator": None},
    "`kind: drit`": {"kind": "drit"},
    "`mixture.posterior: responsibilities`, `covariance: full`": {
        "mixture": {"posterior": "responsibilities", "covariance": "full"}
    },
    "`loss.attribute_consistency: 1`": {"loss": {"attribute_consistency": 1}},
    "`generator.kind: adain`": {"generator": {"kind": "adain"}},
    "`generator.kind: featurewise`": {"generator": {"kind": "featurewise"}},
    "`generator.up_convolutions: 2`": {"generator": {"up_convolutions": 2}},
    "`discriminator.scales: 2`": {"discriminator": {"scales": 2}},
    "`discriminator.downsamplings: 4`": {"discriminator": {"downsamplings": 4}},
    "`discriminator.downsamplings: 4, scales: 3`": {"discriminator": {"downsamplings": 4, "scales": 3}},
    "`discriminator.spectral_norm: true`": {"discriminator": {"spectral_norm": True}},
    "`discriminator.r1_weight: 1`, a step with the penalty (default: every eighth)": {
        "discriminator": {"r1_weight": 1, "r1_every": 1}
    },
}
"""Settings by the name of their row, to merge into those of `new_model`."""


def new_model(changes: Mapping[str, Any] | None = None) -> TranslationModel:
    """Published widths and weights, and MDMM's losses: no mode seeking. The same weights at every call."""
    changes = changes or {}
    raw = {**changes, "loss": {"mode_seeking": 0, **changes.get("loss", {})}}
    torch.manual_seed(0)
    return TranslationModel(TypeAdapter(ModelSettings).validate_python(raw), domains=2).train()


def adam(model: TranslationModel, **implementation: bool) -> MakeOptimizer:
    """The optimizer of the model's settings."""
    o = model.settings.optimizer
    how = implementation or {"fused": True}
    return lambda parameters, rate: Adam(parameters, rate, betas=o.betas, weight_decay=o.weight_decay, **how)


class ShippedUpdate:
    """`TranslationModel.train_step` with the engine's guarded update, as one worker runs it."""

    def __init__(self, model: TranslationModel, optimizer: MakeOptimizer) -> None:
        rates = model.learning_rates(PROGRESS)
        optimizers = {
            name: optimizer(list(net.parameters()), rates[name]) for name, net in model.networks().items()
        }
        self.model, self.update = model, GuardedUpdate(optimizers, torch.device("cpu"))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update."""
        terms = self.model.train_step(self.model.networks(), batch, self.update, PROGRESS)
        self.update.end_step()
        return terms


def variant(changes: Mapping[str, Any]) -> Step:
    """The update of another model."""
    model = new_model(changes)
    return ShippedUpdate(model, adam(model)).step


def changed_networks(change: Callable[[nn.Module], object]) -> Step:
    """The update after `change` of all of its networks."""
    model = new_model()
    change(model)
    return ShippedUpdate(model, adam(model)).step


def other_adam(**implementation: bool) -> Step:
    """The update by another implementation of Adam."""
    model = new_model()
    return ShippedUpdate(model, adam(model, **implementation)).step


def channels_last() -> Step:
    """The update in the other memory layout, which the engine takes on CUDA."""
    layout = torch.channels_last
    step = changed_networks(lambda model: model.to(memory_format=layout))
    return lambda batch: step({**batch, "image": batch["image"].contiguous(memory_format=layout)})


CHANGED: dict[str, Callable[[], Step]] = {
    "residual blocks anew for every attribute": lambda: changed_networks(
        lambda model: replace(model, {ConcatGenerator: PLAIN[ConcatGenerator]})
    ),
    "first transposed convolution anew for every attribute": lambda: changed_networks(
        lambda model: replace(model, {ConcatGenerator: BlocksPerContent})
    ),
    "all convolutions by oneDNN": lambda: changed_networks(
        lambda model: replace(model, {WideConv2d: nn.Conv2d})
    ),
    "PyTorch's InstanceNorm": lambda: changed_networks(
        lambda model: replace(model, {InstanceNorm: PLAIN[InstanceNorm]})
    ),
    "Adam by `foreach`": lambda: other_adam(foreach=True),
    "Adam by a loop over tensors": lambda: other_adam(foreach=False),
    "`channels_last`": channels_last,
}
"""Updates with one optimisation taken back, and one with a layout that the shipped one does without."""
