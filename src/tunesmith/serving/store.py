"""The server's database: opened, migrated to this version, checked; read and written in short transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Engine, Select, create_engine, event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from tunesmith.errors import MissingExtra, StoreDamaged, StoreError
from tunesmith.serving.errors import not_found
from tunesmith.serving.tables import Organisation

Row = TypeVar("Row")

# Who everything belongs to while a server on this machine alone has no keys.
LOCAL: Final = "org-local"
_LOCKED_SECONDS: Final = 10
_DAMAGED: Final = ("malformed", "not a database", "disk image", "corrupt", "encrypted")


def now() -> int:
    """Return the moment in whole seconds since 1970."""
    return int(time.time())


class Store:
    """Transactions on the server's database; threads may share it.

    `url` is SQLAlchemy's: sqlite:///FILE or postgresql+psycopg://... Raises StoreError if it cannot be opened or is
    held by another process, StoreDamaged if what is there is no sound database; nothing is overwritten.
    """

    def __init__(self, url: str, *, clock: Callable[[], int] = now) -> None:
        self.clock = clock
        self._shown = _without_secret(url)
        self._engine = _engine(url)
        with self._named():
            if self._engine.dialect.name == "sqlite":
                self._check()
            migrate(self._engine)
        with self.write() as session:
            if session.get(Organisation, LOCAL) is None:
                session.add(Organisation(id=LOCAL, name="local", created_at=clock()))

    @property
    def dialect(self) -> str:
        """The kind of database: sqlite or postgresql."""
        return self._engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that changes nothing; rows that it gives may be used after it."""
        with self._named(), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that is kept when the block ends, and undone when it raises.

        On SQLite one writer works at a time: the others wait their turn, and keep what they have read.
        """
        with self._named(), Session(self._engine, expire_on_commit=False) as session:
            if self.dialect == "sqlite":
                session.connection(execution_options={"tunesmith_writes": True})
            yield session
            session.commit()

    def one(self, query: Select[Row]) -> Row | None:
        """Return the one row of a query, or None."""
        with self.read() as session:
            return session.scalars(query).one_or_none()

    def all(self, query: Select[Row]) -> list[Row]:
        """Return the rows of a query."""
        with self.read() as session:
            return list(session.scalars(query))

    def find(self, table: type[Any], organisation: str, id: str, what: str) -> Any:
        """Return a thing of an organisation; raises ApiError (404) if it has none with this id."""
        row = self.one(owned(table, organisation, id))
        if row is None:
            raise not_found(what, id)
        return row

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _check(self) -> None:
        with self._engine.connect() as connection:
            said = connection.execute(text("PRAGMA quick_check(1)")).scalar()
        if said != "ok":
            raise StoreDamaged(
                f"The server's database {self._shown} is damaged: {said}",
                hint="Nothing was changed. Put a copy of it back, or start with another --home.",
            )

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, DatabaseError) as error:
            raise _as_store_error(error, self._shown) from error


def migrate(engine: Engine) -> None:
    """Bring the tables to this version's; raises StoreError if a newer version has written them."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(
                f"The server's database was written by a newer version of Tunesmith: {error}",
                hint="Update Tunesmith, or start with another --home.",
            ) from error


def owned(table: type[Any], organisation: str, id: str) -> Select[Any]:
    """Return the query for a thing by its id, as its organisation sees it."""
    return select(table).where(table.organisation == organisation, table.id == id)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise StoreError(
                f"The database {_without_secret(url)} is neither SQLite nor PostgreSQL.",
                hint="Use sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.",
            )
        if backend == "postgresql":
            return create_engine(parsed, pool_size=10, max_overflow=30, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(
            f"{_without_secret(url)} is no database's URL: {error}",
            hint="Use sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.",
        ) from error
    except ModuleNotFoundError as error:
        raise MissingExtra("psycopg", "postgres", "a PostgreSQL database") from error
    engine = create_engine(parsed, connect_args={"timeout": _LOCKED_SECONDS}, pool_size=10, max_overflow=50)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    # Transactions are begun by us (below): the driver would begin them only before the first change.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _on_begin(connection: Any) -> None:
    writes = connection.get_execution_options().get("tunesmith_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _as_store_error(error: DatabaseError, shown: str) -> StoreError:
    said = str(error.orig)
    if any(word in said for word in _DAMAGED):
        return StoreDamaged(
            f"The server's database {shown} is damaged: {said}",
            hint="Nothing was changed. Put a copy of it back, or start with another --home.",
        )
    if "locked" in said:
        return StoreError(
            f"The server's database {shown} is held by another process.",
            hint="Stop what works on it (a backup, a database browser), and try again.",
        )
    return StoreError(f"The server's database {shown} cannot be used: {said}")


def _without_secret(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)
