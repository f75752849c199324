"""Commands inside the manifests: parsed by the real command line, against the files that are mounted where they run."""

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from cluster.config import Experiment, ScalingSettings, load, parse_overrides
from cluster.errors import ConfigError
from cluster.job_package import check_places
from k8s.check.overlay import Fault, Object, Overlay, Pod, pods_of, ray_cluster_spec
from k8s.check.quantities import amount_or_none
from k8s.check.resources import gpus_of

ROOMS = ("cluster", "tune", "data_shards")
UsageError: Any = typer.BadParameter.__mro__[1]
"""Of the command line that typer stands on, which it carries along under a private name."""


class CommandError(Exception):
    """A command that would not run."""


def check_commands(overlay: Overlay) -> Iterator[Fault]:
    """Commands that fail before they begin, and runs that ask for other machines than there are."""
    for thing in overlay.of_kind("RayJob"):
        yield from (overlay.fault(thing, path, told) for path, told in _entrypoint(overlay, thing))
    for pod in overlay.pods:
        for path, container in pod.containers():
            hook = ((container.get("lifecycle") or {}).get("preStop") or {}).get("exec", {}).get("command")
            for at, words in (
                (f"{path}.command", container.get("command")),
                (f"{path}.lifecycle.preStop", hook),
            ):
                if words and words[0] == "python":
                    try:
                        parse(words)
                    except CommandError as error:
                        yield overlay.fault(pod.object, at, str(error))


def parse(words: list[str]) -> tuple[str, str, Mapping[str, Any]]:
    """Room, command and parameters of ``python -m ROOM COMMAND …``. Raises CommandError."""
    if words[:2] != ["python", "-m"] or len(words) < 4 or words[2] not in ROOMS:
        raise CommandError(f"{shlex.join(words)}: must be python -m {'|'.join(ROOMS)} COMMAND …")
    group = typer.main.get_command(import_module(f"{words[2]}.__main__").app)
    try:
        return words[2], *_parsed(group, words[3:], None)
    except UsageError as error:
        raise CommandError(f"{shlex.join(words)}: {error.format_message()}") from error


def _parsed(command: Any, words: list[str], parent: Any) -> tuple[str, Mapping[str, Any]]:
    if not hasattr(command, "resolve_command"):
        context = command.make_context(command.name, list(words), parent)
        return str(command.name), context.params
    context = command.make_context(command.name or "python", list(words), parent)
    rest = [*context._protected_args, *context.args]
    name, inner, rest = command.resolve_command(context, rest)
    found, parameters = _parsed(inner, rest, context)
    return (found if parent is None else f"{name} {found}"), parameters


def _entrypoint(overlay: Overlay, job: Object) -> Iterator[tuple[str, str]]:
    text = job["spec"].get("entrypoint", "")
    head = next(pod for pod in pods_of(job) if pod.role == "head")
    try:
        told = _resolved(text, json.dumps(_mounted(overlay, head), sort_keys=True))
    except CommandError as error:
        yield "spec.entrypoint", str(error)
        return
    if (run := job["spec"].get("metadata", {}).get("run")) != told.run:
        yield (
            "spec.metadata.run",
            f"{run}; the command says {told.run}, and `python -m cluster status` looks for that",
        )
    yield from _places(job, told)


class _Told:
    """What a command asks for."""

    def __init__(self, run: str, scaling: ScalingSettings, trials: int | None) -> None:
        self.run, self.scaling, self.trials = run, scaling, trials


