import pytest
import torch

from gmvae_drit import metrics
from gmvae_drit.classifier import Classifier


@pytest.fixture
def features():
    torch.manual_seed(0)
    return metrics.ClassifierFeatures("random", Classifier(2, width=4).eval())


def images(n=3, seed=0):
    return 2 * torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1


def test_the_formula_layer_by_layer(features):
    a, b = images(), images(seed=1)
    expected = torch.zeros(3)
    for x, y in zip(features.layers(a), features.layers(b), strict=True):
        x, y = (t / (t.square().sum(1, keepdim=True).sqrt() + 1e-10) for t in (x, y))
        expected += (x - y).square().sum(1).mean((1, 2))
    torch.testing.assert_close(metrics.perceptual_distance(features, a, b), expected, rtol=1e-4, atol=1e-5)


def test_it_is_twice_what_the_cosine_lacks():
    class Raw:
        name, size = "raw", 3

        def layers(self, image):
            return [image, torch.nn.functional.avg_pool2d(image, 4)]

    a, b = images(), images(seed=1)
    expected = sum(
        2 * (1 - torch.cosine_similarity(x, y)).mean((1, 2))
        for x, y in zip(Raw().layers(a), Raw().layers(b), strict=True)
    )
    torch.testing.assert_close(metrics.perceptual_distance(Raw(), a, b), expected)


def test_equal_pictures_do_not_differ_and_sides_do_not_matter(features):
    a, b = images(), images(seed=1)
    assert torch.equal(metrics.perceptual_distance(features, a, a), torch.zeros(3))
    torch.testing.assert_close(
        metrics.perceptual_distance(features, a, b), metrics.perceptual_distance(features, b, a)
    )


def test_pixels_differ_by_their_mean_absolute_difference():
    a, b, distance = images(), images(seed=1), metrics.PixelDistance()
    torch.testing.assert_close(
        distance.between(distance.embed(a), distance.embed(b)), (a - b).abs().mean((1, 2, 3))
    )


def test_names_tell_the_network(features):
    assert metrics.PerceptualDistance(features).name == "perceptual, random"
