"""What a user did wrong, as one clear line."""


class ModelError(Exception):
    """Bad images, bad model settings or a bad export: the message says what, where and what to do."""
