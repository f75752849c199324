"""The commands of overlay `dev` run as they stand: shards, a training that resumes, a sweep; all of it in the overlay's
own object store and database. Only words are added at their ends, which make them short.

What a cluster does beside that is not seen here: Ray's operator, its head and its workers in other pods. Without
RAY_ADDRESS the command starts a Ray of its own.
"""

import json
import shlex

import pytest

from k8s.check import overlay

from ..kustomize import program, the
from .conftest import postgres_programs
from .pods import job_pod, ray_pod
from .test_dev_servers import UP, run, start

SECONDS = 400
SHORT = (
    "train.precision=fp32",
    "train.log_every=2",
    "train.checkpoint_every=2",
    "train.preview_every=4",
    "train.preview_images=2",
    "train.evaluate_every=4",
    "train.evaluate_images=8",
)
SHORT_SWEEP = (
    "budget.trials=2",
    "budget.steps=4",
    "pruner=null",
    "objectives=[{metric: cycle, goal: min}]",
    *(f"fixed.{word}" for word in ("train.judge=null", "train.log_every=2", "train.evaluate_images=8")),
)


@pytest.fixture
def cluster(node):
    """(node, objects) of the overlay, with its servers running and its shards built."""
    if program("kubectl") is None:
        pytest.skip("kubectl is not installed: pip install 'gmvae-drit[dev]'")
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    built = overlay.build("dev")
    objects = built.objects
    here = node(objects)
    for name in ("dev-s3", "dev-postgres"):
        start(here, objects, name)
    run(here, UP, args=[built.settings["bucket"]])
    pod, container = job_pod(the(objects, "Job", "build-shards"))
    code, said = here.start(pod, container, "build-shards").wait(SECONDS)
    assert code == 0, said
    return here, objects


def run_ray_job(node, job, *more):
    """What a RayJob says, which must succeed; ``more`` are words at the end of its entrypoint."""
    pod, container = ray_pod(job, *more)
    name = job["metadata"]["name"]
    node.init(pod, name)
    code, said = node.start(pod, container, name).wait(SECONDS)
    assert code == 0, said
    return said


READ = """
import sys
from data_shards.store import open_store
sys.stdout.write(open_store(sys.argv[1]).read(sys.argv[2]).decode())
"""


def read(node, uri, name):
    """An object of the store, as text."""
    return run(node, READ, args=[uri, name])


@pytest.mark.slow
def test_the_overlay_trains_resumes_and_searches(cluster):
    here, objects = cluster
    train, sweep = the(objects, "RayJob", "train"), the(objects, "RayJob", "sweep")
    words = dict(word.split("=", 1) for word in shlex.split(train["spec"]["entrypoint"]) if "=" in word)
    uri = f"{words['run.storage']}/{words['run.name']}"

    run_ray_job(here, train, "train.steps=4", *SHORT)
    said = run_ray_job(here, train, "train.steps=6", "scaling.workers=1", *SHORT)
    assert "from step 4" in said, "another cluster goes on where the first one stopped"
    rows = [json.loads(line) for line in read(here, uri, "metrics.jsonl").splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]

    words = dict(word.split("=", 1) for word in shlex.split(sweep["spec"]["entrypoint"]) if "=" in word)
    run_ray_job(here, sweep, *SHORT_SWEEP)
    page = read(here, f"{words['sweep.storage']}/{words['sweep.name']}", "report.html")
    assert words["sweep.name"] in page
