"""What is sent to a cluster with a job: the source of these rooms and the resolved experiment.

Nothing else of the folder that one happens to be in: no data, no runs, no environment, no secrets.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.config import Experiment
from cluster.errors import ConfigError

ROOMS = ("gmvae_drit", "data_shards", "cluster")
SUFFIXES = {".py", ".yaml"}
STOP_WAIT_SECONDS = 120
"""Ray kills a job so long after it was asked to stop, by default after 3 s: too soon to save a checkpoint."""


def check_places(experiment: Experiment) -> None:
    """Refuse places that mean nothing on another machine; one line per fault."""
    places = {"run.storage": experiment.run.storage, "data.uri": experiment.data.uri}
    faults = [
        f"{key} = {place}: a relative path means nothing on a cluster; use s3://bucket/prefix, or an absolute "
        f"path that all its nodes share"
        for key, place in places.items()
        if "://" not in place and not Path(place).is_absolute()
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def config_name(experiment: Experiment) -> str:
    """Name of the configuration in the package."""
    return f"{experiment.run.name}.yaml"


def entrypoint(experiment: Experiment) -> str:
    """The job's command."""
    return f"python -m cluster train {config_name(experiment)}"


@contextmanager
def packed(experiment: Experiment) -> Iterator[Path]:
    """A temporary folder that holds what the job needs, wherever these rooms are installed."""
    installed = Path(__file__).parents[1]
    with TemporaryDirectory(prefix="gmvae-job-") as name:
        folder = Path(name)
        for room in ROOMS:
            for path in (installed / room).rglob("*"):
                if path.suffix in SUFFIXES and path.is_file():
                    copy = folder / path.relative_to(installed)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(path.read_bytes())
        (folder / config_name(experiment)).write_text(experiment.to_yaml(), encoding="utf-8")
        yield folder


def environment(words: list[str]) -> dict[str, str]:
    """The job's variables: what it needs to stop in peace, and each ``NAME=VALUE``, or ``NAME`` as it is here."""
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_SECONDS)}
    for word in words:
        name, equals, value = word.partition("=")
        if not name.isidentifier():
            raise ConfigError(f"--env {word}: write NAME or NAME=VALUE")
        if not equals and name not in os.environ:
            raise ConfigError(f"--env {name}: is not set here; set it, or write --env {name}=VALUE")
        variables[name] = value if equals else os.environ[name]
    return variables
