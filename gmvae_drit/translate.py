"""Translation of images of any size by an exported model.

InstanceNorm takes its statistics over the whole image, so tiles of one picture would not match: an image is always
rendered whole, and one that does not fit into memory is refused.
Legend: N images, J jobs (an image with one code), Z attribute size, C, h, w code of the content, H, W image size.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from gmvae_drit.devices import Device
from gmvae_drit.errors import ModelError
from gmvae_drit.images import to_bytes
from gmvae_drit.networks.blocks import NoiseInjection
from gmvae_drit.styles import Style, keyed_noise
from gmvae_drit.translator import Translator

PEAK = 2.5
"""Peak memory of a forward, in tensors of the largest layer. Measured: 1.8 to 2.2 in fp32, 1.4 in bf16."""


class OutOfMemory(ModelError):
    """A batch that did not fit."""


class Renderer:
    """A translator on its device, with what every picture of a run shares: precision, noise, and room for a batch."""

    def __init__(self, translator: Translator, device: Device, batch_size: int, seed: int) -> None:
        self.device = device
        self.batch_size = batch_size
        layout = torch.channels_last if device.is_cuda else torch.contiguous_format
        self.translator = translator.eval().to(device.torch).to(memory_format=layout)
        self.layout = layout
        for i, module in enumerate(m for m in translator.modules() if isinstance(m, NoiseInjection)):
            module.register_forward_hook(partial(_injected, seed, i))
        self.bytes_per_pixel = PEAK * self._largest_layer()

    def padded_size(self, image: Tensor) -> tuple[int, int]:
        """(H, W) of an image (3, H, W) in whole cells of the content code, at least two each way."""
        cell = self.translator.generator.cell
        H, W = (max(2, math.ceil(side / cell)) * cell for side in image.shape[1:])
        return H, W

    def check_room(self, image: Tensor) -> None:
        """Raise ModelError if one picture of this size (3, H, W) needs more memory than is free."""
        H, W = self.padded_size(image)
        needed, free = self.bytes_per_pixel * H * W, self.device.free_bytes()
        if needed > free:
            raise ModelError(
                f"{image.shape[2]} x {image.shape[1]} pixels need about {needed / 1e9:.1f} GB of memory, and "
                f"{free / 1e9:.1f} GB are free: translate at a smaller --size"
            )

    @torch.inference_mode()
    def render(
        self, images: Sequence[Tensor], styles: Sequence[Sequence[Style]]
    ) -> Iterator[tuple[int, Style, Tensor]]:
        """Each image (3, H, W) in [-1, 1] in each of its styles: index of the image, style, uint8 (F, 3, H, W).

        In order, and computed as the pictures are taken. The padded sizes must be equal. A content is encoded once;
        codes are rendered as many at a time as fit. Raises OutOfMemory.
        """
        H, W = self.padded_size(images[0])
        room = int(self.device.free_bytes() / (self.bytes_per_pixel * H * W))
        at_once = max(1, min(self.batch_size, room))
        jobs = [
            (i, style.domain, code) for i, own in enumerate(styles) for style in own for code in style.codes
        ]
        pictures = self._pictures(self._contents(images, (H, W), at_once), jobs, at_once)
        for i, own in enumerate(styles):
            for style in own:
                frames = torch.stack([next(pictures) for _ in style.codes])
                yield i, style, frames[:, :, : images[i].shape[1], : images[i].shape[2]]

    def _contents(self, images: Sequence[Tensor], size: tuple[int, int], at_once: int) -> Tensor:
        """What the generator needs of each image once: (N, C, h, w)."""
        shared = []
        for start in range(0, len(images), at_once):
            padded = torch.stack([reflected(image, size) for image in images[start : start + at_once]])
            with self._computing(len(padded), size):
                content = self.translator.content(padded.to(self.device.torch, memory_format=self.layout))
                shared.append(self.translator.generator.shared(content))
        return torch.cat(shared)

    def _pictures(
        self, shared: Tensor, jobs: Sequence[tuple[int, int, Tensor]], at_once: int
    ) -> Iterator[Tensor]:
        cell = self.translator.generator.cell
        for start in range(0, len(jobs), at_once):
            index, domain, codes = zip(*jobs[start : start + at_once], strict=True)
            z = torch.stack(codes).to(self.device.torch)
            target = torch.tensor(domain, device=self.device.torch)
            with self._computing(len(z), (cell * shared.shape[2], cell * shared.shape[3])):
                out = to_bytes(self.translator.generator.render(shared[list(index)], z, target)).cpu()
            yield from out

    @contextmanager
    def _computing(self, pictures: int, size: tuple[int, int]) -> Iterator[None]:
        """Autocast, and one line for the user where memory runs out all the same."""
        try:
            with self.device.autocast():
                yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise OutOfMemory(
                f"out of memory on {self.device.torch} with {pictures} pictures of {size[1]} x {size[0]}: "
                "use a smaller --batch-size or --size"
            ) from None

    @torch.inference_mode()
    def _largest_layer(self) -> float:
        """Bytes per image pixel of the inputs and outputs of the largest layer, in fp32; tried on a tiny image."""
        side: int = 8 * self.translator.generator.cell
        largest = 0

        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            nonlocal largest
            if isinstance(output, Tensor) and not list(module.children()):
                largest = max(largest, output.numel() + sum(t.numel() for t in inputs))

        hooks = [m.register_forward_hook(note) for m in self.translator.modules()]
        image = torch.zeros(1, 3, side, side, device=self.device.torch)
        z = torch.zeros(1, self.translator.generator.size, device=self.device.torch)
        self.translator.translate(image, z, torch.zeros(1, dtype=torch.long, device=self.device.torch))
        for hook in hooks:
            hook.remove()
        return 4.0 * largest / side**2


def _injected(seed: int, layer: int, module: NoiseInjection, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    """What a noise injection gives in translation: one fixed field for all pictures of a size, so that neither the
    batch nor the frame of an animation shows in the texture."""
    (x,) = inputs
    noise = keyed_noise((1, 1, *x.shape[2:]), seed, "injected", layer).to(x)
    return x + module.weight.to(x.dtype) * noise


def reflected(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, h, w) continued to (3, H, W) at its lower and right edge by reflection, again and again where it is small."""
    rows, columns = (
        _reflection(have, want, image.device) for have, want in zip(image.shape[1:], size, strict=True)
    )
    return image[:, rows[:, None], columns]


def _reflection(have: int, want: int, device: torch.device) -> Tensor:
    """Indices 0 1 2 … have-1 … 2 1 0 1 2 …, `want` of them."""
    period = max(1, 2 * (have - 1))
    place = torch.arange(want, device=device) % period
    return torch.minimum(place, period - place) if have > 1 else torch.zeros_like(place)
