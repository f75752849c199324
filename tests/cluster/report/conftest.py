"""Folders of runs: the least that makes one, and everything that can be in one."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from .by_hand import EVERY, HOSTILE, LOST, RESUMED, STEPS, event, row, settings, write_lines


@pytest.fixture
def small(tmp_path):
    """The least that makes a run: a configuration and three rows as older versions wrote them."""
    root = tmp_path / "small"
    root.mkdir()
    (root / "config.yaml").write_text(yaml.safe_dump(settings("small", 30)))
    newer = ("seconds", "workers", "components")
    write_lines(
        root / "metrics.jsonl",
        [{k: v for k, v in row(step).items() if k not in newer} for step in (10, 20, 30)],
    )
    return root


@pytest.fixture(scope="session")
def full(tmp_path_factory):
    """Everything a run can leave, with texts that would break a page that does not escape them."""
    root = tmp_path_factory.mktemp("runs") / "by-hand"
    (root / "previews").mkdir(parents=True)
    (root / "config.yaml").write_text(yaml.safe_dump(settings()))
    write_lines(root / "metrics.jsonl", [row(step) for step in range(EVERY, STEPS * EVERY + 1, EVERY)])
    happened = [
        event("start", 0, "2 workers", 2),
        event("lost", LOST, HOSTILE, 1),
        event("resume", RESUMED, "from step 8950", 2),
        event("finish", STEPS * EVERY),
    ]
    write_lines(root / "events.jsonl", happened)
    (root / "environment.json").write_text(json.dumps({"torch": "2.14.1", HOSTILE: HOSTILE}))
    random = np.random.default_rng(0)
    for step in range(1000, STEPS * EVERY + 1, 1000):
        pixels = random.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "previews" / f"step-{step:06d}.png")
    for name in ("translations.png", "nearest.png"):
        Image.fromarray(random.integers(0, 256, (350, 1000, 3), dtype=np.uint8)).save(root / name)
    figure = {"value": 0.8765, "n": 60, "standard_error": 0.0123}
    (root / "evaluation.json").write_text(
        json.dumps(
            {
                "step": STEPS * EVERY,
                "directions": {
                    "day to night": {"label kept": figure},
                    "night to day": {"FID": {"value": 123.45, "n": 60, "n_real": 70}},
                },
                "domains": {"day": {"reconstruction, L1": figure}},
            }
        )
    )
    return root
