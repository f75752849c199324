"""What this room tells its user when something is wrong with the data."""


class DataError(Exception):
    """One line: what is wrong, where, and what to do about it. Commands print it without a traceback."""


class Missing(DataError):
    """A file, bucket or folder that is not there."""


class CorruptSample(DataError):
    """A sample whose bytes are not those that were built, or that cannot be decoded."""
