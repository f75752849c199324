"""Makes `toy` importable, and runs it in several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE))


@pytest.fixture
def processes(tmp_path):
    """Run the toy engine on `world_size` gloo processes; returns what each rank saved."""

    def run(world_size, **task):
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        words = [sys.executable, str(HERE / "toy.py"), json.dumps({"out": str(out), **task})]
        environment = {
            **os.environ,
            "WORLD_SIZE": str(world_size),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
        }
        ranks = [
            subprocess.Popen(words, env={**environment, "RANK": str(r)}, stderr=subprocess.PIPE, text=True)
            for r in range(world_size)
        ]
        errors = [rank.communicate(timeout=120)[1] for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0] * world_size, "\n".join(errors)
        return [torch.load(out / f"{rank}.pt") for rank in range(world_size)]

    return run


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Noise of two tints as a data set of 12 + 4 images per domain."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for domain, tint in (("A", 90), ("B", 160)):
            folder = root / "source" / f"{split}{domain}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.normal(tint, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    words = [sys.executable, "-m", "data_shards", "build", str(root / "source"), str(root / "shards")]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    return root / "shards"


@pytest.fixture(scope="session")
def config(shards, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    small = {"width": 16, "residual_blocks": 1}
    content = {
        "run": {"name": "tiny", "seed": 5},
        "data": {"uri": str(shards), "global_batch": 16},
        "model": {
            "content": small,
            "attribute": {"width": 16, "downsamplings": 2},
            "generator": {"kind": "adain", "residual_blocks": 1},
            "discriminator": {"conditioning": "select", "width": 16, "downsamplings": 3},
            "content_discriminator": None,
        },
        "train": {
            "steps": 10,
            "precision": "fp32",
            "log_every": 2,
            "checkpoint_every": 5,
            "preview_every": 5,
            "evaluate_every": 5,
        },
        "scaling": {"workers": 2},
    }
    path.write_text(yaml.safe_dump(content))
    return path
