"""What a person who watches a run is shown of the components: the running mean of q(y|x), by a second computation."""

import pytest
import tiny
import torch
from pydantic import TypeAdapter

from gmvae_drit.config import ModelSettings
from gmvae_drit.gmvae.model import Gmvae

STEPS = 3


def running_mean(seen, domains, K, momentum):
    """Uniform at first; then at each step the mean of a domain's q(y|x) is taken in with `momentum`."""
    mean = torch.full((domains, K), 1 / K)
    for logits, domain in seen:
        for d in set(domain.tolist()):
            mean[d] = (1 - momentum) * mean[d] + momentum * logits[domain == d].softmax(1).mean(0)
    return mean


def test_shares_of_a_translation_model_are_the_running_mean_of_each_domain():
    model, seen = tiny.model(domains=3), []
    start = model.component_shares()
    torch.testing.assert_close(start, torch.full((3, 3), 1 / 3))
    for step in range(STEPS):
        batch = tiny.batch(domains=(0, 2), half=2, seed=step)
        hook = model.translator.register_forward_hook(
            lambda _, __, out, domain=batch["domain"]: seen.append((out["q_logits"].detach(), domain))
        )
        tiny.train(model, batch)
        hook.remove()
    shares = model.component_shares()
    torch.testing.assert_close(shares, running_mean(seen, 3, 3, 0.05))
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    assert not torch.equal(shares[0], start[0]), "trained"
    assert torch.equal(shares[1], start[1]), "not in any batch"


def test_shares_of_a_gmvae_are_those_of_one_domain():
    torch.manual_seed(0)
    network = {"kind": "dense", "hidden": [24, 16]}
    raw = {"kind": "gmvae", "components": 4, "latent_size": 4, "image_size": 16, "network": network}
    model, seen = Gmvae(TypeAdapter(ModelSettings).validate_python({**raw, "usage_momentum": 0.25})), []
    model.network.register_forward_hook(lambda _, __, out: seen.append((out["logits"].detach(), domain)))
    domain = torch.zeros(6, dtype=torch.int64)
    for step in range(STEPS):
        image = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1
        tiny.train(model, {"image": image, "domain": domain})
    torch.testing.assert_close(model.component_shares(), running_mean(seen, 1, 4, 0.25))
    assert model.component_shares().sum().item() == pytest.approx(1)


def test_a_later_step_does_not_change_shares_taken_before():
    model = tiny.model()
    taken = model.component_shares()
    before = taken.clone()
    tiny.train(model, tiny.batch())
    assert torch.equal(taken, before)


def test_a_single_gaussian_has_no_shares():
    assert tiny.model(kind="drit").component_shares() is None


def test_shares_add_nothing_to_a_checkpoint():
    names = {name for name in tiny.model().space.state_dict() if "mean_DK" in name}
    assert names == {"usage.mean_DK"}
