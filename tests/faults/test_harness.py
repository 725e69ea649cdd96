"""The fault bench does what it says: it cuts, kills and crashes, at the moment that it is asked to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.examples import Foods
from faults.proxy import CuttingProxy
from faults.server import Server
from faults.writers import backends_left, kill_at, locks_left, spawn, staging_left, wait_until

pytestmark = pytest.mark.thorough

Cursor = adbc_driver_postgresql.dbapi.Cursor


@contextmanager
def statements(url: str) -> Iterator[Cursor]:
    with (
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def rows(url: str) -> list[Any]:
    with statements(url) as cursor:
        cursor.execute("SELECT a FROM t ORDER BY a")
        return [a for (a,) in cursor.fetchall()]


@pytest.fixture
def database(databases: dict[str, str]) -> Iterator[str]:
    url = databases["postgres"]
    with statements(url) as cursor:
        cursor.execute("CREATE TABLE t (a bigint)")
    yield url
    with statements(url) as cursor:
        cursor.execute("DROP TABLE t")


@pytest.fixture
def proxy(database: str) -> Iterator[CuttingProxy]:
    with CuttingProxy(database) as proxy:
        yield proxy
    assert "cutting-proxy" not in {thread.name for thread in threading.enumerate()}


def test_what_is_written_through_the_proxy_is_there(proxy: CuttingProxy, database: str) -> None:
    frame = pl.DataFrame({"a": range(300_000)})  # more than fits the buffers on the way, both ways
    with adbc_driver_postgresql.dbapi.connect(proxy.url()) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("t", frame, mode="append")
        connection.commit()
        cursor.execute("SELECT a FROM t ORDER BY a")
        assert pl.DataFrame(cursor.fetch_arrow_table()).equals(frame)
        assert proxy.connections == 1
    wait_until(lambda: proxy.connections == 0)


def test_a_cut_ends_every_connection_and_a_new_one_works(proxy: CuttingProxy, database: str) -> None:
    with statements(proxy.url()) as one, statements(proxy.url()) as other:
        one.execute("BEGIN")
        one.execute("INSERT INTO t VALUES (1)")
        assert (proxy.connections, backends_left(database)) == (2, 1)
        assert locks_left(database) > 0
        proxy.cut()
        assert proxy.connections == 0
        for cursor in (one, other):
            with pytest.raises(adbc_driver_manager.OperationalError):
                cursor.execute("SELECT 1")
    wait_until(lambda: not backends_left(database))
    assert locks_left(database) == 0
    with statements(proxy.url()) as cursor:
        cursor.execute("INSERT INTO t VALUES (2)")
    assert rows(database) == [2]


def test_an_answer_is_lost_but_not_what_was_asked_for(proxy: CuttingProxy, database: str) -> None:
    with statements(proxy.url()) as cursor, statements(proxy.url()) as other:
        proxy.cut_after_request()
        with pytest.raises(adbc_driver_manager.OperationalError):
            cursor.execute("INSERT INTO t VALUES (1)")
        assert not proxy.armed
        assert rows(database) == [1]
        other.execute("INSERT INTO t VALUES (2)")  # only the one connection was cut
    assert rows(database) == [1, 2]


def test_the_answer_to_one_kind_of_command_is_lost(proxy: CuttingProxy, database: str) -> None:
    with adbc_driver_postgresql.dbapi.connect(proxy.url()) as connection, connection.cursor() as cursor:
        proxy.cut_after_request("COMMIT")
        cursor.execute("INSERT INTO t VALUES (1)")
        assert proxy.armed
        with pytest.raises(adbc_driver_manager.OperationalError):
            connection.commit()
        assert rows(database) == [1]


def test_new_connections_are_refused_for_a_while(proxy: CuttingProxy) -> None:
    with statements(proxy.url()) as cursor:
        proxy.refuse(True)
        with pytest.raises(adbc_driver_manager.OperationalError), statements(proxy.url()):
            pass
        cursor.execute("SELECT 1")  # it was there before
        proxy.refuse(False)
        with statements(proxy.url()) as another:
            another.execute("SELECT 1")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_a_crash_keeps_what_was_committed_and_nothing_else(server: Server) -> None:
    with statements(server.url()) as cursor, statements(server.url()) as other:
        cursor.execute("CREATE TABLE t (a bigint)")
        cursor.execute("INSERT INTO t VALUES (1)")
        other.execute("BEGIN")
        other.execute("INSERT INTO t VALUES (2)")
        server.stop_immediate()
        assert not server.running
        with pytest.raises(adbc_driver_manager.OperationalError):
            other.execute("COMMIT")
    with pytest.raises(adbc_driver_manager.OperationalError), statements(server.url()):
        pass
    server.start()
    assert rows(server.url()) == [1]
    assert "redo starts" in server.log()


WRITER = """
import sys, time, polars as pl, crave_bulk as cb
with cb.connect(sys.argv[1]) as db, db.session() as session:
    session.ingest("crave_bulk_stage", pl.DataFrame({"a": [1]}))
    with session.atomic():
        session.execute("INSERT INTO foods VALUES (1, 'soup')")
        print("go", flush=True)
        print("one row", flush=True)
        time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing(db: cb.Database, url: str) -> None:
    db.create(Foods)
    with spawn(WRITER, url) as writer:
        if url.startswith("postgresql"):
            ready = ["crave_bulk_stage"]
            wait_until(lambda: backends_left(url) == 1 and staging_left(url) == ready, seconds=60)
            assert locks_left(url) > 0
        assert kill_at(writer, 0.3) == ["one row"]
    if url.startswith("postgresql"):
        wait_until(lambda: backends_left(url) == 0 and staging_left(url) == [])
        assert locks_left(url) == 0
    assert staging_left(url) == []
    assert db.read(Foods).is_empty()


def test_a_writer_that_ends_by_itself_is_not_taken_for_a_killed_one() -> None:
    for code, complaint in (("print('go')", "ended by itself"), ("print('no')", "did not begin")):
        with spawn(code) as writer, pytest.raises(AssertionError, match=complaint):
            kill_at(writer, 0.3)


def test_a_staging_table_that_was_left_in_a_file_is_found(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "left.db")) as connection:
        connection.execute("CREATE TABLE crave_bulk_stage_2 (a)")
    assert staging_left(f"sqlite:///{tmp_path}/left.db") == ["crave_bulk_stage_2"]
