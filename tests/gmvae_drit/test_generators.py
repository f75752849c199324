"""What the options of the generator do, and that it never sees y."""

from itertools import pairwise

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F

KINDS = ["concat", "adain", "featurewise"]


def generator(domains=3, content=None, **changes):
    model = tiny.model(domains, content=content or {}, generator=changes)
    return model.translator.generator


def convolutions(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.usefixtures("double")
def test_featurewise_generator_is_the_published_one():
    """Blocks of MisINSResBlock: 1 x 1 convolutions over [features, z everywhere], written with concatenation."""
    g = generator(kind="featurewise", residual_blocks=2)
    content, z, domain = torch.randn(4, 8, 8, 8), torch.randn(4, 4), torch.tensor([0, 1, 2, 0])

    def fuse(fusion, x, style):
        style = style[:, :, None, None].expand(-1, -1, *x.shape[2:])
        weight = torch.cat([fusion.of_features.weight, fusion.of_style.weight[:, :, None, None]], 1)
        h = F.relu(F.conv2d(torch.cat([x, style], 1), weight, fusion.of_features.bias))
        return F.relu(F.conv2d(h, fusion.out.weight, fusion.out.bias))

    def conv_norm(sequence, x):
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), sequence[0].weight)
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    h = content
    styles = g.styles(torch.cat([F.one_hot(domain, 3).double(), z], 1))
    for i, block in enumerate(g.residual):
        style = styles[:, 8 * i : 8 * (i + 1)]
        o = fuse(block.fuse_first, conv_norm(block.first, h), style)
        h = h + fuse(block.fuse_second, conv_norm(block.second, o), style)
    for stage in g.up:
        h = F.relu(F.group_norm(stage[0](h), 1, stage[1].weight, stage[1].bias))
    expected = g.to_image(h).tanh()
    torch.testing.assert_close(g(content, z, domain), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("downsamplings", [1, 2, 3])
def test_double_layer_adds_one_convolution_to_every_up_sampling_stage(kind, downsamplings):
    content = {"downsamplings": downsamplings}
    single, double = (generator(content=content, kind=kind, up_convolutions=n) for n in (1, 2))
    assert len(convolutions(double)) == len(convolutions(single)) + downsamplings
    assert len(convolutions(double.residual)) == len(convolutions(single.residual))
    size = 16
    image = double(torch.randn(2, 8, size, size), torch.randn(2, 4), torch.tensor([0, 1]))
    assert image.shape == (2, 3, size << downsamplings, size << downsamplings)


def test_double_layer_is_a_block_of_its_own_at_the_stage_s_size():
    stages = generator(up_convolutions=3).up
    for stage in stages:
        kinds = [type(layer).__name__ for layer in stage]
        assert kinds == ["ConvTranspose2d", *["GroupNorm", "ReLU", "Conv2d"] * 2, "GroupNorm", "ReLU"]
        assert all(a.out_channels == b.in_channels for a, b in pairwise(convolutions(stage)))
        assert all(layer.stride == (1, 1) for layer in convolutions(stage)[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_rendering_is_the_tanh_of_what_bce_compares(kind):
    g = generator(kind=kind)
    shared, z, domain = g.shared(torch.randn(2, 8, 8, 8)), torch.randn(2, 4), torch.tensor([0, 1])
    assert torch.equal(g.render(shared, z, domain), g.before_tanh(shared, z, domain).tanh())


@pytest.mark.parametrize("kind", KINDS)
def test_generator_is_blind_to_the_component(kind, monkeypatch):
    """Given z and d: with all components of the prior alike, the same noise gives the same picture for every y."""
    model = tiny.model(generator={"kind": kind}, content={"noise": 0})
    prior = model.translator.prior
    for table in (prior.raw_mean_DKZ, prior.raw_logvar_DKZ):
        table.data[:] = table.data[:, :1].clone()
    pictures, components = [], []
    for y in (0, 2):
        monkeypatch.setattr(prior, "sample_component", lambda domain, y=y: torch.full_like(domain, y))
        torch.manual_seed(0)
        with torch.no_grad():
            out = model.translator(tiny.batch(half=2)["image"], tiny.batch(half=2)["domain"], 1.0)
        pictures.append(out["by_prior"])
        components.append(out["y_prior"].unique().item())
    assert components == [0, 2]
    assert torch.equal(*pictures)


@torch.no_grad()
def test_colour_only_in_concat_and_shape_in_the_others():
    """Why there are three: the residual blocks of `concat` see no attribute, those of the others do."""
    content, z = torch.randn(1, 8, 8, 8).expand(2, -1, -1, -1), torch.stack([torch.zeros(4), torch.ones(4)])
    before_up = {}
    for kind in KINDS:
        g = generator(kind=kind)
        if kind == "concat":
            channels = g.condition(z, torch.tensor([0, 0]))[:, :, None, None].expand(-1, -1, 8, 8)
            h = g.residual(torch.cat([g.first(content), channels], 1))[:, :8]
        else:
            g.up = nn.Identity() if kind == "featurewise" else nn.ModuleList()
            g.to_image = nn.Identity()
            h = g.before_tanh(g.shared(content), z, torch.tensor([0, 0]))
        difference = h[0] - h[1]
        before_up[kind] = float((difference - difference.mean((1, 2), keepdim=True)).abs().mean())
    assert before_up["concat"] < 1e-6
    assert before_up["adain"] > 1e-3
    assert before_up["featurewise"] > 1e-4
