"""The README of the manifests speaks of what is there."""

import re

import pytest

from k8s.check.overlay import REPOSITORY, names
from k8s.check.resources import total
from k8s.check.schemas import KUBERNETES
from k8s.check.versions import project

TEXT = (REPOSITORY / "k8s" / "README.md").read_text(encoding="utf-8")


def test_versions_are_those_that_are_checked():
    version, ray, _ = project()
    assert f"| Kubernetes | {KUBERNETES[0]} to {KUBERNETES[1]} |" in TEXT
    assert f"| Ray | {ray} |" in TEXT
    assert set(re.findall(r"gmvae-drit:(\S+?)-cpu", TEXT)) == {f"{version}-ray{ray}"}


def test_every_component_is_named_and_every_path_is_there():
    (line,) = [line for line in TEXT.splitlines() if line.startswith("components/")]
    assert set(line.split()[1:]) == {folder.name for folder in (REPOSITORY / "k8s" / "components").iterdir()}
    for path in re.findall(r"\bk8s/[\w/.-]+[\w-]", TEXT):
        assert path.endswith("/NAME") or (REPOSITORY / path).exists(), path


@pytest.mark.parametrize("name", names())
def test_what_an_overlay_asks_for_is_said(name, built):
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |")]
    asked = total(built[name])
    pods, amounts = (cell.strip() for cell in row.split("|")[3:5])
    assert int(pods) == asked["pods"]
    if amounts.startswith("the same"):
        (amounts,) = [line.split("|")[4] for line in TEXT.splitlines() if line.startswith("| `train` |")]
    cores, memory = (float(number) for number in re.findall(r"([\d.]+) (?:cores|GiB)", amounts)[:2])
    assert (cores, memory) == pytest.approx(
        (asked["requests.cpu"], asked["requests.memory"] / 2**30), abs=0.5
    )


def test_secrets_that_people_make_are_made_in_the_first_training(built):
    made = set(re.findall(r"create secret generic\s+\\?\s*([\w-]+)", TEXT))
    assert made == set(built["dev"].settings["secrets"].split())
    for overlay in built.values():
        assert set(overlay.settings.get("secrets", "").split()) <= made
