"""`python -m tune run` as a process of its own, with all that it starts."""

from ..cluster.command import Command


class SweepCommand(Command):
    """See `Command`."""

    room, verb = "tune", "run"
