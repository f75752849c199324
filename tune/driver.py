"""Runs a sweep: Ray Tune gives the trials of the study places to train on, until the budget is used up.

Whatever can be checked without Ray is checked before Ray starts.
"""

import logging
import os
import shutil
import signal
import tempfile
from concurrent.futures import wait
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from cluster.config import ScalingSettings
from cluster.driver import POLL_SECONDS, fit_in_thread, stop_on_signals
from cluster.errors import ClusterError, RunError
from cluster.ray_session import ray_session
from tune.board import Board
from tune.experiments import Recipe
from tune.storage import reason
from tune.study import SweepStudy

# Read when Tune is imported. Its own records are of no use here: all that counts is in the study and the runs.
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
ATTEMPTS = 3
"""Starts of a trial whose actor dies, before it counts as failed."""


def search(study: SweepStudy, recipe: Recipe, board: Board, hours: float | None) -> int:
    """Run the trials that the study has left; the exit code of the process. Raises what a user can act on."""
    sweep, scaling = recipe.sweep, recipe.base.scaling
    if study.is_over:
        board.say("All trials are over.")
        return 0
    with board:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        bookkeeping = tempfile.mkdtemp(prefix="gmvae-drit-tune-")
        try:
            concurrency = sweep.concurrency or _places(scaling, _this_machine())
            joins = bool(os.environ.get("RAY_ADDRESS"))
            board.say("Joining the Ray cluster." if joins else "Starting Ray.")
            wanted = 1 if joins else concurrency
            with ray_session(scaling.cpus * wanted, scaling.gpus * wanted, "tune.trial"):
                if joins and sweep.concurrency is None:
                    import ray

                    concurrency = _places(scaling, ray.cluster_resources())  # type: ignore[no-untyped-call]
                return _search_on_ray(study, recipe, board, hours, concurrency, bookkeeping)
        except KeyboardInterrupt:
            board.say("Stopped at once. The same command goes on from the last checkpoints.")
            return 128 + signal.SIGINT
        finally:
            shutil.rmtree(bookkeeping, ignore_errors=True)


def _search_on_ray(
    study: SweepStudy, recipe: Recipe, board: Board, hours: float | None, concurrency: int, bookkeeping: str
) -> int:
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the board tells how trials end
    from tune.search import Halt, StudyScheduler, StudySearcher
    from tune.trial import TrainingTrial

    board.say(f"{concurrency} trial{'s' if concurrency > 1 else ''} at a time.")
    scaling = recipe.base.scaling
    searcher = StudySearcher(study, recipe, concurrency, board)
    halt = Halt(study, hours)
    worker: dict[str, float] = {"CPU": scaling.threads, **({"GPU": 1} if scaling.use_gpu else {})}
    # The trial's own actor computes nothing: the first bundle is empty. The workers' places come all or none.
    places = tune.PlacementGroupFactory([{}, *([worker] * scaling.workers)])
    tuner = tune.Tuner(
        tune.with_resources(TrainingTrial, places),
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=StudyScheduler(searcher), num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name=study.optuna.study_name.replace("/", "-"),
            storage_path=bookkeeping,
            stop=halt,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
            verbose=0,
        ),
    )
    fit = fit_in_thread(tuner)
    with stop_on_signals(halt.stop, board.say) as signals:
        while not fit.done():
            wait([fit], POLL_SECONDS)
    if (error := fit.exception()) is not None:
        raise _told(error) from error
    if signals:
        board.say("Stopped, with checkpoints. The same command goes on.")
        return 128 + signals[0]
    if halt.is_late:
        board.say(
            f"budget.hours = {hours:g} are over. Trials under way have checkpoints: with more, they go on."
        )
    return 0


def _told(error: BaseException) -> ClusterError:
    """What ended Tune, in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ClusterError):
            return cause
        if isinstance(cause, SQLAlchemyError | StorageInternalError):
            return RunError(f"sweep.study: {reason(cause)}; the same command goes on")
        cause = cause.__cause__ or cause.__context__
    return RunError(f"Ray Tune: {type(error).__name__}: {' '.join(str(error).split())}")


def _this_machine() -> dict[str, float]:
    import torch

    return {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}


def _places(scaling: ScalingSettings, there: Any) -> int:
    """Trials that fit beside each other, at least one."""
    needs = {"CPU": scaling.cpus, "GPU": scaling.gpus}
    return max(1, min(int(there.get(kind, 0) // needed) for kind, needed in needs.items() if needed))
