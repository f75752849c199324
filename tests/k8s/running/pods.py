"""Runs pods of manifests on this machine as they stand: a node of Kubernetes, as far as a command can tell.

A container gets what its manifest says and nothing else of this machine: command, arguments and environment; its user
and group, no capabilities, a root that it cannot write to where the manifest says so; its volumes at their paths;
services under their names, on a loopback of the node's own, so that ports are those of the manifest and nobody else
hears of them. Made of Linux namespaces (unshare, nsenter, mount: util-linux), which need root. Images are stood in for
by programs that are installed here (`Image`).
"""

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/sys")
OF_ETC = ("ld.so.cache", "ssl", "nsswitch.conf", "localtime")
LOOPBACK = """
import fcntl, socket, struct, sys, time
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up and running
print("up", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Image:
    """What stands in for an image: folders of this machine at their own paths, and what the image itself would set."""

    path: tuple[str, ...]
    """Folders of programs, before those of the system."""
    folders: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    """Single programs, which are found by their names."""
    environment: dict[str, str] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)


PROJECT = Image(
    path=(str(Path(sys.executable).parent),),
    folders=tuple(dict.fromkeys([sys.prefix, sys.base_prefix, str(REPOSITORY)])),
    environment={
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "OMP_NUM_THREADS": "1",
    },
    users={"gmvae": 1000},
)


def unavailable():
    """Why no pod can run here, or None."""
    if os.geteuid() != 0:
        return "pods need root, for namespaces"
    for name in ("unshare", "nsenter", "mount", "setpriv", "chroot"):
        if shutil.which(name) is None:
            return f"pods need {name}"
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"]
    done = subprocess.run(words, capture_output=True, text=True)
    return f"pods need namespaces: {done.stderr.strip()}" if done.returncode else None


class Container:
    """A process in a root of its own. What it wrote lies in ``log``."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def wait(self, seconds):
        """(exit code, what it said)."""
        try:
            self.process.wait(seconds)
        finally:
            self.stop(signal.SIGKILL)
        return self.process.returncode, self.said()

    def said(self):
        return self.log.read_text(errors="replace")

    def stop(self, how=signal.SIGTERM, seconds=30):
        """End it, and with it all that it has started: its first process is that of a namespace."""
        for signum in dict.fromkeys([how, signal.SIGKILL]):
            # To the program itself, as a kubelet does; `unshare` above it ends with it.
            for child in children(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signum)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        self.process.kill()
        self.process.wait()


