import pytest
import tiny
from pydantic import BaseModel, ValidationError

from gmvae_drit import config
from gmvae_drit.config import GmvaeDritSettings

EVERY = [
    x
    for x in vars(config).values()
    if isinstance(x, type) and issubclass(x, BaseModel) and x is not BaseModel
]


@pytest.mark.parametrize("settings", EVERY, ids=lambda x: x.__name__)
def test_every_field_says_what_it_is(settings):
    undocumented = [
        name
        for name, field in settings.model_fields.items()
        if not field.description
        and not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    assert not undocumented


def test_settings_survive_json():
    settings = tiny.settings(optimizer={"ttur": 3.0}, content_discriminator=None, gumbel={"hard": True})
    assert GmvaeDritSettings.model_validate_json(settings.model_dump_json()) == settings
    assert GmvaeDritSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        GmvaeDritSettings().loss.kl = 1.0


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"mixtur": {}}, ("mixtur",)),
        ({"mixture": {"component": 3}}, ("mixture", "component")),
        ({"mixture": {"components": 0}}, ("mixture", "components")),
        ({"loss": {"categ": 1.5}}, ("loss", "categ")),
        ({"loss": {"kl": -1}}, ("loss", "kl")),
        ({"gumbel": {"init_temp": 0}}, ("gumbel", "init_temp")),
        ({"generator": {"kind": "concat", "noise_injection": True}}, ("generator",)),
        ({"ema_decay": 1}, ("ema_decay",)),
    ],
    ids=str,
)
def test_faults_name_their_place(changes, path):
    with pytest.raises(ValidationError) as caught:
        GmvaeDritSettings.model_validate(changes)
    assert caught.value.errors()[0]["loc"][: len(path)] == path


def test_published_defaults():
    """DRIT++/MDMM, with the batch mean of the KL."""
    w, o = GmvaeDritSettings().loss, GmvaeDritSettings().optimizer
    published = {
        "adversarial": 1,
        "classify_real": 1,
        "classify_fake": 5,
        "content_adversarial": 1,
        "reconstruction": 10,
        "cycle": 10,
        "content_norm": 0.01,
        "kl": 0.01,
        "latent_regression": 10,
        "mode_seeking": 1,
    }
    assert {name: getattr(w, name) for name in published} == published
    assert (o.learning_rate, o.betas, o.weight_decay, o.ttur) == (1e-4, (0.5, 0.999), 1e-4, "none")
    assert GmvaeDritSettings().content_discriminator.learning_rate_ratio == pytest.approx(1 / 2.5)
