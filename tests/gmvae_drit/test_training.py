import copy
import itertools

import pytest
import tiny
import torch
from torch.nn import functional as F

from gmvae_drit.errors import ModelError
from gmvae_drit.model import Progress
from gmvae_drit.networks.generators import GENERATORS

VARIANTS = [
    *itertools.product(["concat", "adain"], ["classify", "select"], [True, False], [1.0, 0.0]),
    ("featurewise", "classify", True, 1.0),
]
BATCHES = [pytest.param((0, 1), 1, id="2 images"), pytest.param((2, 0), 3, id="6 images")]


def variant(kind, conditioning, content_discriminator, mode_seeking):
    return tiny.model(
        3,
        generator={"kind": kind, "noise_injection": kind == "adain"},
        discriminator={"conditioning": conditioning, "r1_weight": 0.1},
        content_discriminator={} if content_discriminator else None,
        loss={"mode_seeking": mode_seeking},
    )


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize(("domains", "half"), BATCHES)
def test_every_parameter_of_every_network_learns(options, domains, half):
    """DDP waits for ever for a parameter without a gradient."""
    model = variant(*options)
    before = copy.deepcopy(model.state_dict())
    log, update = tiny.train(model, tiny.batch(domains, half))
    assert set(update.gradients) == set(model.networks())
    for network, gradients in update.gradients.items():
        missing = [name for name, g in gradients.items() if g is None or not g.isfinite().all()]
        assert not missing, (network, missing)
    after = model.state_dict()
    still = [name for name, p in model.named_parameters() if torch.equal(before[name], after[name])]
    assert not still
    assert all(p.requires_grad for net in model.networks().values() for p in net.parameters())
    assert all(x.shape == () and not x.requires_grad and x.isfinite() for x in log.values())


@pytest.mark.parametrize("options", VARIANTS[::5], ids=str)
def test_log_names_the_terms_that_are_on(options):
    kind, conditioning, content_discriminator, mode_seeking = options
    model = variant(*options)
    assert type(model.translator.generator) is GENERATORS[kind]
    log, _ = tiny.train(model, tiny.batch())
    assert ("classify_real" in log) == ("classify_fake" in log) == (conditioning == "classify")
    assert ("content_discriminator" in log) == ("content_adversarial" in log) == content_discriminator
    assert ("mode_seeking" in log) == bool(mode_seeking)
    assert {"r1", "adversarial", "reconstruction", "cycle", "kl", "temperature"} <= log.keys()


def test_r1_is_lazy():
    """Every `r1_every` steps, and then as much stronger."""
    penalties = {}
    for step in range(17):
        model = tiny.model(discriminator={"r1_weight": 0.5, "r1_every": 8})
        log, _ = tiny.train(model, tiny.batch(), Progress(step, 100, 0.0))
        if "r1" in log:
            penalties[step] = float(log["r1"])
    assert list(penalties) == [0, 8, 16]
    each, _ = tiny.train(tiny.model(discriminator={"r1_weight": 0.5, "r1_every": 1}), tiny.batch())
    assert penalties[8] == pytest.approx(8 * float(each["r1"]))


def test_content_discriminator_is_updated_exactly_every_nth_step():
    """And the translator learns from every batch, from the content discriminator's verdict as well."""
    model = tiny.model(content_discriminator={"every": 3})
    nets, optimizers = model.networks(), model.optimizers()
    moved = []
    for step in range(8):
        before = copy.deepcopy(model.content_discriminator.state_dict())
        update = tiny.Update(nets, optimizers)
        log = model.train_step(nets, tiny.batch(seed=step), update, Progress(step, 100, 0.0))
        after = model.content_discriminator.state_dict()
        changed = any(not torch.equal(before[name], x) for name, x in after.items())
        assert changed == ("content_discriminator" in update.order) == ("content_discriminator" in log)
        assert {"discriminator", "translator"} <= set(update.order)
        assert "content_adversarial" in log
        moved += [step] * changed
    assert moved == [0, 3, 6]