@lru_cache(maxsize=100)
def _resolved(text: str, mounts: str) -> _Told:
    """Read the configuration as the driver would. Raises CommandError."""
    words = shlex.split(text)
    if shlex.join(words) != text.strip():
        raise CommandError("goes through two shells: plain words only")
    with tempfile.TemporaryDirectory(prefix="k8s-check-") as root:
        folders = json.loads(mounts)
        for place, files in folders.items():
            folder = Path(root + place)
            folder.mkdir(parents=True)
            for name, content in files.items():
                (folder / name).write_text(content, encoding="utf-8")
        places = sorted(folders, key=len, reverse=True)
        try:
            room, command, given = parse([_faked(word, places, root) for word in words])
            overrides = parse_overrides(given.get("overrides") or [])
            if (room, command) == ("cluster", "train"):
                return _train(load(given["config"], overrides))
            if (room, command) == ("tune", "run"):
                return _sweep(given["sweep"], overrides)
        except (ConfigError, CommandError) as error:
            raise CommandError(str(error).replace(root, "")) from None
    raise CommandError(f"{room} {command} is no job")


def _faked(word: str, places: list[str], root: str) -> str:
    for place in places:
        if place in word:
            return word.replace(place, root + place)
    return word


def _train(experiment: Experiment) -> _Told:
    check_places(experiment)
    for place in (experiment.run.storage, experiment.data.uri):
        if not place.startswith("s3://"):
            raise CommandError(f"{place}: pods share no folder; use s3://")
    return _Told(experiment.run.name, experiment.scaling, None)


def _sweep(path: str, overrides: Mapping[str, object]) -> _Told:
    import optuna

    from tune.config import load_sweep
    from tune.experiments import prepare

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep = load_sweep(path, overrides)
    recipe = prepare(sweep)
    for place in (sweep.sweep.storage, recipe.base.data.uri):
        if not place.startswith("s3://"):
            raise CommandError(f"{place}: pods share no folder; use s3://")
    if not (sweep.sweep.study or "").startswith("postgresql://"):
        raise CommandError("sweep.study: must be postgresql://USER@HOST/DATABASE")
    return _Told(sweep.sweep.name, recipe.base.scaling, sweep.concurrency)


def _mounted(overlay: Overlay, pod: Pod) -> dict[str, dict[str, str]]:
    """Files of ConfigMaps by the folder that the pod's first container sees them in."""
    maps = {thing["metadata"]["name"]: thing.get("data") or {} for thing in overlay.of_kind("ConfigMap")}
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes") or []}
    found = {}
    for mount in (pod.spec.get("containers") or [{}])[0].get("volumeMounts") or []:
        name = (volumes.get(mount["name"], {}).get("configMap") or {}).get("name")
        if name in maps:
            found[mount["mountPath"]] = maps[name]
    return found


def _places(job: Object, told: _Told) -> Iterator[tuple[str, str]]:
    """Whether the pods are what the command asks Ray for."""
    scaling, groups = told.scaling, ray_cluster_spec(job).get("workerGroupSpecs") or []
    workers = [pod for pod in pods_of(job) if pod.role == "worker"]
    there = sum(group.get("replicas") or 0 for group in groups)
    wanted = scaling.workers * (told.trials or 1)
    if told.trials is None and "concurrency" in job["spec"].get("entrypoint", ""):
        yield "spec.entrypoint", "concurrency: say how many trials at a time"
    if wanted != there:
        yield "spec.entrypoint", f"asks for {wanted} workers, and there are {there} pods for them"
    for pod in workers:
        limits = pod.spec["containers"][0].get("resources", {}).get("limits") or {}
        path = f"{pod.path}.spec.containers.0.resources.limits"
        cores = amount_or_none(limits.get("cpu", 0))
        if cores is not None and cores != scaling.threads:
            yield (
                f"{path}.cpu",
                f"{cores:g} cores, and the command gives each worker {scaling.threads} threads",
            )
        if bool(gpus_of(pod)) != scaling.use_gpu:
            yield (
                path,
                f"{gpus_of(pod)} GPUs, and the command says scaling.use_gpu={str(scaling.use_gpu).lower()}",
            )
    lasting = groups[0].get("replicas") or 0 if groups else 0
    if len(groups) > 1 and (scaling.min_workers is None or scaling.min_workers > lasting):
        yield (
            "spec.entrypoint",
            f"scaling.min_workers = {scaling.min_workers}: at most {lasting} stay without spot machines",
        )
