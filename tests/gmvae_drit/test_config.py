import pytest
import tiny
from pydantic import BaseModel, TypeAdapter, ValidationError

from gmvae_drit import config
from gmvae_drit.config import DritSettings, GmvaeDritSettings, ModelSettings

FAMILY = TypeAdapter(ModelSettings)

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
        ({"generator": {"kind": "featurewise", "noise_injection": True}}, ("generator",)),
        ({"generator": {"up_convolutions": 0}}, ("generator", "up_convolutions")),
        ({"discriminator": {"norm": "instance", "downsamplings": 1}}, ("discriminator",)),
        ({"content_discriminator": {"every": 0}}, ("content_discriminator", "every")),
        ({"loss": {"reconstruction_type": "l2"}}, ("loss", "reconstruction_type")),
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


def test_the_family_is_told_by_its_kind():
    assert isinstance(FAMILY.validate_python({}), GmvaeDritSettings)
    assert isinstance(FAMILY.validate_python({"kind": "gmvae_drit"}), GmvaeDritSettings)
    assert isinstance(FAMILY.validate_python({"kind": "drit"}), DritSettings)
    assert FAMILY.validate_json(FAMILY.dump_json(DritSettings(ema_decay=0.5))) == DritSettings(ema_decay=0.5)


@pytest.mark.parametrize(
    "changes", [{"mixture": {}}, {"gumbel": {}}, {"loss": {"categ": 0}}, {"loss": {"usage": 1}}], ids=str
)
def test_the_baseline_refuses_what_only_a_mixture_has(changes):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        DritSettings.model_validate(changes)


def test_the_families_differ_in_the_attribute_space_alone():
    drit, gmvae = DritSettings().model_dump(), GmvaeDritSettings().model_dump()
    assert gmvae.keys() - drit.keys() == {"mixture", "gumbel"}
    assert gmvae["loss"].items() >= drit["loss"].items()
    assert all(gmvae[name] == value for name, value in drit.items() if name not in ("kind", "loss"))


def test_published_defaults_of_the_study():
    """What its README lists, where DRIT++ says nothing else."""
    s = GmvaeDritSettings()
    assert s.mixture.components == 2
    assert (s.loss.gauss, s.loss.categ) == (1, 1)
    assert not s.gumbel.hard
    assert s.generator.up_convolutions == 1
    assert s.content_discriminator.every == 1
    assert s.discriminator.norm == "none"
    assert (s.generator.kind, s.loss.reconstruction_type, s.attribute.size) == ("concat", "l1", 8)  # DRIT++'s
