"""What this room tells its user when something is wrong with the data."""


class DataError(Exception):
    """One line: what is wrong, where, and what to do about it. Commands print it without a traceback."""
