import itertools
import math

import pytest
import tiny
import torch

from gmvae_drit import metrics
from gmvae_drit.translator import Translator


@pytest.fixture
def translator():
    """Three components, two domains, no noise."""
    torch.manual_seed(0)
    return Translator(tiny.settings(generator={"kind": "adain"}), 2).eval().requires_grad_(False)


def plant_components(translator, bias):
    """q(y|x) = softmax(bias), whatever the image."""
    translator.attribute.component_head.weight.zero_()
    translator.attribute.component_head.bias.copy_(torch.tensor(bias))


def images(n=4, seed=0):
    return 2 * torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1


def test_accuracy_counts_hits():
    def classifier(image):
        return torch.eye(3)[torch.tensor([0, 1, 2, 2])]

    assert metrics.accuracy(classifier, images(4), torch.tensor([0, 1, 2, 0])) == 0.75


def test_undecided_components_are_evenly_used_but_say_nothing(translator):
    plant_components(translator, [0.0, 0.0, 0.0])
    usage = metrics.component_usage(translator, images(), 0)
    assert usage.entropy == pytest.approx(1)
    assert usage.information == pytest.approx(0, abs=1e-6)


def test_a_collapsed_mixture_is_seen(translator):
    plant_components(translator, [30.0, 0.0, 0.0])
    usage = metrics.component_usage(translator, images(), 0)
    assert (usage.entropy, usage.information, usage.argmax_entropy) == pytest.approx((0, 0, 0), abs=1e-5)


def test_decided_components_carry_the_information_of_their_shares(translator):
    """Of six images, three, two and one have a component for sure."""
    translator.attribute.forward = lambda image, domain: type(
        "Posterior", (), {"logits_BK": 40 * torch.eye(3)[torch.tensor([0, 0, 0, 1, 1, 2])]}
    )
    usage = metrics.component_usage(translator, images(6), 0)
    expected = -sum(p * math.log(p) for p in (3 / 6, 2 / 6, 1 / 6)) / math.log(3)
    values = (usage.entropy, usage.information, usage.argmax_entropy)
    assert values == pytest.approx((expected, expected, expected), abs=1e-5)


def test_one_component_has_no_usage():
    single = Translator(tiny.settings(mixture={"components": 1}), 2).eval()
    assert metrics.component_usage(single, images(), 0) == metrics.Usage(0.0, 0.0, 0.0)


def test_translations_by_the_prior_take_components_in_turn(translator):
    target = torch.ones(4, dtype=torch.int64)
    means, _ = translator.prior(target)
    expected = translator.translate(images(), means[torch.arange(4), torch.tensor([0, 1, 2, 0])], target)
    torch.testing.assert_close(metrics.translate_by_prior(translator, images(), 1, temperature=0.0), expected)


def test_translations_by_reference_take_its_attribute(translator):
    target, reference = torch.ones(4, dtype=torch.int64), images(seed=1)
    expected = translator.translate(images(), translator.attribute(reference, target).mode(), target)
    torch.testing.assert_close(metrics.translate_by_reference(translator, images(), reference, 1), expected)


def test_one_by_one_equals_all_at_once(translator):
    """The turn of the components goes on over batches."""
    whole = metrics.translate_by_prior(translator, images(), 1, temperature=0.0)
    parts = [metrics.translate_by_prior(translator, images()[i : i + 1], 1, 0.0, first=i) for i in range(4)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_distances_between_and_within_components(translator):
    """Without spread, pictures of one component are equal and those of two differ as their means' pictures do."""
    distances = metrics.component_distances(translator, images(), 1, 0.0, metrics.PixelDistance(), batch=3)
    target = torch.ones(4, dtype=torch.int64)
    means, _ = translator.prior(target)
    pictures = [translator.translate(images(), z, target) for z in means.unbind(1)]
    pairs = [float((a - b).abs().mean()) for a, b in itertools.combinations(pictures, 2)]
    assert distances.within == pytest.approx(0, abs=1e-7)
    assert distances.between == pytest.approx(sum(pairs) / 3, rel=1e-4)
    assert distances.overall == pytest.approx(sum(pairs) / 3 * 2 / 3, rel=1e-4)


def test_equal_components_differ_as_their_draws_do(translator):
    translator.prior.raw_mean_DKZ.zero_()
    torch.manual_seed(0)
    distances = metrics.component_distances(translator, images(), 1, 1.0, metrics.PixelDistance(), draws=8)
    assert distances.between == pytest.approx(distances.within, rel=0.15)
    assert distances.within > 0


def test_one_component_has_its_own_distance_only():
    torch.manual_seed(0)
    single = Translator(tiny.settings(mixture={"components": 1}), 2).eval()
    distances = metrics.component_distances(single, images(), 1, 1.0, metrics.PixelDistance())
    assert distances.between == 0
    assert distances.overall == distances.within > 0


def test_reconstruction_and_cycle_are_translations_back(translator):
    zeros, x = torch.zeros(4, dtype=torch.int64), images()
    z = translator.attribute(x, zeros).mode()
    expected = (translator.translate(x, z, zeros) - x).abs().mean((1, 2, 3))
    torch.testing.assert_close(metrics.reconstruction_error(translator, x, 0), expected)
    translation = metrics.translate_by_prior(translator, x, 1, temperature=0.0)
    expected = (translator.translate(translation, z, zeros) - x).abs().mean((1, 2, 3))
    torch.testing.assert_close(metrics.cycle_error(translator, x, translation, 0), expected)


def test_faithful_components_are_told_apart_by_a_judge(translator):
    """One that knows each component's picture by its mean sees the component that was drawn."""
    x, target = images(7), torch.ones(7, dtype=torch.int64)
    means, _ = translator.prior(target)
    known = torch.stack([translator.translate(x, z, target) for z in means.unbind(1)])
    picture = metrics.translate_by_prior(translator, x, 1, temperature=0.0)
    seen = (known - picture).abs().mean((2, 3, 4)).argmin(0)
    table = metrics.contingency(metrics.components_in_turn(translator, 7), seen, 3, 3)
    assert torch.equal(table, torch.tensor([3, 2, 2]).diag())
