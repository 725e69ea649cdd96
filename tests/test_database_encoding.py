"""A PostgreSQL database in another encoding than UTF-8: what it cannot hold is a reject of its row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import pytest
from conftest import _statements
from reflecting import run

import crave_bulk as cb


@pytest.fixture(params=["LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"])
def encoded(request: pytest.FixtureRequest, databases: Any) -> Iterator[tuple[str, str]]:
    url = databases["postgres"]
    name = f"{urlsplit(url).path[1:]}_{request.param.lower()}"
    with _statements(url) as cursor:
        cursor.execute(
            f"CREATE DATABASE {name} ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    try:
        yield request.param, urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        with _statements(url) as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


HELD = {"LATIN1": "é", "WIN1252": "é€", "EUC_JP": "漢", "SQL_ASCII": "é漢😀"}
LACKED = {"LATIN1": "漢", "WIN1252": "漢", "EUC_JP": "😀", "SQL_ASCII": ""}


def test_a_character_that_the_database_lacks_is_a_reject(encoded: tuple[str, str]) -> None:
    encoding, url = encoded
    held, lacked = HELD[encoding], LACKED[encoding]
    with cb.connect(url) as db:
        run(db, "CREATE TABLE t (k text PRIMARY KEY, s varchar(9), l text[], j json)")
        good = {"k": ["a", held], "s": [held, None], "l": [[held, None], []], "j": [f'"{held}"', None]}
        assert db.insert("t", pl.DataFrame(good), on_reject="keep").counts == {"input": 2, "inserted": 2}
        assert db.read("t", order_by="k").to_dict(as_series=False) == good
        if not lacked:
            return
        bad = pl.DataFrame(
            {
                "k": ["b", "x" + lacked, "c", "d", "e"],
                "s": ["ok", held, lacked, None, None],
                "l": [["x"], None, None, ["y", lacked], None],
                "j": [None, None, None, None, f'{{"a": "{lacked}"}}'],
            }
        )
        report = db.upsert("t", bad, on_reject="keep")
        assert report.counts == {"input": 5, "inserted": 1, "rejected": 4}
        found = report.failures.select("row", "stage", "rule", "column").rows()
        assert found == [(n, "validate", "encoding", name) for n, name in enumerate("kslj", 1)]
        assert report.failures["message"].to_list()[0] == (
            f"k holds the character '{lacked}', which {encoding}, the encoding of the database, lacks"
        )
        assert report.rejected.height == 4
        with pytest.raises(cb.RejectedRows):
            db.insert("t", bad)
        report = db.sync("t", bad, on_reject="keep")
        assert report.counts == {"input": 7, "unchanged": 1, "rejected": 4, "deleted": 2}
        report = db.update_where("t", {"s": lacked}, where={"k": "b"}, on_reject="keep")
        assert report.counts == {"input": 1, "rejected": 1}
        assert db.read("t", columns=["k"])["k"].to_list() == ["b"]


def test_a_character_that_the_database_lacks_in_a_condition_or_a_name(encoded: tuple[str, str]) -> None:
    encoding, url = encoded
    lacked = LACKED[encoding]
    if not lacked:
        return
    frame = pl.DataFrame({"id": [1], "name": ["a"]})
    with cb.connect(url) as db:
        run(db, "CREATE TABLE t (id int PRIMARY KEY, name text, tags text[])")
        calls: list[Callable[[], Any]] = [
            lambda: db.read("t", where={"name": lacked}),
            lambda: db.read("t", where={"name__in": ["a", lacked]}),
            lambda: db.read("t", where={"name__contains": lacked}),
            lambda: db.read("t", where={"tags__contains": lacked}),
            lambda: db.read("t", where=f"name = '{lacked}'"),
            lambda: db.update_where("t", {"name": "b"}, where={"name": lacked}),
            lambda: db.delete_where("t", {"name": lacked}),
            lambda: db.insert("t", frame, once=lacked),
            lambda: db.insert(lacked, frame),
            lambda: db.read(lacked),
        ]
        for call in calls:
            with pytest.raises(cb.BulkError) as error:
                call()
            assert str(error.value).startswith(
                f"{encoding}, the encoding of the database, lacks the character '{lacked}', so no name, condition"
            )
        assert db.insert("t", frame).counts["inserted"] == 1


@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_text_that_is_not_utf_8_is_named(encoded: tuple[str, str]) -> None:
    bad = "convert_from('\\xff41', 'SQL_ASCII')"
    with cb.connect(encoded[1]) as db:
        run(
            db,
            "CREATE TABLE t (id int PRIMARY KEY, name text, tags text[])",
            f"INSERT INTO t VALUES (1, 'é', NULL), (2, 'b', '{{c}}'), (3, {bad}, NULL), (4, 'd', ARRAY[{bad}])",
            "CREATE TABLE k (name text PRIMARY KEY)",
            f"INSERT INTO k VALUES ({bad})",
        )
        for columns in (None, ["name"]):
            with pytest.raises(
                cb.Unreadable, match=r"column 'name' \(String\) .* id = 3: text that is not UTF-8"
            ):
                db.read("t", columns=columns)
        with pytest.raises(cb.Unreadable, match=r"column 'tags' .* id = 4: text that is not UTF-8"):
            db.read("t", columns=["tags"])
        assert db.read("t", where={"id__lt": 3}, order_by="id")["name"].to_list() == ["é", "b"]
        with pytest.raises(
            cb.Unreadable, match=r"table k .* column 'name' .* cannot: text that is not UTF-8"
        ):
            db.read("k")
        with db.transaction(), pytest.raises(cb.DatabaseError, match="22021"):
            db.read("t")
