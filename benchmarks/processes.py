"""CPU and memory of this process and of its workers, from /proc (Linux)."""

import os
from pathlib import Path

PARENT, TIMES = 1, slice(11, 15)  # of /proc/PID/stat behind the name; utime, stime, cutime, cstime


def tree() -> list[int]:
    """This process and all that descend from it."""
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    parents = {number: int(words[PARENT]) for number in numbers if (words := stat(number))}
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def cpu_of_tree() -> float:
    """CPU seconds of `tree` and of what has ended of it."""
    ticks = sum(sum(map(int, stat(process)[TIMES])) for process in tree())
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_of_tree() -> float:
    """MiB of `tree`, each page divided among those that share it (PSS)."""
    lines = [line for process in tree() for line in about(process, "smaps_rollup").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def peak_memory() -> float:
    """MiB that this process has had at most."""
    lines = about(os.getpid(), "status").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def marked(word: str) -> dict[int, str]:
    """Command lines of all that live with ``NAME=VALUE`` in their environment, by their numbers."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = about(int(folder.name), "cmdline").replace("\0", " ")
        except OSError:
            continue
    return found


def stat(process: int) -> list[str]:
    """Words of /proc/PID/stat behind the name, which may hold anything."""
    return about(process, "stat").rpartition(")")[2].split()


def about(process: int, what: str) -> str:
    """A file of /proc/PID; empty once the process is gone."""
    try:
        return Path(f"/proc/{process}/{what}").read_text()
    except OSError:
        return ""
