"""What the role, the database or the URL sets does not change what is read or written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

import polars as pl
import pytest
from conftest import _statements, empty_database
from reflecting import ask, run

import crave_bulk as cb

SETTINGS = {
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "quote_all_identifiers": "on",
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "search_path": "public",
    "TimeZone": "Asia/Kathmandu",
    "default_transaction_isolation": "serializable",
}


class Things(cb.Table):
    id: int = cb.field(key=True)
    text: str = cb.field()
    raw: bytes = cb.field(nullable=True)
    at: pl.Datetime("us", "UTC") = cb.field(nullable=True)  # type: ignore[valid-type]
    span: pl.Duration("us") = cb.field(nullable=True)  # type: ignore[valid-type]
    times: pl.List(pl.Time) = cb.field(nullable=True)  # type: ignore[valid-type]
    half: float = cb.field(nullable=True)


FRAME = pl.DataFrame(
    {
        "id": [1, 2],
        "text": ["back\\slash' é漢", "\\"],
        "raw": [b"\x00\\\xff", b"'"],
        "at": [dt.datetime(2024, 2, 1, 12, 30, tzinfo=dt.UTC), None],
        "span": [dt.timedelta(days=40, microseconds=1), None],
        "times": [[dt.time(1, 2, 3, 4), None], []],
        "half": [0.1 + 0.2, -0.0],
    },
    schema_overrides={"times": pl.List(pl.Time), "at": pl.Datetime("us", "UTC")},
)
FOUND = """CREATE TABLE found (id int PRIMARY KEY, words text[], floats float8[], spans interval[], during daterange,
    pair complex, moods mood[], raw bytea[])"""


@pytest.fixture(params=["role", "database", "options"])
def elsewhere(request: pytest.FixtureRequest, databases: dict[str, str]) -> Iterator[str]:
    """The URL of a database whose settings are set by a role, the database or the URL."""
    url, name = databases["postgres"], urlsplit(databases["postgres"]).path[1:]
    owner = {"role": "ROLE stranger", "database": f"DATABASE {name}"}.get(request.param)
    with _statements(url) as cursor:
        cursor.execute("CREATE ROLE stranger LOGIN SUPERUSER")
        for setting, value in SETTINGS.items() if owner else ():
            cursor.execute(f"ALTER {owner} SET {setting} = '{value}'")
    more = "user=stranger"
    if not owner:
        more += "&options=" + quote(" ".join(f"-c {s}={v}" for s, v in SETTINGS.items()), safe="")
    parts = urlsplit(url)
    yield urlunsplit(parts._replace(query=f"{parts.query}&{more}" if parts.query else more))
    with _statements(url) as cursor:
        cursor.execute(f"ALTER DATABASE {name} RESET ALL")
    empty_database(url)
    with _statements(url) as cursor:
        cursor.execute("DROP ROLE stranger")


def test_every_value_goes_in_and_out_as_it_is(elsewhere: str, databases: dict[str, str]) -> None:
    with cb.connect(elsewhere) as db:
        db.create(Things)
        db.insert(Things, FRAME)
        assert db.read(Things, order_by="id").equals(FRAME)
        assert db.read(Things, where="text = 'back\\slash'' é漢'").height == 1
        assert db.upsert(Things, FRAME).counts["unchanged"] == 2
        report = db.update(Things, FRAME.with_columns(text=pl.lit("x\\")))
    with cb.connect(databases["postgres"]) as plain:  # what was journalled there is undone here
        assert plain.read(Things, order_by="id").equals(FRAME.with_columns(text=pl.lit("x\\")))
        plain.undo(report.batch_id)
        assert plain.read(Things, order_by="id").equals(FRAME)


def test_tables_of_others_are_read_and_written_alike(elsewhere: str, databases: dict[str, str]) -> None:
    with cb.connect(databases["postgres"]) as plain:
        run(
            plain,
            "CREATE TYPE complex AS (r float8, at date)",
            "CREATE TYPE mood AS ENUM ('so\\so', 'ok')",
            FOUND,
            """INSERT INTO found VALUES (1, '{NULL,"NULL",a}', '{0.1,0.30000000000000004}', '{1 day 02:00:00}',
            '[2024-02-01,2024-03-04)', '(0.30000000000000004,2024-02-01)', '{ok}', '{"\\\\x00ff"}')""",
        )
        as_it_is = plain.read("found")
    with cb.connect(elsewhere) as db:
        assert db.read("found").equals(as_it_is)
        assert db.upsert("found", as_it_is).counts["unchanged"] == 1
        report = db.insert("found", as_it_is.with_columns(id=pl.lit(2, pl.Int32)))
        assert report.counts["inserted"] == 1
    with cb.connect(databases["postgres"]) as plain:
        assert plain.read("found", where={"id": 2}).drop("id").equals(as_it_is.drop("id"))


def test_the_users_own_path_and_settings_stay(elsewhere: str) -> None:
    with cb.connect(elsewhere) as db:
        settings = "SELECT current_setting('search_path') AS path, current_setting('TimeZone') AS zone"
        kept = ask(db, settings).row(0)
    assert kept == ("public", "Asia/Kathmandu")


def test_a_database_of_another_encoding(databases: dict[str, str]) -> None:
    url, name = databases["postgres"], "crave_bulk_latin"
    with _statements(url) as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(
            f"CREATE DATABASE {name} ENCODING latin1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    try:
        with cb.connect(urlunsplit(urlsplit(url)._replace(path=f"/{name}"))) as db:
            run(db, "CREATE TABLE s (id int PRIMARY KEY, s text)")
            db.insert("s", pl.DataFrame({"id": [1], "s": ["é"]}))
            assert ask(db, "SELECT octet_length(convert_to(s, 'latin1')) AS n FROM s").item() == 1
            assert db.read("s")["s"].to_list() == ["é"]
            with pytest.raises(cb.RejectedRows, match="LATIN1, the encoding of the database, lacks"):
                db.insert("s", pl.DataFrame({"id": [2], "s": ["漢"]}))
    finally:
        with _statements(url) as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
