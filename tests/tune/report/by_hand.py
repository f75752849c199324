"""Sweeps made by hand: a study in memory, driven as a sweep drives it, and the folder that it would leave."""

import math

import numpy as np
import optuna
import yaml
from optuna.storages import InMemoryStorage
from PIL import Image

from cluster.config import load
from cluster.run_folder import RunFolder
from tune.config import Sweep
from tune.space import labels
from tune.study import DEFAULT, OF, SEED, SweepStudy, create_study

from ...cluster.report.by_hand import write_lines

HOSTILE = "</script><script>alert(1)</script> & <b>\"bold\"</b> 'quote'"
STEPS, EVERY = 900, 100
SPACE = {
    "model.optimizer.learning_rate": {"loguniform": [1e-5, 1e-2]},
    "model.mixture.components": {"int": [2, 8]},
    "model.generator.kind": {"choice": ["concat", "adain"]},
    "model.loss.kl": {"uniform": [0, 0.1], "when": {"model.generator.kind": ["adain"]}},
    "model.content": {
        "choice": [{"width": 16, "residual_blocks": 1}, {"width": 16, "residual_blocks": 2}],
    },
}
DEFAULTS = {
    "model.optimizer.learning_rate": 1e-4,
    "model.mixture.components": 4,
    "model.generator.kind": "adain",
    "model.loss.kl": 0.01,
    "model.content": {"width": 16, "residual_blocks": 1},
}
KID, VARIED = {"metric": "kid", "goal": "min"}, {"metric": "diversity", "goal": "max"}


def sweep_of(tmp_path, *objectives, trials=24, pruned=False):
    """A sweep whose folder is under ``tmp_path``."""
    return Sweep.model_validate(
        {
            "sweep": {"name": "by-hand", "storage": str(tmp_path)},
            "base": str(tmp_path / "base.yaml"),
            "space": SPACE,
            "objectives": objectives or (KID,),
            "budget": {"trials": trials, "steps": STEPS},
            "pruner": {"min_steps": EVERY, "factor": 2} if pruned else None,
            "sampler": {"kind": "random"},
        }
    )


def folder_of(sweep):
    """Its folder, with the experiment that all trials start from."""
    folder = RunFolder.at(sweep.folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    base = {
        "run": {"name": "base", "storage": "elsewhere"},
        "data": {"uri": "data/nowhere"},
        "train": {"steps": STEPS},
    }
    (folder.root / "base.yaml").write_text(yaml.safe_dump(base))
    (folder.root / "base.yaml").write_text(load(folder.root / "base.yaml", DEFAULTS).to_yaml())
    return folder


def kid(values, step=STEPS):
    """A figure that the learning rate decides, the number of components a little, and nothing else."""
    distance = math.log10(values["model.optimizer.learning_rate"] / 1e-3)
    return (0.02 + 0.05 * distance**2 + 0.001 * abs(values["model.mixture.components"] - 5)) * (
        1 + 200 / step
    )


def diversity(values, step=STEPS):
    """Rises with the number of components, while `kid` prefers five."""
    return 0.1 * values["model.mixture.components"] * (1 - 50 / step)


def figures(values, step=STEPS):
    """All that is held out."""
    return {"kid": kid(values, step), "diversity": diversity(values, step)}


def begin(sweep, storage=None):
    """A new sweep with the base as its first trial."""
    study = create_study(sweep, {}, sweep.sweep.name, storage or InMemoryStorage())
    driven = SweepStudy(sweep, study, sweep.budget.trials)
    study.enqueue_trial(labels(sweep.space, DEFAULTS), user_attrs={DEFAULT: True})
    return driven


def drive(driven, folder, trials, failing=(), seconds=60.0, figures=figures):
    """Run so many trials to their ends; those of the numbers ``failing`` fail after two looks."""
    for _ in range(trials):
        assignment = driven.next()
        rows = []
        for step in range(EVERY, STEPS + 1, EVERY):
            metrics = figures(assignment.values, step)
            rows.append({"step": step, **{f"held_out/{name}": value for name, value in metrics.items()}})
            if assignment.number in failing and step > 2 * EVERY:
                driven.fail(assignment.number, HOSTILE if assignment.number % 2 else "loss is NaN", seconds)
                break
            if driven.report(assignment.number, step, metrics):
                driven.prune(assignment.number, seconds)
                break
        else:
            driven.complete(assignment.number, seconds)
        leave_run(driven.sweep, folder, assignment.number, rows)
    driven.add_seconds(trials * seconds / 2)


def leave_run(sweep, folder, number, rows):
    """What a trial leaves: rows, and a preview picture."""
    root = folder.root / "trials" / f"{sweep.sweep.name}-{number:04d}"
    (root / "previews").mkdir(parents=True, exist_ok=True)
    write_lines(root / "metrics.jsonl", rows)
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for step in (EVERY, STEPS):
        Image.fromarray(pixels // (1 + (step == EVERY))).save(root / "previews" / f"step-{step:06d}.png")


def confirmation(sweep, runs):
    """The study of re-runs: ``{number: [figures of a seed, …]}``, None for one that failed."""
    study = optuna.create_study(
        directions=["minimize" if o.goal == "min" else "maximize" for o in sweep.objectives]
    )
    for number, seeds in runs.items():
        for seed, values in enumerate(seeds, start=1):
            trial = study.ask()
            trial.set_user_attr(OF, number)
            trial.set_user_attr(SEED, seed)
            study.tell(trial, values, state=None if values else optuna.trial.TrialState.FAIL)
    return study
