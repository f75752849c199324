"""Three toy sweeps through Ray Tune, as `python -m tune run` has it, in one Ray: `python toy_on_ray.py FOLDER`.

Prints a JSON line: exit codes, the most trials at the same time, and what was left in Ray after each sweep.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import ray
from optuna.storages import RDBStorage
from ray import tune as ray_tune
from ray.util import placement_group_table

import tune.trial
from cluster.config import ScalingSettings
from cluster.errors import ConfigError
from cluster.ray_session import ray_session
from tests.tune.curves import DIES, DIES_ONCE, FAILS, LOOK, STEPS, UNFIT, curve, toy_sweep
from tune.driver import _search_on_ray
from tune.study import SweepStudy, create_study


class Toy(ray_tune.Trainable):
    """Shows a curve. Some do not come to their end."""

    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, config):
        self.number, self.values, self.at = config["number"], config["experiment"]["values"], 0
        self.mark = Path(config["experiment"]["folder"], str(self.number))
        return True

    def step(self):
        if self.mark.parent.name == "late":
            time.sleep(0.5)
        if self.mark.parent.name == "pairs" and self.at == 0:
            if self.number == DIES or (self.number == DIES_ONCE and not self.mark.exists()):
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.number == FAILS:
                return {"step": self.at, "done": True, "failed": "out of luck"}
        if self.at == STEPS:
            return {"step": self.at, "done": True, "failed": ""}
        self.at += LOOK
        return {"step": self.at, "held_out/kid": curve(self.values, self.at)}


class Recipe:
    """Stands in for that of experiments."""

    def __init__(self, sweep, folder):
        self.sweep, self.folder = sweep, folder
        self.base = SimpleNamespace(scaling=ScalingSettings())

    def experiment(self, assignment):
        if assignment.number == UNFIT and self.folder.name == "pairs":
            raise ConfigError("a: does not go with b\nc: neither")
        content = {"values": assignment.values, "folder": str(self.folder)}
        return SimpleNamespace(model_dump=lambda mode: content)


class Watcher:
    """Stands in for the board."""

    def __init__(self):
        self.live, self.most, self.groups = set(), 0, 0

    def say(self, text):
        pass

    def began(self, assignment):
        self.live.add(assignment.number)
        self.most = max(self.most, len(self.live))

    def row(self, number, row):
        assert number in self.live
        self.groups = max(self.groups, len(groups()))

    def ended(self, number, state, reason=""):
        self.live.remove(number)


def alive():
    return [
        actor["ClassName"] if "ClassName" in actor else str(actor)
        for actor in ray._private.state.actors().values()
        if actor["State"] != "DEAD"
    ]


def groups():
    return [table["state"] for table in placement_group_table().values() if table["state"] != "REMOVED"]


def left(seconds=20):
    """Actors and placement groups that are there after a while; they go on their own time."""
    deadline = time.monotonic() + seconds
    while (alive() or groups()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return alive() + groups()


def sweep_on_ray(name, concurrency, folder, hours=None):
    (folder / name).mkdir()
    sweep = toy_sweep(sweep={"name": name, "seed": 3}, budget={"trials": 12, "steps": STEPS})
    storage = RDBStorage(f"sqlite:///{folder}/study.db")
    study = SweepStudy(sweep, create_study(sweep, {}, name, storage), 12)
    watcher = Watcher()
    with tempfile.TemporaryDirectory() as bookkeeping:
        recipe = Recipe(sweep, folder / name)
        code = _search_on_ray(study, recipe, watcher, hours, concurrency, bookkeeping)
    return {
        "code": code,
        "most": watcher.most,
        "groups": watcher.groups,
        "live": len(watcher.live),
        "left": left(),
    }


if __name__ == "__main__":
    tune.trial.TrainingTrial = Toy
    place = Path(sys.argv[1])
    with ray_session(2, 0, "tune.search"):
        told = {name: sweep_on_ray(name, count, place) for name, count in (("single", 1), ("pairs", 2))}
        told["late"] = sweep_on_ray("late", 2, place, hours=2 / 3600)
    print(json.dumps(told))  # noqa: T201
