"""A GMVAE-DRIT that trains in milliseconds, and the plainest engine for it."""

import torch
from pydantic import TypeAdapter
from torch.nn.utils import clip_grad_norm_

from gmvae_drit.config import ModelSettings
from gmvae_drit.model import Progress
from gmvae_drit.training import TranslationModel

SETTINGS = {
    "content": {"width": 4, "max_width": 8, "residual_blocks": 1},
    "attribute": {"size": 4, "width": 4, "max_width": 8, "downsamplings": 3},
    "mixture": {"components": 3},
    "generator": {"residual_blocks": 2},
    "discriminator": {"width": 4, "max_width": 8, "downsamplings": 3},
    "content_discriminator": {"width": 4},
}
PROGRESS = Progress(step=8, total_steps=100, epoch=2.5)


def settings(**changes):
    """The tiny settings with changes by section: `settings(loss={"usage": 1})`, `settings(kind="drit")`."""
    merged = dict(SETTINGS)
    if changes.get("kind") == "drit":
        del merged["mixture"]
    for section, change in changes.items():
        mergeable = isinstance(change, dict) and isinstance(merged.get(section), dict)
        merged[section] = {**merged[section], **change} if mergeable else change
    return TypeAdapter(ModelSettings).validate_python(merged)


def model(domains=2, seed=0, **changes):
    """A new tiny model in training mode."""
    torch.manual_seed(seed)
    return TranslationModel(settings(**changes), domains).train()


def batch(domains=(0, 1), half=1, size=32, seed=1):
    """`half` random images of each of two domains."""
    generator = torch.Generator().manual_seed(seed)
    image = 2 * torch.rand(2 * half, 3, size, size, generator=generator, dtype=torch.float64) - 1
    domain = torch.tensor(domains).repeat_interleave(half)
    return {"image": image.to(torch.get_default_dtype()), "domain": domain}


class Update:
    """Zero, backward, clip, step, and a copy of every gradient as the optimizer saw it."""

    def __init__(self, nets, optimizers):
        self.nets, self.optimizers = nets, optimizers
        self.gradients, self.losses, self.order = {}, {}, []

    def __call__(self, name, loss, clip_norm=None):
        self.optimizers[name].zero_grad()
        loss.backward()
        if clip_norm is not None:
            clip_grad_norm_(self.nets[name].parameters(), clip_norm)
        self.losses[name] = loss.detach()
        self.order.append(name)
        self.gradients[name] = {
            key.removeprefix("module."): None if p.grad is None else p.grad.clone()
            for key, p in self.nets[name].named_parameters()
        }
        self.optimizers[name].step()


def train(model, batch, progress=PROGRESS, seed=2):
    """One training step: what it logs, and the update with its gradients."""
    nets = model.networks()
    update = Update(nets, model.optimizers())
    torch.manual_seed(seed)
    return model.train_step(nets, batch, update, progress), update