def test_reconstruction_type_is_the_one_that_is_logged():
    values = {}
    for kind in ("l1", "mse", "bce"):
        log, _ = tiny.train(tiny.model(loss={"reconstruction_type": kind}), tiny.batch())
        values[kind] = float(log["reconstruction"])
        assert float(log["cycle"]) == pytest.approx(values.setdefault("cycle", float(log["cycle"])))
    assert values["mse"] > values["l1"] ** 2  # Jensen: E|d|^2 over (E|d|)^2
    assert values["bce"] > values["mse"] / 2  # Pinsker, with p - t half of the difference


def test_discriminators_learn_first_and_from_detached_fakes():
    model = tiny.model()
    nets = model.networks()
    update = tiny.Update(nets, model.optimizers())
    seen = []

    def spy(name, loss, clip_norm=None):
        update(name, loss, clip_norm)
        if name != "translator":
            seen.append(all(p.grad is None for p in model.translator.parameters()))

    torch.manual_seed(2)
    model.train_step(nets, tiny.batch(), spy, tiny.PROGRESS)
    assert update.order == ["discriminator", "content_discriminator", "translator"]
    assert seen == [True, True]


def test_translator_loss_leaves_no_gradient_in_the_discriminators():
    model = tiny.model()
    _, update = tiny.train(model, tiny.batch())
    for network in ("discriminator", "content_discriminator"):
        for name, p in model.networks()[network].named_parameters():
            assert torch.equal(p.grad, update.gradients[network][name]), name


def test_discriminators_thaw_even_if_the_step_fails():
    model = tiny.model()
    update = tiny.Update(model.networks(), model.optimizers())

    def fail_when_frozen(net, *_):
        if not any(p.requires_grad for p in net.parameters()):
            raise RuntimeError("while frozen")

    model.discriminator.register_forward_hook(fail_when_frozen)
    with pytest.raises(RuntimeError, match="while frozen"):
        model.train_step(model.networks(), tiny.batch(), update, tiny.PROGRESS)
    assert all(p.requires_grad for p in model.discriminator.parameters())


def translator_gradient(**loss):
    _, update = tiny.train(tiny.model(loss=loss, generator={"kind": "adain"}), tiny.batch())
    return update.gradients["translator"]


@pytest.mark.parametrize("term", ["latent_regression", "component_regression"])
def test_latent_regression_teaches_neither_attribute_encoder_nor_prior(term):
    without = translator_gradient(latent_regression=0, component_regression=0)
    with_it = translator_gradient(**{"latent_regression": 0, "component_regression": 0, term: 100})
    for name, gradient in without.items():
        if name.endswith("conv.bias"):
            continue  # in front of a normalisation, which takes it away: rounding errors are all it gets
        held_constant = name.startswith(("attribute.", "prior."))
        alike = torch.allclose(with_it[name], gradient, rtol=1e-5, atol=1e-7)
        assert alike == held_constant, name


def test_content_adversarial_teaches_the_content_encoder_alone():
    with_it, without = translator_gradient(content_adversarial=10), translator_gradient(content_adversarial=0)
    changed = {
        name.split(".")[0]
        for name in without
        if not torch.allclose(with_it[name], without[name], rtol=1e-5, atol=1e-7)
    }
    assert changed == {"content"}


@pytest.mark.parametrize("term", ["usage", "information", "kl"])
def test_attribute_terms_teach_attribute_encoder_and_prior_alone(term):
    off = {"usage": 0, "information": 0, "kl": 0, "information_floor": 1.0}
    with_it, without = translator_gradient(**off | {term: 10}), translator_gradient(**off)
    changed = {
        name.split(".")[0]
        for name in without
        if not torch.allclose(with_it[name], without[name], rtol=1e-5, atol=1e-7)
    }
    assert changed == ({"attribute", "prior"} if term == "kl" else {"attribute"})


def test_loss_is_the_weighted_sum_of_the_logged_terms():
    weights = {"usage": 0.7, "information": 0.3, "component_regression": 0.2, "content_reconstruction": 2}
    model = tiny.model(loss=weights)
    log, update = tiny.train(model, tiny.batch(half=3))
    w = model.settings.loss.model_dump()
    of_translator = log.keys() & w.keys() - {"classify_real"}
    total = sum(w[name] * float(log[name]) for name in of_translator)
    assert float(update.losses["translator"]) == pytest.approx(total, rel=1e-5)


