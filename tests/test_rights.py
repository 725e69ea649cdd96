"""What a login may not do, or a server has no room for, is one clear error, or is done without."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

import polars as pl
import pytest
from conftest import _statements, empty_database

import crave_bulk as cb
from crave_bulk.examples import Foods

FRAME = pl.DataFrame({"food_id": [1], "name": ["soup"]})


@pytest.fixture
def guest(databases: dict[str, str]) -> Iterator[str]:
    """The URL of a login with the rights that everybody has, and those of a table of its own."""
    url, name = databases["postgres"], urlsplit(databases["postgres"]).path[1:]
    with _statements(url) as cursor:
        cursor.execute("CREATE ROLE guest LOGIN")
        cursor.execute("GRANT ALL ON SCHEMA public TO guest")
        cursor.execute("CREATE SCHEMA closed")
        cursor.execute("CREATE TABLE closed.foods (food_id bigint PRIMARY KEY, name text)")
        cursor.execute("CREATE TABLE half (food_id bigint PRIMARY KEY, name text)")
        cursor.execute("GRANT SELECT (food_id), INSERT ON half TO guest")
    parts = urlsplit(url)
    yield urlunsplit(parts._replace(query=f"{parts.query}&user=guest" if parts.query else "user=guest"))
    with _statements(url) as cursor:
        cursor.execute(f"GRANT TEMPORARY ON DATABASE {name} TO PUBLIC")
    empty_database(url)
    with _statements(url) as cursor:
        cursor.execute("DROP OWNED BY guest")
        cursor.execute("DROP ROLE guest")


def test_without_the_right_to_stage(guest: str, databases: dict[str, str]) -> None:
    name = urlsplit(guest).path[1:]
    with _statements(databases["postgres"]) as cursor:
        cursor.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    with cb.connect(guest) as db:
        db.create(Foods)
        for call in (db.insert, db.upsert, db.update, db.sync):
            with pytest.raises(cb.PermissionRefused, match=f"GRANT TEMPORARY ON DATABASE {name} TO guest"):
                call(Foods, FRAME)
        assert db.read(Foods).is_empty()


def test_in_a_session_that_is_read_only(guest: str) -> None:
    with cb.connect(guest) as db:
        db.create(Foods)
    with cb.connect(f"{guest}&options={quote('-c default_transaction_read_only=on')}") as db:
        assert db.read(Foods).is_empty()
        for call in (db.insert, db.upsert, db.update, db.sync):
            with pytest.raises(cb.ReadOnlyDatabase, match="read-only"):
                call(Foods, FRAME)
        with pytest.raises(cb.ReadOnlyDatabase):
            db.delete_where(Foods, "food_id = 1")


def test_without_the_right_to_a_schema_or_to_a_column(guest: str) -> None:
    with cb.connect(guest) as db:
        with pytest.raises(cb.PermissionRefused, match="permission denied for schema closed"):
            db.read("closed.foods")
        with pytest.raises(cb.PermissionRefused, match="permission denied for schema closed"):
            db.upsert("closed.foods", FRAME)
        assert db.read("half", columns=["food_id"]).is_empty()
        for call in (lambda: db.read("half"), lambda: db.upsert("half", FRAME)):
            with pytest.raises(cb.PermissionRefused, match="permission denied for table half"):
                call()


def test_with_one_connection_left(guest: str, databases: dict[str, str]) -> None:
    with _statements(databases["postgres"]) as cursor:
        cursor.execute("ALTER ROLE guest CONNECTION LIMIT 2")
    with cb.connect(guest) as taken, taken.session(), cb.connect(guest) as db:
        with db.transaction():  # the ledger would be created on a second connection
            db.create(Foods)
            assert db.insert(Foods, FRAME).counts["inserted"] == 1
        assert db.read(Foods).equals(FRAME)
        assert db.batches().height == 1
        with db.session(), pytest.raises(cb.ConnectionFailed, match="too many connections"):
            cb.connect(guest)


def test_the_ledger_is_created_anew_if_it_went_with_the_transaction(
    guest: str, databases: dict[str, str]
) -> None:
    with _statements(databases["postgres"]) as cursor:
        cursor.execute("ALTER ROLE guest CONNECTION LIMIT 2")
    with cb.connect(guest) as taken, taken.session(), cb.connect(guest) as db:
        with pytest.raises(ZeroDivisionError), db.transaction():
            db.create(Foods)
            db.insert(Foods, FRAME)
            raise ZeroDivisionError
        db.create(Foods)
        assert db.insert(Foods, FRAME).counts["inserted"] == 1
        assert db.batches().height == 1
