"""Every shipped YAML, shrunk: builds, trains two steps, saves, loads, and translates. Found by glob."""

import tomllib
from pathlib import Path

import pytest
import torch
from toy import Watching

from cluster.checkpoints import Checkpoints
from cluster.config import load
from cluster.engine import Engine, Place
from cluster.held_out import HeldOut
from cluster.run_folder import RunFolder
from gmvae_drit.build import build_model
from gmvae_drit.config import TranslationSettings
from gmvae_drit.export import ExportConfig, load_export, save_export

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "cluster" / "configs"
EVERY = sorted(CONFIGS.rglob("*.yaml"))
DOMAINS = ("day", "night")
SIDE = 64
CAPS = {
    "width": 8,
    "components": 2,
    "max_width": 16,
    "residual_blocks": 1,
    "global_batch": 4,
    "threads": 1,
    "workers": 1,
}
"""Whole numbers of these names, wherever they are, shrink to these."""

STUDY = {
    "loss-integration": (5000, {}),
    "adain": (4500, {("generator", "kind"): "adain"}),
    "double-layer": (4000, {("generator", "up_convolutions"): 2}),
    "half-discriminator-rate": (5500, {("optimizer", "ttur"): "half_discr"}),
    "double-generator-rate": (5500, {("optimizer", "ttur"): "double_gen_enc"}),
}


def name_of(path):
    return str(path.relative_to(CONFIGS).with_suffix(""))


def caps(settings, prefix=""):
    """Overrides that make an experiment tiny."""
    found = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= caps(value, f"{prefix}{key}.")
        elif key in CAPS and isinstance(value, int):
            found[f"{prefix}{key}"] = min(value, CAPS[key])
        elif key == "image_size":
            found[f"{prefix}{key}"] = SIDE
        elif key == "kind":  # a section that only its default made needs its tag beside the override
            found[f"{prefix}{key}"] = value
    return found


def shrunk(path, folder):
    whole = load(path)
    tiny = {"run.storage": str(folder), "data.uri": str(folder), "data.crop": SIDE, "train.steps": 2}
    tiny |= {"train.precision": "fp32", "train.log_every": 1, "scaling.use_gpu": False}
    return load(path, {**caps(whole.model_dump(mode="json")), **tiny})


class Blots:
    """Images of soft blots; a batch is a function of its step."""

    digest = "blots"

    def __init__(self, share, side):
        self.share, self.side = share, side

    def epoch(self, step):
        return step / 10

    def batch(self, step):
        blots = torch.rand(2 * self.share, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        image = torch.nn.functional.interpolate(blots, (self.side, self.side), mode="bilinear")
        domain = torch.arange(2).repeat_interleave(self.share)
        return {"image": (255 * image).to(torch.uint8), "domain": domain}

    def batches(self, start_step):
        while True:
            yield self.batch(start_step)
            start_step += 1


def engine(experiment):
    torch.manual_seed(experiment.run.seed)
    model = build_model(experiment.model, DOMAINS)
    data = Blots(experiment.data.global_batch // 2, SIDE)
    held_out = HeldOut(data.batch(9), [data.batch(9)])
    return Engine(experiment, model, data, Place(0, 1, torch.device("cpu")), Watching(), held_out)


@pytest.mark.parametrize("path", EVERY, ids=name_of)
def test_it_trains_saves_loads_and_translates(path, tmp_path):
    torch.set_num_threads(1)
    experiment = shrunk(path, tmp_path)
    folder = RunFolder(experiment.run.storage, experiment.run.name)
    folder.create()
    first = engine(experiment)
    before = {name: p.clone() for name, p in first.model.named_parameters() if p.requires_grad}
    assert first.run()
    assert all(
        not torch.equal(before[name], p) for name, p in first.model.named_parameters() if name in before
    )

    found = Checkpoints(folder).newest()
    assert found is not None
    again = engine(experiment)
    again.restore(found)
    assert again.step == 2
    state = again.model.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in first.model.state_dict().items())

    config = ExportConfig(model=experiment.model, domains=DOMAINS, image_size=SIDE, step=2)
    save_export(tmp_path / "export", again.model, config)
    if not isinstance(experiment.model, TranslationSettings):
        return
    translator, read = load_export(tmp_path / "export")
    assert read == config
    image, target = torch.rand(2, 3, SIDE, SIDE), torch.tensor([1, 0])
    with torch.inference_mode():
        for k in range(translator.prior.components):
            z = translator.prior.sample(target, torch.full_like(target, k))
            out = translator.translate(image, z, target)
            assert out.shape == image.shape
            assert out.isfinite().all()


@pytest.mark.parametrize("path", EVERY, ids=name_of)
def test_its_header_states_command_and_cost(path):
    header = path.read_text().partition("\nrun:")[0]
    assert f"python -m cluster train {path.relative_to(REPOSITORY)}" in header
    assert "Cost: " in header
    assert max(map(len, path.read_text().splitlines())) <= 120


@pytest.mark.parametrize("name", STUDY)
def test_an_experiment_of_the_study_differs_from_the_first_in_one_thing(name):
    steps, change = STUDY[name]
    first, this = (load(CONFIGS / "experiments" / f"{each}.yaml") for each in ("loss-integration", name))
    assert this.train.steps == steps
    expected = first.model.model_dump()
    for (section, key), value in change.items():
        assert expected[section][key] != value
        expected[section][key] = value
    assert this.model.model_dump() == expected
    assert (this.model.attribute.size, this.model.mixture.components) == (108, 2)


def test_the_baseline_differs_from_its_model_in_the_family_alone():
    ours, theirs = (load(CONFIGS / name).model_dump() for name in ("drit.yaml", "apple2orange.yaml"))
    assert (ours["model"].pop("kind"), theirs["model"].pop("kind")) == ("drit", "gmvae_drit")
    for key in theirs["model"].keys() - ours["model"].keys():
        del theirs["model"][key]
    theirs["model"]["loss"] = {k: v for k, v in theirs["model"]["loss"].items() if k in ours["model"]["loss"]}
    assert (ours["run"].pop("name"), theirs["run"].pop("name")) == ("drit", "apple2orange")
    assert ours == theirs


def test_every_folder_of_configurations_is_installed():
    patterns = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    installed = {path for pattern in patterns["cluster"] for path in (REPOSITORY / "cluster").glob(pattern)}
    assert set(EVERY) <= installed
