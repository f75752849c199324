import pytest
import torch

from gmvae_drit.classifier import train_classifier


@pytest.fixture(scope="module")
def bars():
    """Upright bars (0) and level bars (1), in random colours, at random places."""
    generator = torch.Generator().manual_seed(0)
    image, label = -torch.ones(160, 3, 16, 16), torch.arange(160) % 2
    for i in range(160):
        colour = torch.rand(3, 1, generator=generator)
        place = int(torch.randint(3, 13, (), generator=generator))
        if label[i]:
            image[i, :, place] = colour
        else:
            image[i, :, :, place] = colour
    return image, label


@pytest.fixture(scope="module")
def classifier(bars):
    image, label = bars
    return train_classifier(image[:128], label[:128], seed=0, epochs=6, batch=32)


def test_shapes_are_learned(classifier, bars):
    image, label = (x[128:] for x in bars)
    with torch.no_grad():
        assert float((classifier(image).argmax(1) == label).float().mean()) > 0.9
    assert not classifier.training


def test_training_is_a_function_of_its_seed_and_leaves_the_random_state(bars):
    image, label = (x[:64] for x in bars)
    state = torch.get_rng_state()
    first, second = (train_classifier(image, label, seed=1, epochs=1, batch=32) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


def test_activations_are_of_each_image_alone(classifier, bars):
    image, _ = bars
    with torch.no_grad():
        together, alone = classifier.activations(image[:4]), classifier.activations(image[2:3])
    assert tuple(x.shape[1] for x in together) == classifier.channels
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[2:3], one, rtol=1e-4, atol=1e-5)
