"""Why workers were lost, in the words of the person who watches the run."""

import re
from textwrap import shorten

from ray.exceptions import RayActorError


def describe_losses(failures: dict[int, Exception]) -> list[str]:
    """One line per lost worker; where some have died, what broke in the others is their loss."""
    lines, dead = [], []
    for rank, failure in sorted(failures.items()):
        if "low on memory" in str(failure):
            dead.append(f"worker {rank} was killed, for its machine ran out of memory")
            continue
        # The error of a train function reads as its traceback, whose last line says what happened.
        told = [line.strip() for line in str(failure).splitlines() if line.strip()]
        if isinstance(failure, RayActorError) or not told or "process has died" in told[-1]:
            dead.append(f"worker {rank} died")
        else:
            what = re.sub(r"\[/\S+\] ", "", told[-1])  # the place in gloo's source
            lines.append(f"worker {rank}: {shorten(what, 160)}")
    return dead or lines
