"""Random deformations of images: small affine maps and elastic fields, one draw per image.

What a picture shows survives them, so q(y | x) should, too (`mixture.consistency`). All noise comes from torch's
default generator. Legend: B batch, C channels, H, W size, R coarse elastic grid.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def random_affine(
    like: Tensor, rotation: float, scale: float, shear: float, shift: float
) -> tuple[Tensor, Tensor]:
    """Where each pixel is to be read, as pixel offsets from the centre, x and y, both (B, H, W).

    u' = R(angle) [[1 + s_x, h], [0, 1 + s_y]] u + t, each parameter uniform within its bounds: `rotation` in degrees,
    `scale` and `shear` as shares, `shift` in pixels.
    """
    B, _, H, W = like.shape
    draw = 2 * torch.rand(B, 6, device=like.device) - 1
    angle, s_x, s_y, h, t_x, t_y = draw[:, :, None, None].unbind(1)  # (B, 1, 1) each
    cos, sin = (math.radians(rotation) * angle).cos(), (math.radians(rotation) * angle).sin()
    y, x = torch.meshgrid(_centred(H, like), _centred(W, like), indexing="ij")
    u, v = (1 + scale * s_x) * x + shear * h * y, (1 + scale * s_y) * y
    return cos * u - sin * v + shift * t_x, sin * u + cos * v + shift * t_y


def random_elastic(like: Tensor, displacement: float, cells: int) -> tuple[Tensor, Tensor]:
    """Smooth random displacement in pixels, x and y, both (B, H, W) (Simard et al. 2003, section 2).

    Gaussian of standard deviation `displacement` at each knot of a `cells` x `cells` grid, bicubic in between.
    """
    knots_B2RR = displacement * torch.empty(len(like), 2, cells, cells, device=like.device).normal_()
    field_B2HW = F.interpolate(knots_B2RR, size=like.shape[2:], mode="bicubic", align_corners=True)
    return field_B2HW[:, 0], field_B2HW[:, 1]


def warp(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The image (B, C, H, W) read at (x, y), pixel offsets from its centre (B, H, W); beyond the border, the border."""
    _, _, H, W = image.shape
    grid_BHW2 = torch.stack([x * (2 / W), y * (2 / H)], 3)
    return F.grid_sample(image, grid_BHW2, padding_mode="border", align_corners=False)


def deform(
    image: Tensor,
    *,
    rotation: float,
    scale: float,
    shear: float,
    shift: float,
    elastic: float,
    cells: int,
) -> Tensor:
    """A random affine map and a random elastic field in one resampling, (B, C, H, W). Keeps float32 in autocast."""
    with torch.autocast(image.device.type, enabled=False):
        x, y = random_affine(image, rotation, scale, shear, shift)
        if elastic:
            dx, dy = random_elastic(image, elastic, cells)
            x, y = x + dx, y + dy
        return warp(image, x, y)


def _centred(n: int, like: Tensor) -> Tensor:
    """Pixel centres as offsets from the middle, (n,)."""
    return torch.arange(n, device=like.device, dtype=like.dtype) - (n - 1) / 2