def test_kl_warms_up():
    kl = [
        float(
            tiny.train(tiny.model(loss={"kl_warmup": 0.5}), tiny.batch(), Progress(step, 100, 0.0))[0]["kl"]
        )
        for step in (0, 25, 50, 75)
    ]
    assert kl[0] == 0
    assert kl[1] == pytest.approx(kl[2] / 2)
    assert kl[2] == pytest.approx(kl[3])


def test_content_discriminator_is_clipped():
    norm = 1e-3
    model = tiny.model(content_discriminator={"clip_norm": norm})
    _, update = tiny.train(model, tiny.batch())
    gradients = update.gradients["content_discriminator"].values()
    assert float(torch.stack([g.norm() for g in gradients]).norm()) == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_averaged_translator_is_the_exponentially_weighted_mean_of_the_weights_after_each_step(decay):
    """sum_i decay^(t-i) w_i / sum_i decay^(t-i), i = 0 … t: the weights before training have no part in it."""
    model, steps = tiny.model(ema_decay=decay), 4
    after = []
    for step in range(steps):
        tiny.train(model, tiny.batch(seed=step), progress=Progress(step, steps, 0.0))
        after.append(copy.deepcopy(model.translator.state_dict()))
    weights = [decay ** (steps - 1 - i) for i in range(steps)]
    for name, p in model.averaged.state_dict().items():
        expected = sum(w * state[name].double() for w, state in zip(weights, after, strict=True)) / sum(
            weights
        )
        torch.testing.assert_close(p.double(), expected, rtol=1e-5, atol=1e-7, msg=name)


def test_averaged_translator_stays_in_evaluation_mode_and_out_of_training():
    model = tiny.model()
    model.train()
    assert not any(module.training for module in model.averaged.modules())
    assert all(module.training for module in model.translator.modules())
    assert not any(p.requires_grad for p in model.averaged.parameters())
    trained = {
        p for optimizer in model.optimizers().values() for g in optimizer.param_groups for p in g["params"]
    }
    assert trained.isdisjoint(model.averaged.parameters())
    assert trained == {p for p in model.parameters() if p.requires_grad}
    model.eval().train()
    assert not model.averaged.training


def test_a_step_is_a_function_of_its_seed():
    models = [tiny.model(), tiny.model(), tiny.model()]
    for model, seed in zip(models, (2, 2, 3), strict=True):
        tiny.train(model, tiny.batch(half=3), seed=seed)
    first, second, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("concat", {}),
        ("adain", {"reconstruction_type": "mse"}),
        # At this width z hardly shows at first, and mode seeking would enlarge the rounding of that difference.
        ("featurewise", {"reconstruction_type": "bce", "mode_seeking": 0}),
    ],
    ids=["concat", "adain", "featurewise"],
)
def test_half_precision_has_the_gradients_of_single_precision(kind, loss):
    """bf16 autocast, R1's double backward included: every gradient finite, and pointing the same way."""
    changes = {
        "loss": loss,
        "generator": {"kind": kind, "noise_injection": kind == "adain"},
        "content": {"jitter": 0.3, "noise": 0.1},
        "discriminator": {"r1_weight": 0.1},
    }
    _, single = tiny.train(tiny.model(**changes), tiny.batch(half=3))
    model = tiny.model(**changes)
    nets = model.networks()
    update = tiny.Update(nets, model.optimizers())

    def outside_autocast(name, loss, clip_norm=None):
        with torch.autocast("cpu", enabled=False):
            update(name, loss, clip_norm)
        torch.clear_autocast_cache()

    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16):
        log = model.train_step(nets, tiny.batch(half=3), outside_autocast, tiny.PROGRESS)
    assert all(x.isfinite() for x in log.values())
    for network, gradients in update.gradients.items():
        ours, theirs = (
            torch.cat([g.flatten() for g in of.values()]) for of in (gradients, single.gradients[network])
        )
        assert ours.dtype == torch.float32
        assert ours.isfinite().all()
        assert F.cosine_similarity(ours, theirs, dim=0) > 0.9, network


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_blank_image_does_not_swamp_the_others(value):
    """Adam's second moment would remember its gradient for thousands of steps."""

    def content_gradient(batch):
        _, update = tiny.train(tiny.model(), batch)
        gradients = update.gradients["translator"].items()
        return float(torch.stack([g.norm() for name, g in gradients if name.startswith("content.")]).norm())

    usual, blank = tiny.batch(half=2), tiny.batch(half=2)
    blank["image"][0] = value
    assert content_gradient(blank) < 100 * content_gradient(usual)


