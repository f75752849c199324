"""Where translations go: a file for each, or one grid of all."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gmvae_drit.errors import ModelError
from gmvae_drit.images import WRITTEN, enlargement, grid, save_gif, save_picture, to_bytes
from gmvae_drit.inputs import Input
from gmvae_drit.options import Interpolation

FRAME_MS = 80
PAUSE_MS = 400
"""How long an animation stays at either end."""


class Output(Protocol):
    """What takes the translations as they come, image by image."""

    def write(self, item: Input, source: Tensor, name: str, frames: Tensor) -> None:
        """Frames (F, 3, H, W) uint8 of one style, called `name`, of the source image (3, H, W) in [-1, 1]."""

    def finish(self) -> None:
        """After the last image."""


class Files:
    """A picture, GIF or strip for each translation: OUT/SUB-FOLDER/IMAGE-NAME.png."""

    def __init__(self, out: Path, suffix: str, interpolation: Interpolation | None) -> None:
        self.out = out
        animated = {Interpolation.GIF: (".gif",), Interpolation.BOTH: (".gif", suffix)}
        self.suffixes = animated.get(interpolation, (suffix,)) if interpolation else (suffix,)

    def check(self, inputs: Iterable[Input], names: Sequence[str]) -> None:
        """Raise ModelError if a translation would take the place of an image to translate."""
        below = {path for item in inputs if (path := item.path.resolve()).is_relative_to(self.out.resolve())}
        for item in inputs if below else ():
            for path in (path for name in names for path in self.paths(item, name)):
                if path.resolve() in below:
                    raise ModelError(f"{path}: is one of the images to translate; choose another --out")

    def paths(self, item: Input, name: str) -> list[Path]:
        """The files of one style of one image."""
        # No with_suffix: names may have dots of their own.
        stem = self.out / item.name.parent / f"{item.name.name}-{name}"
        return [stem.with_name(stem.name + suffix) for suffix in self.suffixes]

    def write(self, item: Input, source: Tensor, name: str, frames: Tensor) -> None:
        """Write the style's files, in place of earlier ones."""
        for path in self.paths(item, name):
            if path.suffix == ".gif":
                save_gif(path, *there_and_back(frames))
            else:
                save_picture(path, grid([frames]) if len(frames) > 1 else frames[0])

    def finish(self) -> None:
        """Everything is written already."""


class Grid:
    """One picture, a row for each image: itself, then its translations."""

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in WRITTEN:
            raise ModelError(f"--grid {path}: its name must end in {', '.join(WRITTEN)}")
        self.path = path
        self.rows: dict[Path, list[Tensor]] = {}

    def write(self, item: Input, source: Tensor, name: str, frames: Tensor) -> None:
        """Add to the image's row. Raises ModelError at the first image of another shape."""
        row = self.rows.setdefault(item.path, [to_bytes(source)[None]])
        row.append(frames)
        first = next(iter(self.rows.values()))[0]
        if frames.shape[1:] != first.shape[1:]:
            raise ModelError("a grid needs images of one shape; write one file per translation instead")

    def finish(self) -> None:
        """Write the grid, small images enlarged, without rows that were broken off."""
        if self.rows:
            whole = max(map(len, self.rows.values()))
            rows = [torch.cat(row) for row in self.rows.values() if len(row) == whole]
            save_picture(self.path, grid(rows, enlargement(rows[0].shape[2])))


def there_and_back(frames: Tensor) -> tuple[Tensor, list[int]]:
    """The F frames and, after a pause, the same way back: 2 F - 2 of them, and how long each is shown, in ms."""
    back = frames[1:-1].flip(0)
    pause = [PAUSE_MS if i in (0, len(frames) - 1) else FRAME_MS for i in range(len(frames) + len(back))]
    return torch.cat([frames, back]), pause
