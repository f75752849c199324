"""What a run made by hand says: 2,500 rows with a spike, a missing value, workers and shares; events; settings."""

import json

import numpy as np

STEPS, EVERY = 2500, 10
SPIKE, NOT_FINITE, LOST, RESUMED = 7_770, 12_340, 9_000, 8_950
HOSTILE = "</script><script>alert(1)</script> & <b>\"bold\"</b> 'quote'"


def row(step):
    """A row by its step; all figures follow from it."""
    random = np.random.default_rng(step)
    values = {
        "step": step,
        "epoch": step / 1000,
        "images_per_second": 100 + float(random.normal()),
        "data_wait": 0.05,
        "skipped": int(step > 20_000),
        "seconds": 1_700_000_000 + step / 2,
        "workers": [
            {"images_per_second": 50.0 + rank, "data_wait": 0.05, "memory_mib": 900.0 + rank}
            for rank in (0, 1)
        ],
        "components": [[0.5, 0.3, 0.2], [0.7, 0.29, 0.01]],
        "lr/translator": 1e-4,
        "lr/discriminator": 5e-5,
        "reconstruction": 1 / (1 + step / 1000) + 0.01 * float(random.random()),
        "discriminator": 2 + 0.1 * float(random.normal()) + 40 * (step == SPIKE),
        "kl": None if step == NOT_FINITE else 3.0 + float(random.random()),
        "own_term": 0.5,
        "temperature": max(0.5, 1 - step / 20_000),
    }
    if step % 500 == 0:
        values["held_out/reconstruction"] = values["reconstruction"] + 0.02
    return values


def settings(name="by-hand", steps=STEPS * EVERY):
    """A configuration with two values set."""
    return {
        "run": {"name": name},
        "data": {"uri": "data/nowhere", "domains": ["day", "night"]},
        "model": {"mixture": {"components": 3}},
        "train": {"steps": steps},
    }


def event(kind, step, text="", workers=None):
    """A line of events.jsonl."""
    return {"time": 1_700_000_000 + step / 2, "kind": kind, "step": step, "text": text, "workers": workers}


def write_lines(path, objects):
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))
