"""What one training step of a configuration holds, counted on shapes alone: nothing is computed, any machine will do.

Parameters and gradient buckets of each network, FLOPs, operators, bytes moved and bytes kept for the backward pass, and
how far the backward pass has come (in FLOPs) when DDP can send each bucket. `benchmarks/scaling.py` makes times of it.
"""

import io
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from data_shards.convert import encode
from data_shards.digits import load_photographs
from data_shards.sources import BuildOptions
from gmvae_drit.build import build_model
from gmvae_drit.config import ModelSettings
from gmvae_drit.model import Model, Progress

DDP_BUCKET = 25 * 2**20  # bytes; torch.nn.parallel.DistributedDataParallel, default of bucket_cap_mb
PROGRESS = Progress(step=0, total_steps=1000, epoch=0.0)  # step 0: a content discriminator has its turn
ADAM_PASSES = (
    8  # over the weights: the norm reads the gradient, fused Adam reads four tensors and writes three
)
MATRIX = ("convolution", "mm", "addmm", "bmm", "linear")  # what runs on tensor cores


@dataclass(frozen=True)
class Bucket:
    """What DDP sends at once."""

    size: int
    """Bytes of gradient, fp32."""
    ready: float
    """Share of the network's backward pass, in FLOPs, that is done when the last gradient of the bucket is."""


@dataclass(frozen=True)
class Part:
    """One update of one network: a backward pass with its all-reduces."""

    parameters: int
    backward_flops: int
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True)
class StepCount:
    """One step at ``batch`` images."""

    batch: int
    parts: dict[str, Part]
    flops: int
    operators: int
    """Operators that launch a kernel; of the backward pass as well."""
    bytes_moved: int
    """Read and written by the optimizers and all operators but matrix products, in the formats of bf16 autocast."""
    bytes_kept: int
    """Activations kept for the backward pass, each once; without weights."""
    scalars: int
    """Figures that are logged."""


class _Traffic(TorchDispatchMode):
    """Counts operators, and the bytes of those that are no matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators, self.bytes = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if not function.is_view and function.namespace == "aten":
            self.operators += 1
            if not any(word in str(function) for word in MATRIX):
                self.bytes += sum(x.nbytes for x in tree_leaves((args, out)) if isinstance(x, Tensor))
        return out


def count_step(settings: ModelSettings, batch: int, side: int, domains: int = 2) -> StepCount:
    """Count a step of ``batch`` square images in bf16 autocast."""
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about the deep copy
        model = build_model(settings, tuple(str(d) for d in range(domains))).train()
        # A deep copy of fake tensors belongs to another mode: the average takes the originals.
        model.averaged.load_state_dict(model.translator.state_dict(), assign=True)  # type: ignore[union-attr]
        data = {
            "image": torch.zeros(batch, 3, side, side, dtype=torch.uint8),
            "domain": torch.arange(batch) * 2 // batch,
        }
        return _count(model, data)


def _count(model: Model, data: dict[str, Tensor]) -> StepCount:
    nets, parts, kept = model.networks(), {}, {}
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    flops = FlopCounterMode(display=False)

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = (storage, storage.nbytes())  # held, so that its address stays its own
        return x

    def update(name: str, loss: Tensor, clip_norm: float | None = None) -> None:
        begin, ready = flops.get_total_flops(), {}
        parameters = list(nets[name].parameters())
        hooks = [
            p.register_post_accumulate_grad_hook(lambda p: ready.update({p: flops.get_total_flops()}))
            for p in parameters
        ]
        for p in parameters:
            p.grad = None
        with torch.autocast("cpu", enabled=False):
            loss.backward()
        for hook in hooks:
            hook.remove()
        total = flops.get_total_flops() - begin
        shares = {p: (at - begin) / max(total, 1) for p, at in ready.items()}
        parts[name] = Part(sum(p.numel() for p in parameters), total, bucketed(shares))

    saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x)
    with saved, _Traffic() as traffic, flops, torch.autocast("cpu", torch.bfloat16):
        scalars = model.train_step(nets, data, update, PROGRESS)
    in_optimizers = ADAM_PASSES * 4 * sum(part.parameters for part in parts.values())
    return StepCount(
        batch=len(data["image"]),
        parts=parts,
        flops=flops.get_total_flops(),
        operators=traffic.operators,
        bytes_moved=traffic.bytes + in_optimizers,
        bytes_kept=sum(size for _, size in kept.values()),
        scalars=len(scalars),
    )


def bucketed(ready: Mapping[Tensor, float]) -> tuple[Bucket, ...]:
    """The buckets that DDP makes after its first step: in the order in which gradients come, by DDP's own function."""
    parameters: list[Tensor] = list(ready)
    limits = [dist._DEFAULT_FIRST_BUCKET_BYTES, DDP_BUCKET]  # type: ignore[attr-defined]
    indices, _ = dist._compute_bucket_assignment_by_size(  # type: ignore[attr-defined]
        parameters, limits, [False] * len(parameters), list(range(len(parameters)))
    )
    return tuple(
        Bucket(sum(parameters[i].nbytes for i in group), max(ready[parameters[i]] for i in group))
        for group in indices
    )


def at_batch(two: StepCount, four: StepCount, batch: int) -> StepCount:
    """The count at another batch, from those at 2 and 4: all is linear in it, but the operators stay as many."""

    def line(x: int, y: int) -> int:
        return x + (y - x) * (batch - 2) // 2

    parts = {
        name: replace(part, backward_flops=line(part.backward_flops, four.parts[name].backward_flops))
        for name, part in two.parts.items()
    }
    return replace(
        two,
        batch=batch,
        parts=parts,
        flops=line(two.flops, four.flops),
        bytes_moved=line(two.bytes_moved, four.bytes_moved),
        bytes_kept=line(two.bytes_kept, four.bytes_kept),
    )


def checkpoint_cost(settings: ModelSettings) -> tuple[int, float]:
    """Bytes of a checkpoint (weights, averaged weights, Adam's moments), and seconds to serialise it to memory here."""
    model = build_model(settings, ("0", "1"))
    optimizers = model.optimizers()
    for optimizer in optimizers.values():
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.grad = torch.zeros_like(p)
        optimizer.step()
    state = {"model": model.state_dict(), "optimizers": {k: o.state_dict() for k, o in optimizers.items()}}
    buffer, begin = io.BytesIO(), time.perf_counter()
    torch.save(state, buffer)
    return buffer.getbuffer().nbytes, time.perf_counter() - begin


def jpeg_sizes() -> list[int]:
    """Bytes of three squares of each of scikit-learn's photographs (427 x 640), as 256 px shards hold them."""
    images = [Image.fromarray(photo) for photo in load_photographs()]
    squares = [x.crop((left, 0, left + x.height, x.height)) for x in images for left in (0, 106, 213)]
    return [len(encode(x, BuildOptions(resize=256)).data) for x in squares]
