"""What the journal says is data: whoever changes it can have undo refused, and nothing of theirs run."""

from __future__ import annotations

import json
import random
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.arrow import pack

JOURNAL = "crave_bulk_batches_journal"


@pytest.fixture
def shop(db: cb.Database) -> cb.Database:
    with db.session() as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text, n numeric)")
        session.execute("CREATE TABLE other (id bigint PRIMARY KEY, v text, n numeric)")
        session.execute("CREATE TABLE secret (x text)")
        session.execute("INSERT INTO secret VALUES ('hidden')")
        session.execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)")
    return db


def stored(db: cb.Database) -> list[Any]:
    return sorted(db.read("t").rows())


def write(db: cb.Database) -> cb.Report:
    return db.upsert("t", pl.DataFrame({"id": [1, 3], "v": ["x", "y"]}))


def literal(db: cb.Database, value: str | bytes) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"X'{value.hex()}'" if db.backend.name == "sqlite" else f"'\\x{value.hex()}'"


def change(db: cb.Database, **values: str | bytes) -> None:
    """Write to the journal as somebody who knows it well."""
    with db.session() as session:
        for name, value in values.items():
            session.execute(f'UPDATE {JOURNAL} SET "{name}" = {literal(db, value)}')


def columns(db: cb.Database) -> list[dict[str, Any]]:
    with db.session() as session:
        found: list[dict[str, Any]] = json.loads(
            session.fetch(f"SELECT CAST(columns AS text) AS c FROM {JOURNAL}").item()
        )
    return found


def check_refused(db: cb.Database, report: cb.Report, match: str = "cannot be read") -> None:
    """Undo is refused with one clear error, with and without force, and as a plan; and nothing is changed."""
    now = stored(db)
    for options in ({}, {"force": True}, {"plan": True}):
        with pytest.raises(cb.BulkError, match=match):
            db.undo(report.batch_id, **options)  # type: ignore[call-overload]
        assert stored(db) == now
    assert db.read("other").is_empty()


EXPRESSION = "(SELECT x FROM secret)"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "shape",
    [
        "{}",
        "[]",
        "null",
        "1",
        '"text"',
        "[1, 2]",
        "[null]",
        "[[]]",
        '[{"name": "id"}]',
        '[{"name": 1, "type": "bigint", "key": true, "raw": false}]',
        '{"name": {"name": "id"}}',
    ],
)
def test_json_of_another_shape(shop: cb.Database, shape: str) -> None:
    report = write(shop)
    change(shop, columns=shape)
    check_refused(shop, report)


def test_json_that_is_none(db: cb.Database) -> None:
    if db.backend.name == "sqlite":  # the other one refuses it
        with db.session() as session:
            session.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text, n numeric)")
            session.execute("CREATE TABLE other (id bigint PRIMARY KEY)")
        report = write(db)
        for text in ("", "{", "nothing", "\x01"):
            change(db, columns=text)
            check_refused(db, report)


@pytest.mark.parametrize("key", ["stage", "read", "compare", "name", "type"])
def test_sql_in_the_journal_is_not_run(shop: cb.Database, key: str) -> None:
    report = write(shop)
    changed = columns(shop)
    changed[1][key] = EXPRESSION
    change(shop, columns=json.dumps(changed))
    check_refused(shop, report, "cannot be read|cannot be taken back")
    assert "hidden" not in str(stored(shop))


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (0, {"key": False}),
        (1, {"raw": True, "type": "numeric"}),
        (1, {"type": "bigint"}),
        (2, {"raw": 1}),
        (1, {"name": "id"}),
        (1, {"name": "gone"}),
        (1, {"name": None}),
        (2, {"type": "text"}),
    ],
)
def test_columns_that_do_not_exist_or_are_others(
    shop: cb.Database, place: int, values: dict[str, Any]
) -> None:
    report = write(shop)
    changed = columns(shop)
    changed[place] |= values
    change(shop, columns=json.dumps(changed))
    check_refused(shop, report, "cannot be read|cannot be taken back")


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.b.c", "no_such_table", "no.such", "crave_bulk_batches", "pg_catalog.pg_authid", EXPRESSION],
)
def test_table_names_that_do_not_exist(shop: cb.Database, name: str) -> None:
    report = write(shop)
    change(shop, table=name)
    check_refused(shop, report, "cannot be read|cannot be taken back")


