"""A sweep over the tiny experiment."""

import copy

import pytest
import yaml

from tune.config import load_sweep

RATE = "model.optimizer.learning_rate"
COMPONENTS = "model.mixture.components"
SWEEP = {
    "sweep": {"name": "tiny", "seed": 3},
    "space": {
        RATE: {"loguniform": [1e-5, 1e-2]},
        COMPONENTS: {"int": [2, 4]},
    },
    "objectives": [{"metric": "cycle", "goal": "min"}],
    "budget": {"trials": 4, "steps": 8},
    "concurrency": 1,
}


def changed(content, changes):
    """``content`` with values at dotted paths replaced; a path is split at its first dot only: the space has dots."""
    content = copy.deepcopy(content)
    for path, value in changes.items():
        section, _, key = path.partition(".")
        if key:
            content.setdefault(section, {})[key] = value
        else:
            content[section] = value
    return content


@pytest.fixture
def write_sweep(config, tmp_path):
    """Write the sweep with some values changed; returns the path of its file."""

    def write(name="sweep.yaml", **changes):
        changes = {path.replace("__", "."): value for path, value in changes.items()}
        content = changed(
            SWEEP | {"base": str(config)}, {"sweep.storage": str(tmp_path / "sweeps"), **changes}
        )
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def sweep_of(write_sweep):
    """That sweep, loaded."""
    return lambda **changes: load_sweep(write_sweep(**changes))
