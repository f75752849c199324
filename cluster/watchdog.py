"""Finds the worker that hangs: who has not moved for too long, in which step, and doing what."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Beat:
    """A worker's word of where it is."""

    rank: int
    workers: int
    process: str
    """Host and process: a new one in a rank means that the workers were started anew."""
    step: int
    doing: str
    seconds: float
    """Since when it does so."""


class Watchdog:
    """Hears the beats of all workers; says once what is wrong if nobody moves."""

    def __init__(self, limit: float) -> None:
        """``limit`` in seconds."""
        self._limit = limit
        self._heard: dict[int, tuple[Beat, float]] = {}

    def hear(self, beat: Beat, now: float | None = None) -> str | None:
        """Take a beat; the line that names who hangs, if anybody does."""
        now = time.monotonic() if now is None else now
        known = self._heard.get(beat.rank)
        if known is not None and (known[0].process, known[0].workers) != (beat.process, beat.workers):
            self.forget()
        self._heard[beat.rank] = beat, now
        return self._verdict(now)

    def forget(self) -> None:
        """Begin anew, with other workers."""
        self._heard.clear()

    def processes(self) -> list[str]:
        """All that are heard of."""
        return [beat.process for beat, _ in self._heard.values()]

    def _verdict(self, now: float) -> str | None:
        for beat, heard in self._heard.values():
            if now - heard > self._limit:
                return (
                    f"worker {beat.rank} has not been heard of for {now - heard:.0f} s; its last word was from step "
                    f"{beat.step}, {beat.doing}"
                )
        beats = [beat for beat, _ in self._heard.values()]
        if min(beat.seconds for beat in beats) < self._limit:
            return None
        # Who trains may wait for the gradients of somebody who does something else.
        behind = [beat for beat in beats if beat.step == min(each.step for each in beats)]
        culprits = [beat for beat in behind if beat.doing != "training"] or behind
        names = ", ".join(str(beat.rank) for beat in culprits)
        seconds = min(beat.seconds for beat in culprits)
        return (
            f"worker {names} has been {culprits[0].doing} in step {culprits[0].step} for {seconds:.0f} s"
            + (", and the others wait" if len(culprits) < beats[0].workers else "")
        )