@pytest.mark.thorough
@pytest.mark.parametrize("side", ["before", "after", "new"])
def test_bytes_that_are_others(shop: cb.Database, side: str) -> None:
    report = write(shop)
    with shop.session() as session:
        good = bytes(session.fetch(f'SELECT "{side}" AS b FROM {JOURNAL}').item())
    found = random.Random(7)
    bad = [b"", b"garbage", good[:-1], good[:20], good + b"x", b"\0" * len(good), good[16:]]
    for _ in range(6):
        flipped = bytearray(good)
        flipped[found.randrange(len(good))] ^= 1 << found.randrange(8)
        bad.append(bytes(flipped))
    for content in bad:
        change(shop, **{side: content})
        check_refused(shop, report)
    change(shop, **{side: good})
    report.undo()


WRONG = [
    pl.DataFrame(),
    pl.DataFrame({"id": [1]}),
    pl.DataFrame({"id": ["1"], "v": ["a"], "n": ["1"]}),
    pl.DataFrame({"id": [1], "v": [5], "n": ["1"]}),
    pl.DataFrame({"id": [1], "v": ["a"], "n": [1.5]}),
    pl.DataFrame({"id": [1], "v": [["a"]], "n": ["1"]}),
    pl.DataFrame({"id": [1, 1], "v": ["a", "a"], "n": ["i1", "i1"]}),
    pl.DataFrame({"v": ["a"], "id": [1], "n": ["i1"]}),
]


@pytest.mark.thorough
@pytest.mark.parametrize("rows", WRONG)
@pytest.mark.parametrize("sides", [("before",), ("new",), ("before", "new"), ("after",)])
def test_rows_of_another_shape(shop: cb.Database, rows: pl.DataFrame, sides: tuple[str, ...]) -> None:
    report = write(shop)
    change(shop, **dict.fromkeys(sides, pack(rows)))
    check_refused(
        shop,
        report,
        "cannot be read|cannot be taken back|have changed since|has changed since|cannot be put back",
    )
    assert "hidden" not in str(stored(shop))


def test_sql_among_the_values_is_not_run(shop: cb.Database) -> None:
    report = write(shop)
    now = stored(shop)
    change(shop, before=pack(pl.DataFrame({"id": [1], "v": [EXPRESSION], "n": [EXPRESSION]})))
    with pytest.raises(cb.BulkError):
        report.undo()
    assert stored(shop) == now


def test_rows_that_are_kept_beside_no_key(shop: cb.Database) -> None:
    report = write(shop)
    with shop.session() as session:
        session.execute(f"UPDATE {JOURNAL} SET part = 7")
    report.undo()
    assert stored(shop) == [(1, "a", *stored(shop)[0][2:]), (2, "b", *stored(shop)[1][2:])]


def test_a_report_that_is_damaged_is_said_to_be(db: cb.Database) -> None:
    with db.session() as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text, n numeric)")
    frame = pl.DataFrame({"id": [1], "v": ["x"]})
    db.upsert("t", frame, once="nightly")
    head = b'{"sizes": 5}'
    for content in (b"", b"garbage", len(head).to_bytes(4) + head, b"\0\0\0\2{}", b"\0\0\0\2[]"):
        with db.session() as session:
            session.execute(f"UPDATE crave_bulk_batches SET report = {literal(db, content)}")
        with pytest.raises(cb.DatabaseError, match="damaged"):
            db.upsert("t", frame, once="nightly")


def test_another_table_is_not_written(shop: cb.Database) -> None:
    report = write(shop)
    change(shop, table="other" if shop.backend.name == "sqlite" else "public.other")
    check_refused(shop, report, "is about table .*other, which the batch did not write")


def test_the_tables_that_go_along_are(db: cb.Database) -> None:
    with db.session() as session:
        session.execute("CREATE TABLE a (id bigint PRIMARY KEY)")
        session.execute("CREATE TABLE b (id bigint PRIMARY KEY, a bigint REFERENCES a ON DELETE CASCADE)")
        session.execute("CREATE TABLE c (id bigint PRIMARY KEY, b bigint REFERENCES b ON DELETE SET NULL)")
        for statement in (
            "INSERT INTO a VALUES (1)",
            "INSERT INTO b VALUES (1, 1)",
            "INSERT INTO c VALUES (1, 1)",
        ):
            session.execute(statement)
    report = db.delete("a", [1])
    assert db.read("c").rows() == [(1, None)]
    report.undo()
    assert db.read("c").rows() == db.read("b").rows() == [(1, 1)]


@pytest.mark.parametrize("name", ["my table", "a,b", "a, b", '"x.y"', '"Ünï"'])
def test_a_table_is_known_whatever_it_is_called(db: cb.Database, name: str) -> None:
    with db.session() as session:
        session.execute(f'CREATE TABLE "{name.strip(chr(34))}" (id bigint PRIMARY KEY)')
    report = db.insert(name, pl.DataFrame({"id": [1]}))
    report.undo().undo()
    assert db.read(name).height == 1
