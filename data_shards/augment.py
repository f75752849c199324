"""Crop and flip as published (DRIT: resize to load size, random crop, horizontal flip with p = 0.5).

Resizing happens when shards are built. What happens to a sample depends only on (seed, domain, epoch, sample
index): not on the worker, the batch or the step that meets it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_shards.order import Stream, generator

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Window:
    """The part of an image that is used, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool

    def cut(self, image_HWC: Pixels) -> Pixels:
        """A view of the image."""
        part = image_HWC[self.top : self.top + self.height, self.left : self.left + self.width]
        return part[:, ::-1] if self.mirrored else part


@dataclass(frozen=True)
class RandomWindow:
    """The augmentation of training."""

    seed: int
    crop: int | None
    flip: bool

    def __call__(self, domain: int, epoch: int, index: int, height: int, width: int) -> Window:
        """The window of sample ``index`` of ``domain`` in ``epoch``."""
        if self.crop is None and not self.flip:
            return Window(0, 0, height, width, False)
        random = generator(self.seed, Stream.AUGMENT, domain, epoch, index)
        mirrored = bool(random.random() < 0.5) and self.flip
        if self.crop is None:
            return Window(0, 0, height, width, mirrored)
        top, left = random.integers((height - self.crop + 1, width - self.crop + 1))
        return Window(int(top), int(left), self.crop, self.crop, mirrored)


@dataclass(frozen=True)
class CentreWindow:
    """What evaluation uses instead: the centre, never mirrored."""

    crop: int | None

    def __call__(self, domain: int, epoch: int, index: int, height: int, width: int) -> Window:
        """The central window, whatever the sample and the epoch."""
        side_h, side_w = (self.crop, self.crop) if self.crop else (height, width)
        return Window((height - side_h) // 2, (width - side_w) // 2, side_h, side_w, False)