@pytest.mark.parametrize(
    ("size", "changes", "key"),
    [
        (34, {}, "model.content.downsamplings"),
        (32, {"attribute": {"downsamplings": 6}}, "model.attribute.downsamplings"),
        (32, {"discriminator": {"downsamplings": 6}}, "model.discriminator.downsamplings"),
        (32, {"discriminator": {"downsamplings": 5, "scales": 2}}, "model.discriminator.downsamplings"),
        (8, {"content": {"downsamplings": 3}}, "model.content.downsamplings"),
    ],
)
def test_images_that_do_not_fit_are_refused_by_the_name_of_the_setting(size, changes, key):
    model = tiny.model(**changes)
    with pytest.raises(ModelError) as caught:
        tiny.train(model, tiny.batch(size=size))
    assert key in str(caught.value)
    assert f"{size} x {size}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_and_floats_are_the_same_images():
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    domain = torch.tensor([0, 1])
    first, second = tiny.model(), tiny.model()
    tiny.train(first, {"image": image, "domain": domain})
    tiny.train(second, {"image": image / 127.5 - 1, "domain": domain})
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_state_holds_all_that_the_next_step_needs():
    """A second model that takes state and optimizers over goes on as the first."""
    first, second = tiny.model(loss={"usage": 1}), tiny.model(loss={"usage": 1}, seed=9)
    nets, optimizers = first.networks(), first.optimizers()
    torch.manual_seed(2)
    first.train_step(nets, tiny.batch(), tiny.Update(nets, optimizers), tiny.PROGRESS)

    second.load_state_dict(first.state_dict())
    optimizers2 = second.optimizers()
    for name, optimizer in optimizers2.items():
        optimizer.load_state_dict(copy.deepcopy(optimizers[name].state_dict()))
    for model, own in ((first, optimizers), (second, optimizers2)):
        torch.manual_seed(3)
        update = tiny.Update(model.networks(), own)
        model.train_step(model.networks(), tiny.batch(seed=4), update, tiny.PROGRESS)
    state, state2 = first.state_dict(), second.state_dict()
    assert all(torch.equal(state[name], state2[name]) for name in state)


def test_evaluation_is_free_of_noise_and_changes_nothing():
    model = tiny.model(3, content={"jitter": 0.5}, generator={"kind": "adain"})
    before = copy.deepcopy(model.state_dict())
    batch = tiny.batch((2, 0), half=2)
    random_state = torch.get_rng_state()
    first, second = model.eval_step(batch), model.eval_step(batch)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert {name: float(x) for name, x in first.items()} == {name: float(x) for name, x in second.items()}
    assert all(x.shape == () and not x.requires_grad for x in first.values())
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())


def test_reconstruction_is_learned():
    """Soft blots, sixty steps: not a measure of quality, only that the signs are right."""
    model = tiny.model(
        content={"noise": 0},
        generator={"kind": "adain"},
        loss={"adversarial": 0, "classify_fake": 0, "mode_seeking": 0, "latent_regression": 0},
        optimizer={"learning_rate": 0.003},
    )
    batch = tiny.batch(half=2, size=4)
    batch["image"] = F.interpolate(batch["image"], scale_factor=8, mode="bilinear")
    nets = model.networks()
    update = tiny.Update(nets, model.optimizers())
    torch.manual_seed(0)
    logs = [model.train_step(nets, batch, update, Progress(i, 1000, 0.0)) for i in range(60)]
    for term in ("reconstruction", "cycle"):
        assert float(logs[-1][term]) < 0.7 * float(logs[0][term]), term


def test_previews_show_the_source_and_every_component():
    model = tiny.model(mixture={"components": 5})
    batch = tiny.batch(half=2)
    picture = model.previews(batch)["translations"]
    assert picture.dtype == torch.uint8
    rows, columns, side = 5 + 4, 4, 2 * 32 + 2  # 32 px are shown at twice the size
    assert picture.shape == (3, rows * side + 2, columns * side + 2)
    corner = picture[:, 2 : 2 + 64, 2 : 2 + 64][:, ::2, ::2].float() / 127.5 - 1
    torch.testing.assert_close(corner, batch["image"][0], atol=1 / 127, rtol=0)
