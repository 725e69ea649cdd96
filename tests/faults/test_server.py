"""A server that crashes, is gone, or has limits of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import quote

import adbc_driver_postgresql.dbapi
import pytest

import crave_bulk as cb
from faults import cutting
from faults.bench import begun
from faults.counts import Counts, agree, ones
from faults.server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    def run(statement: str) -> None:
        with (
            adbc_driver_postgresql.dbapi.connect(server.url(), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)

    run("CREATE DATABASE faults")
    yield server.url("faults")
    run("DROP DATABASE faults WITH (FORCE)")


@pytest.mark.thorough
def test_a_server_that_crashes_in_the_middle_of_batches(server: Server, url: str) -> None:
    figures = cutting.crashes(server, url, seed=4, count=3)
    assert figures.complaints == [], figures
    assert figures.faults == 3
    assert figures.retries > 0


@pytest.mark.thorough
def test_a_server_that_is_gone(server: Server, url: str) -> None:
    with begun(url) as (db, written):
        server.stop_immediate()
        try:
            start = time.monotonic()
            with pytest.raises(cb.TimedOut, match="nothing was written: allow it more time"):
                db.upsert(Counts, ones(1), once="b1", timeout=0.5)
            assert 0.4 < time.monotonic() - start < 10
            with pytest.raises(cb.ConnectionFailed, match="run the call again"), db.transaction():
                db.upsert(Counts, ones(1), once="b1")
            with pytest.raises(cb.ConnectionFailed, match="check the host"):
                cb.connect(url)
        finally:
            server.start()
        report = db.upsert(Counts, ones(1), once="b1")
        written.add(ones(1))
        assert agree(db, url, written, report) == []


def test_the_limit_of_the_database_for_a_statement(url: str) -> None:
    limited = f"{url}&options={quote('-c statement_timeout=200ms')}"
    with begun(url) as (own, written), cb.connect(limited) as db:
        db.upsert(Counts, ones(0), once=False)
        written.add(ones(0))
        with (
            adbc_driver_postgresql.dbapi.connect(url) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT 1 FROM counts WHERE item = 7 FOR UPDATE")
            start = time.monotonic()
            with pytest.raises(
                cb.TimedOut, match="57014.*raise the limit of the database.*nothing was written"
            ):
                db.upsert(Counts, ones(1), once="b1")
            assert 0.15 < time.monotonic() - start < 10
            with pytest.raises(cb.TimedOut, match="57014"), db.transaction():
                db.upsert(Counts, ones(1), once="b1")
            connection.rollback()
        assert agree(own, url, written) == []
        report = db.upsert(Counts, ones(1), once="b1")  # on the same connection
        assert not report.replayed
        written.add(ones(1))
        assert agree(db, url, written, report) == []
