"""Errors a user can act on: each is one line per fault, shown without a traceback, and never retried."""


class ClusterError(Exception):
    """Base of what goes wrong in this room through no fault of the code."""


class ConfigError(ClusterError):
    """The configuration is wrong; one line per fault."""


class RunError(ClusterError):
    """The run cannot start, continue or resume."""
