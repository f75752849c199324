"""The image, without Docker: its Dockerfile read, and the project installed from exactly the files that it copies."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .dockerfile import chain, context, stages

REPOSITORY = Path(__file__).parents[2]
STAGES = stages(REPOSITORY / "Dockerfile")
IMAGES = ("cpu", "cuda")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS = ("gmvae_drit", "data_shards", "cluster", "tune")


def files():
    """All files that are or could be committed."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.splitlines() if (REPOSITORY / path).is_file()]


CONTEXT = context(REPOSITORY, ".dockerignore", files())


def copied():
    """The files that the stages copy from the build context."""
    sources = {source for stage in STAGES.values() for origin, words, _ in stage.copies() if origin is None
               for source in words}  # fmt: skip
    return {path for path in CONTEXT for source in sources if path == source or path.startswith(f"{source}/")}


def test_hadolint_finds_nothing():
    lint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if lint is None:
        pytest.skip("hadolint is not installed: pip install 'gmvae-drit[dev]'")
    done = subprocess.run([lint, REPOSITORY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_versions():
    for stage in STAGES.values():
        if stage.base not in STAGES:
            name, version = stage.base.split(":")
            assert re.fullmatch(r"\d+\.\d+\.\d+-slim-\w+", version), name


def test_the_base_is_the_python_that_the_constraints_were_tried_with():
    (base,) = {stage.base for stage in STAGES.values() if stage.base not in STAGES}
    version = ".".join(base.split(":")[1].split(".")[:2])
    assert version == PROJECT["requires-python"].removeprefix(">=")


@pytest.mark.parametrize("image", IMAGES)
def test_images_run_as_nobody_special_and_cannot_install(image):
    parts = chain(STAGES, image)
    said = [instruction for stage in parts for instruction in stage.instructions]
    assert [rest for word, rest in said if word == "USER"] == ["1000:1000"], (
        "a number: runAsNonRoot checks it"
    )
    after = said[[word for word, _ in said].index("USER") :]
    assert not [word for word, _ in after if word == "COPY"], "what runs cannot change itself"
    (first, *_) = [rest for word, rest in said if word == "RUN"]
    assert first.startswith("pip uninstall --yes setuptools wheel pip ")
    assert not [rest for word, rest in said if word == "RUN" and "pip install" in rest]
    assert not {"ADD", "VOLUME", "EXPOSE"} & {word for word, _ in said}
    (health,) = [rest for word, rest in said if word == "HEALTHCHECK"]
    assert json.loads(health.split("CMD ")[1]) == ["python", "-m", "cluster", "--help"]


def test_no_setting_looks_like_a_secret():
    for stage in STAGES.values():
        for word in ("ENV", "ARG"):
            for rest in stage.of(word):
                assert not re.search(r"(?i)token|secret|passw|access_key", rest)


def test_every_install_is_constrained_to_wheels():
    for name in ("packages-cpu", "packages-cuda"):
        (run,) = STAGES[name].of("RUN")
        words = run.split()
        assert {"--constraint=constraints.txt", "--only-binary=:all:", "--ignore-installed"} <= set(words)


def test_copies_exist_and_nothing_else_is_sent():
    for stage in STAGES.values():
        for origin, sources, _ in stage.copies():
            if origin is not None:
                assert origin in STAGES
                continue
            for source in sources:
                assert any(path == source or path.startswith(f"{source}/") for path in CONTEXT), source
    assert copied() == set(CONTEXT)


def test_constraints_pin_all_that_is_installed():
    """The closure of our dependencies as they are installed here, extras and all."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    wanted = [
        (requirement.name, frozenset(requirement.extras))
        for requirement in map(
            Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["demo"]
        )
    ]
    seen = set()
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for requirement in map(Requirement, metadata.requires(name) or ()):
            marks = [{"extra": extra} for extra in (*extras, "")]
            if requirement.marker is None or any(requirement.marker.evaluate(mark) for mark in marks):
                wanted.append((requirement.name, frozenset(requirement.extras)))
    assert not {name for name, _ in seen if canonicalize_name(name) not in pinned}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as the image builds it, without a network."""
    folder = tmp_path_factory.mktemp("image")
    for path in copied():
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, folder / "source" / path)
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir=../dist",
        ".",
    ]
    subprocess.run(pip(*words), cwd=folder / "source", check=True)
    (built,) = (folder / "dist").iterdir()
    return built


def pip(*words):
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of an installed copy."""
    folder = tmp_path_factory.mktemp("installed")
    words = ["install", "--quiet", "--no-deps", "--no-index", f"--root={folder}", "--ignore-installed"]
    subprocess.run(pip(*words, wheel), check=True)
    (site,) = folder.rglob("site-packages")
    return site


def run(installed, *words):
    """What a command of the installed copy says, which must be that copy."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=installed.anchor, env=environment, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {path for path in CONTEXT if path.startswith(tuple(f"{room}/" for room in ROOMS))}


@pytest.mark.parametrize("room", ROOMS)
def test_commands_of_an_installed_copy_run(installed, room):
    said = run(installed, "-m", room, "--help")
    assert "Usage" in said
    assert run(installed, "-c", f"import {room}; print({room}.__file__)").strip() == str(
        installed / room / "__init__.py"
    )


def test_an_installed_copy_has_its_configurations(installed):
    shipped = installed / "cluster" / "configs" / "demo.yaml"
    said = run(
        installed, "-m", "cluster", "train", str(shipped), "--print-config", "data.uri=s3://bucket/digits"
    )
    assert "s3://bucket/digits" in said
    scripts = {path.name for path in next(installed.parents[2].rglob("bin")).iterdir()}
    assert scripts == set(PROJECT["scripts"])
