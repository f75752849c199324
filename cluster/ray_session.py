"""Ray, quiet: started on this machine for one run, or joined where a cluster is there already."""

import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module

from cluster.errors import RunError

logger = logging.getLogger(__name__)

# Read when Ray is imported, by the driver and by what it starts.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in a worker
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more; `cluster/leaving.py` hears of it by SIGTERM
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon a dead worker is noticed; 2 by default
}
OBJECT_STORE_BYTES = 100 * 2**20
"""Batches and weights never pass through Ray's object store, so it may be small."""


@contextmanager
def ray_session(cpus: int, gpus: int, first_import: str) -> Iterator[None]:
    """Ray within the block: the cluster of ``RAY_ADDRESS`` (set inside Ray jobs), else one of our own.

    A machine with fewer cores than ``cpus`` is shared by the workers; Ray would wait for cores for ever. A cluster that
    lacks something is waited for. ``first_import`` is the module that is needed first, imported meanwhile.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    joins = bool(os.environ.get("RAY_ADDRESS"))
    if not joins and "RAY_AUTH_MODE" not in os.environ:
        # Ray listens on every interface, and whoever reaches it may run code: let in only what knows this
        # token.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    # While Ray's processes start, this one has little to do.
    threading.Thread(target=import_module, args=(first_import,), daemon=True).start()
    try:
        if joins:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, cpus),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise RunError(f"Ray does not start: {' '.join(str(error).split())}") from error
    try:
        if joins:
            _tell_what_is_missing(ray.cluster_resources(), {"CPU": cpus, "GPU": gpus})  # type: ignore[no-untyped-call]
        yield
    finally:
        ray.shutdown()


def _tell_what_is_missing(there: Mapping[str, float], needs: Mapping[str, int]) -> None:
    """Ray waits in silence until a cluster is large enough, which one that grows by itself will be."""
    for kind, needed in needs.items():
        if there.get(kind, 0) < needed:
            logger.warning(
                f"The cluster has {there.get(kind, 0):g} of the {needed} {kind}s that scaling asks for: "
                f"waiting until it grows."
            )