def children(process):
    """Ids of the processes that this one has started."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


class Node:
    """Where pods run. ``secrets`` and ``config_maps``: {name: {key: text}}; ``images``: {repository: Image}."""

    def __init__(self, folder, images, *, services=(), secrets=None, config_maps=None):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._images = folder, images
        self._maps = {"secretKeyRef": secrets or {}, "configMapKeyRef": config_maps or {}}
        self._running = []
        self._hosts = folder / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost node {' '.join(services)}\n")
        words = ["unshare", "--net", "--kill-child", "--fork", sys.executable, "-c", LOOPBACK]
        self._network = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._network.stdout.readline() == "up\n"
        (self._holder,) = children(self._network.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for container in self._running:
            container.stop(signal.SIGKILL)
        self._network.stdin.close()
        self._network.wait()
        self._network.stdout.close()

    def init(self, pod, name, claims=()):
        """Run the init containers of a pod's spec to their ends."""
        for container in pod.get("initContainers", ()):
            code, said = self.start(pod, container, name, claims).wait(120)
            assert code == 0, said

    def start(self, pod, container, name, claims=()):
        """Start a container of a pod's spec. ``name`` is the pod's: the same name has the same volumes."""
        image = self._images[container["image"].rpartition(":")[0].rpartition("/")[2]]
        place = self._folder / f"{name}-{container['name']}-{len(self._running)}"
        place.mkdir()
        script = place / "start.sh"
        script.write_text(self._script(pod, container, image, place / "root", name, claims))
        log = place / "log"
        words = [
            *("nsenter", f"--net=/proc/{self._holder}/ns/net", "--"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "/bin/bash", str(script)),
        ]
        with log.open("wb") as file:
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self._running.append(Container(process, log))
        return self._running[-1]

    def environment(self, container, image):
        """What the container's processes see; later entries may name earlier ones as $(NAME)."""
        found = {
            "PATH": ":".join([*image.path, "/image/bin", "/usr/bin", "/bin"]),
            "HOME": "/",
            **image.environment,
        }
        for source in container.get("envFrom", ()):
            (kind, reference), = source.items()  # fmt: skip
            found |= self._maps[kind.replace("Ref", "KeyRef")][reference["name"]]
        for entry in container.get("env", ()):
            if "value" in entry:
                found[entry["name"]] = expanded(entry["value"], found)
                continue
            (kind, reference), = entry["valueFrom"].items()  # fmt: skip
            if kind == "fieldRef":
                found[entry["name"]] = {"status.podIP": "127.0.0.1"}[reference["fieldPath"]]
            else:
                found[entry["name"]] = self._maps[kind][reference["name"]][reference["key"]]
        return found

    def _volume(self, pod, name, pod_name, claims):
        """The folder that stands in for a volume."""
        folder = self._folder / "volumes" / pod_name / name
        if folder.exists():
            return folder
        folder.mkdir(parents=True)
        group = pod.get("securityContext", {}).get("fsGroup", 0)
        volume = next((each for each in pod.get("volumes", ()) if each["name"] == name), None)
        if volume is None:
            assert name in claims, f"no volume {name}"
        kind = None if volume is None else next(kind for kind in volume if kind != "name")
        for mode, source in (
            self._sources(kind, volume[kind]) if kind in {"secret", "configMap", "projected"} else ()
        ):
            for key, text in source.items():
                (folder / key).write_text(text)
                (folder / key).chmod(mode)
                os.chown(folder / key, 0, group)
        # What may be written to is anybody's: like an emptyDir, or a claim whose group is that of the pod.
        folder.chmod(0o755 if kind in {"secret", "configMap", "projected"} else 0o2777)
        os.chown(folder, 0, group)
        return folder

    def _sources(self, kind, volume):
        if kind == "projected":
            for source in volume["sources"]:
                (inner, reference), = source.items()  # fmt: skip
                yield from self._sources(inner, reference)
            return
        name = volume.get("secretName") or volume["name"]
        yield volume.get("defaultMode", 0o644), self._maps[f"{kind}KeyRef"][name]

    def _script(self, pod, container, image, root, pod_name, claims):
        """What sets up the root of a container and then becomes its command."""
        context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        user, group = context["runAsUser"], context.get("runAsGroup", 0)
        lines = [
            "set -eu",
            "mount --make-rprivate /",
            f"mkdir -p {root}",
            f"mount -t tmpfs -o mode=755 root {root}",
        ]

        def bind(source, target, *, writable=False):
            at = f"{root}{target}"
            if stat.S_ISDIR(os.stat(source).st_mode):
                lines.append(f"mkdir -p {at} && mount --bind {source} {at}")
            else:
                lines.append(f"mkdir -p {Path(at).parent} && touch {at} && mount --bind {source} {at}")
            if not writable:
                lines.append(f"mount -o remount,bind,ro {at}")

        for folder in SYSTEM:
            if os.path.islink(folder):
                lines.append(f"ln -s {os.readlink(folder)} {root}{folder}")
            elif os.path.isdir(folder):
                bind(folder, folder)
        for name in OF_ETC:
            if os.path.exists(f"/etc/{name}"):
                bind(os.path.realpath(f"/etc/{name}"), f"/etc/{name}")
        users = "".join(f"{name}:x:{number}:{number}::/:/bin/bash\n" for name, number in image.users.items())
        passwd = root.parent / "passwd"
        passwd.write_text(f"root:x:0:0::/root:/bin/bash\n{users}")
        bind(passwd, "/etc/passwd")
        bind(self._hosts, "/etc/hosts")
        for folder in image.folders:
            bind(folder, folder)
        for program in image.programs:
            bind(program, f"/image/bin/{Path(program).name}")
        lines += [
            f"mkdir -p {root}/proc {root}/dev {root}/tmp && mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev && mount -t tmpfs -o mode=1777,size=64m shm {root}/dev/shm",
        ]
        for mount in sorted(container.get("volumeMounts", ()), key=lambda mount: mount["mountPath"]):
            source = self._volume(pod, mount["name"], pod_name, claims) / mount.get("subPath", "")
            bind(source, mount["mountPath"], writable=not mount.get("readOnly", False))
        if context.get("readOnlyRootFilesystem"):
            lines.append(f"mount -o remount,ro {root}")
        environment = self.environment(container, image)
        command = [
            expanded(word, environment) for word in [*container["command"], *container.get("args", ())]
        ]
        groups = f"--groups={context['fsGroup']}" if "fsGroup" in context else "--clear-groups"
        words = [
            *("chroot", str(root), "/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", groups),
            *(
                "--no-new-privs",
                "--bounding-set=-all",
                "--inh-caps=-all",
                "/usr/bin/env",
                "--ignore-environment",
            ),
            *(f"{name}={value}" for name, value in environment.items()),
            *command,
        ]
        lines.append(f"exec {shlex.join(words)}")
        return "\n".join(lines)


def expanded(text, environment):
    """``$(NAME)`` as Kubernetes fills it in: what is not known stays as it is."""
    return re.sub(r"\$\((\w+)\)", lambda match: environment.get(match[1], match[0]), text)


def ray_pod(job, *more):
    """(pod, container) that run the entrypoint of a RayJob, as its head would, with ``more`` words at the end."""
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    container = {key: value for key, value in pod["containers"][0].items() if key != "args"}
    entrypoint = shlex.join([*shlex.split(job["spec"]["entrypoint"]), *more])
    return pod, {**container, "command": ["/bin/bash", "-c", entrypoint]}


def job_pod(job, *more):
    """(pod, container) of a Job, with ``more`` words at the end."""
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    return pod, {**container, "args": [*container.get("args", ()), *more]}


def wait_for(ready, container, seconds=60):
    """Wait until ``ready()`` is true; the container must live."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert container.process.poll() is None, container.said()
        assert time.monotonic() < deadline, container.said()
        time.sleep(0.2)
