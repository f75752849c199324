"""Makes `toy` importable, and runs it in several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
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
