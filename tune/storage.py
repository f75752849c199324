"""The database behind a study: SQLite in the sweep's folder, or a server."""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from cluster.errors import RunError
from tune.config import Sweep

CONNECT_SECONDS = 10
OUTAGE_SECONDS, RETRY_SECONDS = 60.0, 2.0
"""How long a server may be away in the middle of a sweep, and between two attempts to reach it."""
LOCKED_SECONDS = 60.0
"""Another process that reads the study may hold SQLite's lock for a moment."""

logger = logging.getLogger(__name__)
TABLES_LOCK = 0x6D7661
"""Number of the server's lock under which tables are made: drivers that begin at once would all make them."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def study_url(sweep: Sweep) -> str:
    """SQLAlchemy URL of the study's database."""
    if sweep.sweep.study is None:
        return f"sqlite:///{Path(sweep.folder).absolute()}/study.db"
    url = make_url(sweep.sweep.study)
    return str(url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url)


def study_storage(sweep: Sweep) -> RDBStorage:
    """Connect to it, with its tables made where there are none. Raises RunError."""
    url = study_url(sweep)
    try:
        if url.startswith("sqlite"):
            Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
            return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": LOCKED_SECONDS}})
        arguments: dict[str, Any] = {
            "connect_args": {"connect_timeout": CONNECT_SECONDS},
            "pool_pre_ping": True,
        }
        with create_engine(url, poolclass=NullPool, **arguments).connect() as alone:
            alone.execute(text(f"SELECT pg_advisory_lock({TABLES_LOCK})"))  # until it is closed
            storage = RDBStorage(url, engine_kwargs=arguments)
    except (SQLAlchemyError, StorageInternalError, OSError, ImportError, RuntimeError) as error:
        raise RunError(f"sweep.study = {sweep.sweep.study or url}: {reason(error)}") from error

    event.listen(storage.engine, "do_connect", _connect_patiently)
    return storage


def _connect_patiently(dialect: Any, record: object, words: Any, named: Any) -> Any:
    """Once a sweep runs, a server that is away for a while is waited for. Connections are tried before each use, so
    that only one that breaks within a transaction ends the driver."""
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return dialect.connect(*words, **named)
        except dialect.loaded_dbapi.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            logger.warning("sweep.study: %s: trying again", reason(error))
            time.sleep(RETRY_SECONDS)


def reason(error: BaseException) -> str:
    """What went wrong with a database, in one line."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return " ".join(str(cause).split())
