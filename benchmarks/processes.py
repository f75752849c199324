"""CPU and memory of this process and of its workers, from /proc (Linux)."""

import os
from itertools import chain
from pathlib import Path


def tree() -> list[int]:
    """This process and all that descend from it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def cpu_of_tree() -> float:
    """CPU seconds of `tree` and of what has ended of it."""
    ticks = 0
    for process in tree():
        # Of /proc/PID/stat, counted behind the name: utime, stime, cutime, cstime.
        ticks += sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_of_tree() -> float:
    """MiB of `tree`, each page divided among those that share it."""
    lines = [Path(f"/proc/{process}/smaps_rollup").read_text().splitlines() for process in tree()]
    return sum(int(line.split()[1]) for line in chain(*lines) if line.startswith("Pss:")) / 1024


def peak_memory() -> float:
    """MiB that this process has had at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
