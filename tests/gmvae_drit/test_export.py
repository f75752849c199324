import os

import pytest
import tiny
import torch
import yaml

from gmvae_drit.build import build_model
from gmvae_drit.errors import ModelError
from gmvae_drit.export import ExportConfig, load_export, save_export

DOMAINS = ("day", "night", "dusk")


def export(folder, domains=DOMAINS, **changes):
    settings = tiny.settings(**changes)
    torch.manual_seed(0)
    model = build_model(settings, domains)
    save_export(folder, model, ExportConfig(model=settings, domains=domains, image_size=32, step=7))
    return model


@pytest.mark.parametrize("kind", ["concat", "adain"])
def test_round_trip_is_exact(tmp_path, kind):
    model = tiny.model(3, generator={"kind": kind}, ema_decay=0.5)
    tiny.train(model, tiny.batch())
    config = ExportConfig(model=model.settings, domains=DOMAINS, image_size=32, step=1)
    save_export(tmp_path, model, config)
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "model.safetensors"]
    translator, read = load_export(tmp_path)
    assert read == config
    assert not translator.training
    expected = model.averaged.state_dict()
    assert translator.state_dict().keys() == expected.keys()
    assert all(torch.equal(x, expected[name]) for name, x in translator.state_dict().items())
    image, domain = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2])
    z = torch.randn(3, 4)
    assert torch.equal(translator.translate(image, z, domain), model.averaged.translate(image, z, domain))


def test_an_export_replaces_the_one_before(tmp_path):
    export(tmp_path)
    model = export(tmp_path, domains=("a", "b"), generator={"kind": "adain"})
    translator, config = load_export(tmp_path)
    assert config.domains == ("a", "b")
    assert translator.state_dict().keys() == model.averaged.state_dict().keys()
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "model.safetensors"]


def test_config_is_for_people_to_read(tmp_path):
    export(tmp_path, domains=("дом", "b"))
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert "дом" in text
    read = yaml.safe_load(text)
    assert read["format"] == 1
    assert read["image_size"] == 32


def edit(folder, **changes):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def grow_wider(folder):
    settings = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    edit(folder, model=settings | {"attribute": settings["attribute"] | {"width": 6}})


FAULTS = {
    "no config": (lambda d: (d / "config.yaml").unlink(), "config.yaml: No such file"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors: "),
    "empty config": (lambda d: (d / "config.yaml").write_text(""), "config.yaml"),
    "config is not YAML": (lambda d: (d / "config.yaml").write_text("a: ]["), "damaged export"),
    "config is not text": (lambda d: (d / "config.yaml").write_bytes(b"\xff\xfe\x00"), "damaged export"),
    "config is a list": (lambda d: (d / "config.yaml").write_text("[1]"), "config.yaml"),
    "newer format": (lambda d: edit(d, format=2), "config.yaml: written by a newer version"),
    "unknown key": (lambda d: edit(d, colour="blue"), "config.yaml: colour"),
    "one domain": (lambda d: edit(d, domains=["day"]), "domains: a gmvae_drit model has at least 2"),
    "no domain": (lambda d: edit(d, domains=[]), "config.yaml: domains"),
    "bad setting": (lambda d: edit(d, model={"ema_decay": 2}), "config.yaml: model.ema_decay"),
    "truncated weights": (lambda d: cut(d / "model.safetensors"), "damaged export"),
    "empty weights": (lambda d: cut(d / "model.safetensors", 0), "damaged export"),
    "weights of wider networks": (grow_wider, "is not of the model that config.yaml describes"),
    "weights of other networks": (
        lambda d: edit(d, model={}),
        "is not of the model that config.yaml describes",
    ),
    "fewer domains": (
        lambda d: edit(d, domains=["day", "night"]),
        "is not of the model that config.yaml describes",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_bad_export_is_one_clear_line(tmp_path, fault):
    export(tmp_path)
    damage, message = FAULTS[fault]
    damage(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_export(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("changes", [{}, {"colour": "blue", "model": {"kind": "from_the_future"}}], ids=str)
def test_a_newer_format_says_so(tmp_path, changes):
    """Even where the newer settings have keys that this version does not know."""
    export(tmp_path)
    edit(tmp_path, format=2, **changes)
    with pytest.raises(ModelError) as caught:
        load_export(tmp_path)
    assert "newer version" in str(caught.value).removeprefix(str(tmp_path))


def test_a_folder_in_place_of_a_file(tmp_path):
    export(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_export(tmp_path)
