"""How commands tell what went wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from cluster.errors import ClusterError
from data_shards.errors import DataError
from gmvae_drit.errors import ModelError


@contextmanager
def errors_told() -> Iterator[None]:
    """What a user can act on becomes `error: …`, one line per fault, and exit code 1."""
    try:
        yield
    except (ClusterError, DataError, ModelError) as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(1) from None
