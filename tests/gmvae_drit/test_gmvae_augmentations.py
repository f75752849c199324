"""Deformations against what they say they do."""

import torch

from gmvae_drit.augmentations import deform, random_affine, warp

NONE = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0, "elastic": 0, "cells": 5}
ALL = {"rotation": 15, "scale": 0.15, "shear": 0.2, "shift": 2.5, "elastic": 1.5, "cells": 5}


def images(n=4, h=16, w=20):
    return torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(0))


def test_no_deformation_gives_the_image_back():
    torch.testing.assert_close(deform(images(), **NONE), images(), rtol=0, atol=1e-5)


def test_a_shift_of_whole_pixels_moves_the_image():
    x, y = random_affine(images(), 0, 0, 0, 0)
    moved = warp(images(), x + 2, y - 1)
    torch.testing.assert_close(moved[:, :, 1:, :-2], images()[:, :, :-1, 2:], rtol=0, atol=1e-5)


def test_bounds_hold():
    torch.manual_seed(0)
    like = images(2000, 9, 9)
    x, y = random_affine(like, 15, 0, 0, 0)
    angle = torch.atan2(y[:, 4, 8], x[:, 4, 8]).rad2deg()
    assert 14 < angle.abs().max() <= 15.001
    assert abs(angle.mean()) < 1
    torch.testing.assert_close(x[:, 4, 8] ** 2 + y[:, 4, 8] ** 2, torch.full((2000,), 16.0))
    x, y = random_affine(like, 0, 0, 0, 2.5)
    assert 2.4 < x[:, 4, 4].abs().max() <= 2.5
    x, y = random_affine(like, 0, 0.15, 0, 0)
    assert 0.14 < (x[:, 4, 8] / 4 - 1).abs().max() <= 0.1501


def test_each_image_has_its_own_draw_by_the_default_generator():
    same = images(1).expand(3, -1, -1, -1).contiguous()
    torch.manual_seed(0)
    first, again = deform(same, **ALL), deform(same, **ALL)
    torch.manual_seed(0)
    assert torch.equal(first, deform(same, **ALL))
    assert not torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_values_stay_in_range_in_autocast_and_in_full_precision():
    with torch.autocast("cpu", torch.bfloat16):
        out = deform(images(), **ALL)
    assert out.dtype == torch.float32
    assert 0 <= out.min() <= out.max() <= 1
