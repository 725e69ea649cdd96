"""Undo gives back the very value that was there, also one that no frame can hold, and leaves other columns alone."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb

# -- SQLite: a column of any type may hold values of any kind ------------------------------------------

TYPES = [
    "",
    "INTEGER",
    "BIGINT",
    "BOOLEAN",
    "REAL",
    "FLOAT",
    "NUMERIC",
    "DECIMAL(10,2)",
    "TEXT",
    "VARCHAR(3)",
    "BLOB",
    "DATE",
    "TIME",
    "DATETIME",
    "TIMESTAMP",
    "JSON",
    "UUID",
    "INTERVAL",
    "DECIMAL_TEXT(10,2)",
    "MADE UP",
]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
    st.sampled_from(
        ["1,5", "007", "2.50", "1e3", "2024-05-01T10:00:00Z", "10:00", "n/a", "a\0b", "ü\0", "i5", ""]
    ),
    st.binary(max_size=4),
    st.sampled_from([1714566615, 1704164645123, 2460000.5, 2.5, -0.0, 1e300, math.inf, -math.inf, 0.1]),
)


@dataclass(frozen=True)
class Text:
    """Text that need not be UTF-8."""

    written: bytes


VALUES |= st.builds(Text, st.binary(min_size=1, max_size=4))


class File:
    """A SQLite file that others write to as well."""

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, f"sqlite:///{path}"

    def run(self, statement: str, *values: Any) -> list[Any]:
        connection = sqlite3.connect(self.path)
        connection.text_factory = bytes
        try:
            found = connection.execute(statement, values).fetchall()
            connection.commit()
            return found
        finally:
            connection.close()

    def stored(self, table: str = "t") -> list[Any]:
        names = [row[1].decode() for row in self.run(f"PRAGMA table_info({table})")]
        exact = ", ".join(f"typeof({n}), CAST({n} AS BLOB), quote({n}), {n}" for n in names)
        return self.run(f"SELECT {exact} FROM {table} ORDER BY 1, 2, 3")


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "others.db")


def writes(db: cb.Database, rows: int) -> Iterator[tuple[str, Any]]:
    """Give calls that do not say anything of the column v, and such as delete its rows."""
    ids = list(range(rows))
    yield "update", lambda **o: db.update("t", pl.DataFrame({"id": ids, "note": ["new"] * rows}), **o)
    yield "upsert", lambda **o: db.upsert("t", pl.DataFrame({"id": ids, "note": ["new"] * rows}), **o)
    yield "update_where", lambda **o: db.update_where("t", {"note": "new"}, "id >= 0", **o)
    yield "delete", lambda **o: db.delete("t", ids, **o)
    yield "delete_where", lambda **o: db.delete_where("t", "id >= 0", **o)
    yield "sync", lambda **o: db.sync("t", pl.DataFrame({"id": [900], "note": ["x"]}), **o)


@examples(12)
@given(sql_type=st.sampled_from(TYPES), values=st.lists(VALUES, min_size=1, max_size=5))
def test_any_value_in_a_column_of_any_type_comes_back_in_its_kind(
    file: File, sql_type: str, values: list[Any]
) -> None:
    file.run("DROP TABLE IF EXISTS t")
    file.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {sql_type}, note TEXT)")
    for place, value in enumerate(values):
        if isinstance(value, Text):
            file.run("INSERT INTO t VALUES (?, CAST(? AS TEXT), 'old')", place, value.written)
        else:
            file.run("INSERT INTO t VALUES (?, ?, 'old')", place, value)
    before = file.stored()
    with cb.connect(file.url) as db:
        for _, write in writes(db, len(values)):
            plan = write(plan=True)
            assert plan.changes.height
            report = write()
            assert file.stored() != before
            undone = report.undo()
            assert file.stored() == before
            undone.undo().undo()
            assert file.stored() == before


def test_the_plan_shows_what_is_there(file: File) -> None:
    file.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v, n INTEGER, at DATETIME, raw TEXT)")
    file.run("INSERT INTO t VALUES (1, 'ü', 2.5, 1704164645123, CAST(x'61ff' AS TEXT))")
    with cb.connect(file.url) as db:
        plan = db.delete("t", [1], plan=True)
    found = dict(plan.changes.select("column", "old").rows())
    assert found == {
        "id": "1",
        "v": "ü",
        "n": "2.5",
        "at": "1704164645123",
        "raw": "a\N{REPLACEMENT CHARACTER}",
    }


@pytest.mark.parametrize(
    ("column", "was", "now"),
    [
        ("v", "5", "'5'"),
        ("v", "'5'", "x'35'"),
        ("v", "2", "2.0"),
        ("v", "0.1", "0.10000000000000002"),
        ("n", "2.5", "3"),
        ("n", "2.5", "'2,5'"),
        ("n", "5", "x'35'"),
    ],
)
def test_a_value_of_another_kind_that_others_write_since_is_noticed(
    file: File, column: str, was: str, now: str
) -> None:
    file.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v, n INTEGER, note TEXT)")
    file.run(f"INSERT INTO t (id, {column}, note) VALUES (1, {was}, 'a')")
    with cb.connect(file.url) as db:
        report = db.update("t", pl.DataFrame({"id": [1], "note": ["b"]}))
        file.run(f"UPDATE t SET {column} = {now}")
        with pytest.raises(cb.UndoRefused) as refused:
            report.undo()
    assert refused.value.rows["column"].to_list() == [column]


def test_undo_does_not_write_columns_that_the_batch_did_not_change(file: File) -> None:
    file.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, note TEXT)")
    file.run("INSERT INTO t VALUES (1, 5, 'a'), (2, 6, 'b')")
    file.run("CREATE TABLE log (what TEXT)")
    file.run("CREATE TRIGGER w AFTER UPDATE OF v ON t BEGIN INSERT INTO log VALUES ('v'); END")
    with cb.connect(file.url) as db:
        db.update("t", pl.DataFrame({"id": [1, 2], "note": ["x", "y"]})).undo()
    assert file.run("SELECT * FROM log") == []
    assert file.run("SELECT note FROM t") == [(b"a",), (b"b",)]


def test_rows_that_go_along_keep_their_kinds(file: File) -> None:
    file.run("CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)")
    file.run(
        "CREATE TABLE kid (k INTEGER PRIMARY KEY, t INTEGER REFERENCES t ON DELETE CASCADE, v, n INTEGER)"
    )
    file.run("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    file.run("INSERT INTO kid VALUES (1, 1, 5, 2.5), (2, 1, '5', 'x'), (3, 2, x'00', 1)")
    before = file.stored("kid")
    with cb.connect(file.url) as db:
        report = db.delete("t", [1, 2])
        assert file.stored("kid") == []
        undone = report.undo()
        assert file.stored("kid") == before
        undone.undo()
        assert file.stored("kid") == []


def test_a_row_whose_key_no_frame_can_hold_is_refused(file: File) -> None:
    file.run("CREATE TABLE t (id INTEGER NOT NULL UNIQUE, note TEXT)")
    file.run("INSERT INTO t VALUES (2.5, 'a'), (2, 'b')")
    before = file.stored()
    with cb.connect(file.url) as db:
        for write in (
            lambda: db.update_where("t", {"note": "x"}, "note = 'a'"),
            lambda: db.delete_where("t", "note = 'a'"),
        ):
            with pytest.raises(cb.BulkError, match="column 'id'"):
                write()
            assert file.stored() == before


# -- PostgreSQL ----------------------------------------------------------------------------------------

COLUMNS = {
    "stamp": (
        "timestamptz",
        ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "20000-01-01", "2024-05-01 12:00+02"],
    ),
    "plain": (
        "timestamp(3)",
        ["infinity", "0001-01-01", "9999-12-31 23:59:59.999", "10000-01-01", "294276-12-31"],
    ),
    "day": ("date", ["-infinity", "0044-03-15 BC", "10000-01-01", "5874897-12-31", "2024-02-29"]),
    "clock": ("time", ["24:00:00", "23:59:59.999999", "00:00:00", "12:00", "24:00"]),
    "zoned": ("timetz", ["24:00:00+02", "12:00:00-03", "00:00+00", "23:59:59+15:59", "12:00+00"]),
    "span": (
        "interval",
        ["1 day", "24:00:00", "1 mon", "-1 mon +30 days -00:00:00.000001", "178000000 years"],
    ),
    "spans": ("interval[]", ["{1 day,24:00:00}", "{}", "{NULL}", "{1 mon}", "{{1 mon},{1 day}}"]),
    "num": (
        "numeric",
        ["1.10", "NaN", "1e-30", "123456789012345678901234567890.1234567890123456789", "Infinity"],
    ),
    "nums": ("numeric[]", ["{1.10,NaN}", "[0:1]={1,2}", "{}", "{{1},{2}}", "{NULL,1e-20}"]),
    "whole": ("int[]", ["[0:2]={1,2,3}", "{{1,2},{3,4}}", "{}", "{NULL}", "{1,2}"]),
    "texts": ("text[]", ["[5:5]={a}", '{"NULL",NULL,"a\\"b"}', "{{a},{b}}", "{}", "{ü}"]),
    "days": ("date[]", ["{infinity,2024-01-01}", "{0044-03-15 BC}", "{}", "[2:2]={2024-01-01}", "{NULL}"]),
    "moments": (
        "tstzrange",
        ["[infinity,infinity]", "empty", "(,)", "[2024-01-01,2024-02-01)", "[0044-03-15 BC,)"],
    ),
    "bits": ("bit varying", ["101", "", "0", "1", "111111111"]),
    "doc": ("jsonb", ['{"a": 1.10}', "null", "[1, 2]", '"x"', "1e400"]),
    "letter": ('"char"', ["a", "", "b", "c", "d"]),
    "padded": ("char(3)", ["a", "ab", "abc", "", " b"]),
    "net": ("inet", ["10.0.0.1", "10.0.0.1/8", "::1", "0.0.0.0/0", "10.0.0.1/32"]),
    "ratio": ("float8", ["NaN", "Infinity", "-Infinity", "0.1", "5e-324"]),
}


@pytest.fixture
def odd(server_db: cb.Database) -> cb.Database:
    with server_db.session() as session:
        columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
        session.execute(f"CREATE TABLE t (id int PRIMARY KEY, note text, {columns})")
        for place in range(5):
            values = ", ".join(f"E'{escaped(values[place])}'" for _, values in COLUMNS.values())
            session.execute(f"INSERT INTO t VALUES ({place}, 'old', {values})")
        session.execute("INSERT INTO t (id, note) VALUES (5, 'old')")
    return server_db


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def server_rows(db: cb.Database) -> list[Any]:
    with db.session() as session:
        texts = ", ".join(f"{name}::text" for name in ("note", *COLUMNS))
        return session.fetch(f"SELECT id::int, {texts} FROM t ORDER BY id").rows()


@pytest.mark.parametrize("verb", ["update", "upsert", "update_where", "delete", "delete_where", "sync"])
def test_what_a_call_does_not_touch_stops_neither_its_plan_nor_its_undo(odd: cb.Database, verb: str) -> None:
    before = server_rows(odd)
    write = dict(writes(odd, 6))[verb]
    plan = write(plan=True)
    assert plan.changes.height
    report = plan.apply()
    after = server_rows(odd)
    assert after != before
    assert not report.notes
    undone = report.undo()
    assert server_rows(odd) == before
    assert not undone.notes
    again = undone.undo()
    assert server_rows(odd) == after
    again.undo()
    assert server_rows(odd) == before


@pytest.mark.parametrize("name", ["stamp", "plain", "day", "clock"])
def test_a_value_that_a_call_replaces_comes_back(odd: cb.Database, name: str) -> None:
    before = server_rows(odd)
    dtype = {
        "stamp": pl.Datetime("us", "UTC"),
        "plain": pl.Datetime("us"),
        "day": pl.Date(),
        "clock": pl.Time(),
    }
    new = pl.DataFrame({"id": range(6)}).with_columns(pl.lit(1000).cast(dtype[name]).alias(name))
    new = new.with_columns(pl.lit(0).cast(dtype[name]).alias(name)) if name == "plain" else new
    report = odd.update("t", new.cast({"id": pl.Int32}))
    assert report.counts["updated"] == 6
    plan = odd.undo(report.batch_id, plan=True)
    assert plan.changes.filter(column=name)["new"].drop_nulls().to_list()
    report.undo()
    assert server_rows(odd) == before


def test_a_declared_table_may_hold_what_its_declaration_does_not_know(server_db: cb.Database) -> None:
    class Prices(cb.Table):
        id: int = cb.field(key=True)
        price: int
        valid_to: pl.Datetime("us", "UTC") = cb.field(nullable=True)  # type: ignore[valid-type]
        span: pl.Duration("us") = cb.field(nullable=True)  # type: ignore[valid-type]

        class Config:
            name = "t"

    server_db.create(Prices)
    with server_db.session() as session:
        session.execute(
            "INSERT INTO t VALUES (1, 5, 'infinity', '1 day'), (2, 5, '2024-01-01', '00:00:01'), (3, 5, NULL, '1 mon')"
        )
        query = "SELECT id, price, valid_to::text AS v, span::text AS s FROM t ORDER BY id"
        before = session.fetch(query).rows()
    frame = pl.DataFrame({"id": [1, 2, 3, 4], "price": [6, 6, 6, 6]})
    full = frame.with_columns(
        valid_to=pl.lit(0).cast(pl.Datetime("us", "UTC")), span=pl.lit(5_000_000).cast(pl.Duration("us"))
    )
    for write in (
        lambda: server_db.upsert(Prices, full),
        lambda: server_db.update(Prices, frame),
        lambda: server_db.delete(Prices, [1, 2, 3]),
    ):
        write().undo()
        with server_db.session() as session:
            assert session.fetch(query).rows() == before


# -- PostgreSQL: tables that inherit ---------------------------------------------------------------------


@pytest.fixture
def family(server_db: cb.Database) -> cb.Database:
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE par (id int PRIMARY KEY, v int)",
            "CREATE TABLE chi (extra text) INHERITS (par)",
            "INSERT INTO par VALUES (1, 1)",
            "INSERT INTO chi VALUES (2, 2, 'x'), (3, 3, 'y')",
        ):
            session.execute(statement)
    return server_db


def members(db: cb.Database) -> list[Any]:
    with db.session() as session:
        found = session.fetch(
            "SELECT id, v, NULL::text AS extra FROM ONLY par UNION ALL SELECT id, v, extra FROM chi"
        )
    return sorted(found.rows())


ROWS = [(1, 1, None), (2, 2, "x"), (3, 3, "y")]


def ints(**columns: list[int]) -> pl.DataFrame:
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Int32))


def test_what_cannot_be_taken_back_through_a_parent_names_the_child(family: cb.Database) -> None:
    for call in (
        lambda **o: family.delete("par", [2], **o),
        lambda **o: family.delete_where("par", "id > 1", **o),
        lambda **o: family.upsert("par", ints(id=[2], v=[5]), **o),
        lambda **o: family.sync("par", ints(id=[1], v=[5]), **o),
    ):
        for options in ({}, {"plan": True}):
            with pytest.raises(cb.BulkError, match="table chi, which inherits from it"):
                call(**options)
            assert members(family) == ROWS
    report = family.delete("par", [2], undo=False)
    assert report.counts == {"input": 1, "deleted": 1}
    assert family.delete("par", [1]).undo().counts == {"input": 1, "inserted": 1}
    assert members(family) == [ROWS[0], ROWS[2]]


def test_what_can_be_done_through_a_parent_is_done_and_taken_back(family: cb.Database) -> None:
    for write in (
        lambda: family.update("par", ints(id=[1, 2], v=[7, 8])),
        lambda: family.update_where("par", {"v": 9}, "id > 0"),
    ):
        report = write()
        assert members(family) != ROWS
        report.undo()
        assert members(family) == ROWS
    with pytest.raises(cb.RejectedRows):
        family.insert("par", ints(id=[2], v=[5]))
    family.insert("par", ints(id=[9], v=[5])).undo()
    assert members(family) == ROWS


def test_a_key_that_parent_and_child_both_have_is_refused(family: cb.Database) -> None:
    with family.session() as session:
        session.execute("INSERT INTO chi VALUES (1, 9, 'z')")
    for call in (
        lambda: family.upsert("par", ints(id=[1], v=[5])),
        lambda: family.update("par", ints(id=[1], v=[5])),
        lambda: family.update_where("par", {"v": 5}, "id = 1"),
        lambda: family.delete("par", [1], undo=False),
        lambda: family.insert("par", ints(id=[1], v=[5]), on_conflict="ignore"),
    ):
        with pytest.raises(cb.ContractError, match="key 1 is there twice"):
            call()


def test_partitions_go_on_working(server_db: cb.Database) -> None:
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE par (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
            "CREATE TABLE low PARTITION OF par FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE high PARTITION OF par FOR VALUES FROM (10) TO (20)",
            "INSERT INTO par VALUES (1, 1), (11, 2)",
        ):
            session.execute(statement)
    for write in (
        lambda: server_db.upsert("par", ints(id=[1, 12], v=[5, 5])),
        lambda: server_db.delete("par", [1, 11]),
        lambda: server_db.sync("par", ints(id=[11], v=[2])),
        lambda: server_db.delete("low", [1]),
    ):
        write().undo()
        assert sorted(server_db.read("par").rows()) == [(1, 1), (11, 2)]
