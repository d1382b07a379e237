"""The server's database and folder: what is there is what the tables say, and what is wrong is named and left alone."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, select

from tunesmith.errors import ServerError, StoreDamaged, StoreError
from tunesmith.serving import store as module
from tunesmith.serving.home import Home, default_home
from tunesmith.serving.paging import page
from tunesmith.serving.store import LOCAL, Store
from tunesmith.serving.tables import Organisation, Table, Upload

from .running import database_of


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _either(path: Path) -> str:
    """Return the address of a database: PostgreSQL's where the tests were given one."""
    return database_of(path) or _url(path)


def test_the_migrations_make_the_tables(tmp_path: Path) -> None:
    Store(_either(tmp_path / "a.db")).close()
    engine = create_engine(_either(tmp_path / "a.db"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Store(_url(tmp_path / "a.db")).close()
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="written by a newer version"):
        Store(_url(tmp_path / "a.db"))


@pytest.mark.parametrize("kind", ["garbage", "truncated"])
def test_a_damaged_database_is_named_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.db"
    Store(_url(path)).close()
    whole = path.read_bytes()
    path.write_bytes(b"garbage" * 1000 if kind == "garbage" else whole[: len(whole) // 2])
    damaged = path.read_bytes()
    with pytest.raises(StoreDamaged, match=r"a\.db is damaged"):
        Store(_url(path))
    assert path.read_bytes() == damaged


def test_a_database_that_another_process_holds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCKED_SECONDS", 0.1)
    Store(_url(tmp_path / "a.db")).close()
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="is held by another process"):
        Store(_url(tmp_path / "a.db"))
    connection.close()


@pytest.mark.parametrize(
    ("url", "said"), [("mysql://x/y", "neither SQLite nor PostgreSQL"), ("nonsense", "is no database's URL")]
)
def test_what_is_no_database_is_refused(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        Store(url)


def test_what_raises_in_a_transaction_is_undone(tmp_path: Path) -> None:
    store = Store(_either(tmp_path / "a.db"))
    with pytest.raises(KeyError), store.write() as session:
        session.add(Organisation(id="org-x", name="x", created_at=1))
        session.flush()
        raise KeyError
    assert store.one(select(Organisation).where(Organisation.id == "org-x")) is None
    store.close()


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    store = Store(_either(tmp_path / "a.db"))

    def write(number: int) -> None:
        for turn in range(10):
            with store.write() as session:
                session.add(Organisation(id=f"org-{number}-{turn}", name=f"{number}-{turn}", created_at=1))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.all(select(Organisation))) == 81
    store.close()


def test_a_page_goes_on_after_its_cursor(tmp_path: Path) -> None:
    store = Store(_either(tmp_path / "a.db"))
    with store.write() as session:
        for number in range(5):
            session.add(
                Upload(
                    id=f"u{number}", organisation=LOCAL, filename="", purpose="", mime_type="", bytes=1, status="",
                    file=None, expires_after=None, created_at=1, expires_at=1,
                )
            )  # fmt: skip
            session.flush()
    seen, after, more = [], None, True
    while more:
        rows, more = page(store, select(Upload), Upload, after=after, limit=2)
        seen += [row.id for row in rows]
        after = seen[-1]
    assert seen == ["u4", "u3", "u2", "u1", "u0"]
    assert page(store, select(Upload), Upload, after="u0", limit=2) == ([], False)
    store.close()


def test_a_home_is_nobody_elses_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Home.open(tmp_path / "home").root.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "other"))
    assert default_home() == tmp_path / "other"


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match="cannot be used"):
        Home.open(tmp_path / "file" / "home")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
