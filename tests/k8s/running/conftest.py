"""Nodes that run the pods of manifests."""

import shutil
from pathlib import Path

import pytest

from ...s3.server import find_weed
from . import pods

ACCESS, SECRET, PASSWORD = "dev", "secret of the tests", 'it\'s a "password" $HOME'
SECRETS = {
    "dev-s3": {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET},
    "sweep-database": {"password": PASSWORD},
}


def postgres_programs():
    """Debian keeps them out of PATH, by version; the newest."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return str(found[-1]) if found else None


@pytest.fixture
def node(tmp_path):
    """Makes a node of the cluster that has these objects: ``node(objects)``."""
    if (reason := pods.unavailable()) is not None:
        pytest.skip(reason)
    programs = postgres_programs()
    images = {
        "gmvae-drit": pods.PROJECT,
        "seaweedfs": pods.Image(path=(), programs=(find_weed(),)),
        "postgres": pods.Image(path=(programs,) if programs else (), users={"postgres": 999}),
    }
    made = []

    def make(objects):
        services = [each["metadata"]["name"] for each in objects if each["kind"] == "Service"]
        maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
        folder = tmp_path / f"node-{len(made)}"
        made.append(pods.Node(folder, images, services=services, secrets=SECRETS, config_maps=maps))
        return made[-1]

    yield make
    for each in made:
        each.__exit__()
    shutil.rmtree(tmp_path, ignore_errors=True)
