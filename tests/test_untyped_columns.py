"""SQLite columns without a type, or of one that it does not know: each value keeps its own kind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

TABLES = {
    "no type": "CREATE TABLE t (id INTEGER PRIMARY KEY, v, note TEXT)",
    "any": "CREATE TABLE t (id INTEGER PRIMARY KEY, v ANY, note TEXT) STRICT",
}


def asked(path: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as other:
        rows = [other.execute(statement).fetchall() for statement in statements]
        other.commit()
    return rows[-1]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([5, 2**63 - 1], "integer", ["5", str(2**63 - 1)]),
        (pl.Series([5, 255], dtype=pl.UInt8), "integer", ["5", "255"]),
        ([2.0, 0.1 + 0.2], "real", ["2.0", "0.30000000000000004"]),
        (["5", "007"], "text", ["5", "007"]),
        ([True, False], "integer", ["1", "0"]),
    ],
)
def test_values_are_stored_in_the_kind_of_the_frame(
    tmp_path: Path, table: str, values: Any, kind: str, read: list[str]
) -> None:
    path = tmp_path / "t.db"
    asked(path, table)
    frame = pl.DataFrame({"id": [1, 2], "v": values})
    with cb.connect(f"sqlite:///{path}") as db:
        assert db.insert("t", frame).counts == {"input": 2, "inserted": 2}
        stored = asked(path, "SELECT v, typeof(v) FROM t ORDER BY id")
        assert stored == [(value, kind) for value in frame["v"]]
        assert db.read("t", order_by="id")["v"].to_list() == read
        assert db.upsert("t", frame).counts == {"input": 2, "unchanged": 2}
        assert db.update("t", frame.with_columns(note=pl.lit("x"))).counts == {"input": 2, "updated": 2}
        assert asked(path, "SELECT v, typeof(v) FROM t ORDER BY id") == stored
        assert db.update_where("t", {"note": "y"}, where={"v": read[0]}).counts["updated"] == 1


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_bytes_are_stored_as_they_are_and_are_no_text(tmp_path: Path, table: str) -> None:
    path = tmp_path / "t.db"
    asked(path, table)
    frame = pl.DataFrame({"id": [1, 2], "v": [b"\xff", b"5"]})
    with cb.connect(f"sqlite:///{path}") as db:
        db.insert("t", frame)
        assert asked(path, "SELECT v FROM t ORDER BY id") == [(b"\xff",), (b"5",)]
        assert db.upsert("t", frame).counts == {"input": 2, "unchanged": 2}
        with pytest.raises(cb.Unreadable, match=r"column 'v' .* id = 1: X'FF'"):
            db.read("t")
        assert db.read("t", unreadable="text", order_by="id")["v"].to_list() == ["X'FF'", "X'35'"]
        assert db.read("t", where={"v": "5"}, columns=["id"]).is_empty()


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_value_of_another_kind_is_another_value(tmp_path: Path, table: str) -> None:
    path = tmp_path / "t.db"
    asked(path, table, "INSERT INTO t VALUES (1, '5', 'a'), (2, x'35', 'a'), (3, 5.0, 'a'), (4, 5, 'a')")
    with cb.connect(f"sqlite:///{path}") as db:
        report = db.upsert("t", pl.DataFrame({"id": [1, 2, 3, 4], "v": [5] * 4}), undo=False)
        assert report.counts == {"input": 4, "updated": 3, "unchanged": 1}
        assert asked(path, "SELECT DISTINCT v, typeof(v) FROM t") == [(5, "integer")]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_what_was_read_and_is_written_back_stays_what_it_was(tmp_path: Path, table: str) -> None:
    path = tmp_path / "t.db"
    asked(path, table, "INSERT INTO t VALUES (1, 5, 'a'), (2, 2.5, 'a'), (3, '5', 'a'), (4, NULL, 'a')")
    before = asked(path, "SELECT id, v, typeof(v) FROM t ORDER BY id")
    with cb.connect(f"sqlite:///{path}") as db:
        read = db.read("t", order_by="id")
        assert read["v"].to_list() == ["5", "2.5", "5", None]
        assert db.upsert("t", read).counts == {"input": 4, "unchanged": 4}
        assert db.upsert("t", read.with_columns(note=pl.lit("b"))).counts == {"input": 4, "updated": 4}
        assert db.update("t", read.with_columns(note=pl.lit("c"))).counts == {"input": 4, "updated": 4}
    assert asked(path, "SELECT id, v, typeof(v) FROM t ORDER BY id") == before


def test_a_moment_keeps_its_spelling_if_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    asked(
        path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME, note TEXT)",
        "INSERT INTO t VALUES (1, '2024-05-01T10:00:00Z', 'a')",
    )
    with cb.connect(f"sqlite:///{path}") as db:
        assert db.upsert("t", db.read("t").with_columns(note=pl.lit("b"))).counts == {
            "input": 1,
            "updated": 1,
        }
    assert asked(path, "SELECT * FROM t") == [(1, "2024-05-01T10:00:00Z", "b")]


def test_numbers_of_an_unknown_type_are_written_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    asked(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, v MONEY)")
    frame = pl.DataFrame({"id": [1, 2], "v": [2.5, 3.0]})
    with cb.connect(f"sqlite:///{path}") as db:
        db.insert("t", frame)
        assert asked(path, "SELECT v FROM t ORDER BY id") == [(2.5,), (3,)]
        assert db.upsert("t", frame).counts == {"input": 2, "unchanged": 2}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"v": 5}, [1, 2]),
        ({"v": 5.0}, [1, 2]),
        ({"v": "5"}, [1, 3]),  # as it is read
        ({"v__in": [5, 2.5]}, [1, 2, 4]),
        ({"v__in": [5, 7]}, [1, 2]),
        ({"v__notin": [5]}, [3, 4, 5, 6]),
        ({"v__ne": 5}, [3, 4, 5, 6]),
        ({"v__gt": 2}, [1, 2, 4]),
        ({"v__between": (2, 4.5)}, [4]),
        ({"v": True}, [6]),
        ({"v": b"5"}, [5]),
        ({"v": None}, [7]),
        ("v = 5", [1, 2]),
        ("v = 2.5", [4]),
        ("v > 2 AND v IN (5, 6)", [1, 2]),
        ("v = '5'", [1, 3]),
        ("v <= -1", []),
    ],
)
def test_a_condition_by_number_is_met_as_sqlite_compares(
    tmp_path: Path, table: str, where: Any, found: list[int]
) -> None:
    path = tmp_path / "t.db"
    asked(
        path,
        table,
        "INSERT INTO t (id, v) VALUES (1, 5), (2, 5.0), (3, '5'), (4, 2.5), (5, x'35'), (6, 1), (7, NULL)",
    )
    with cb.connect(f"sqlite:///{path}") as db:
        assert db.read("t", where=where, columns=["id"], order_by="id")["id"].to_list() == found
        with pytest.raises(cb.ContractError, match="column 'v'"):
            db.read("t", where={"v__in": [5, "a"]})


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize(
    ("value", "kind"), [(5, "integer"), (2.5, "real"), ("5", "text"), (b"5", "blob"), (True, "integer")]
)
def test_a_value_is_set_in_its_own_kind(tmp_path: Path, table: str, value: Any, kind: str) -> None:
    path = tmp_path / "t.db"
    asked(path, table, "INSERT INTO t (id, v) VALUES (1, 7), (2, 8), (3, 'a')")
    with cb.connect(f"sqlite:///{path}") as db:
        report = db.update_where("t", {"v": value}, where={"v": 7})
        assert report.counts == {"input": 1, "updated": 1}
        assert asked(path, "SELECT v, typeof(v) FROM t WHERE id = 1") == [(value, kind)]
        assert db.update_where("t", {"v": value}, where={"id": 1}).counts["input"] == 0
        assert db.update_where("t", {"v": value}, where={"v": "a"}).counts == {"input": 1, "updated": 1}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_batch_is_taken_back(tmp_path: Path, table: str) -> None:
    path = tmp_path / "t.db"
    asked(path, table, "INSERT INTO t (id, v) VALUES (1, 7), (2, 'a')")
    with cb.connect(f"sqlite:///{path}") as db:
        set_to = db.update_where("t", {"v": 5}, where={"v": 7})
        written = db.upsert("t", pl.DataFrame({"id": [2], "v": [2.5]}))
        db.undo(written.batch_id)
        db.undo(set_to.batch_id)
    assert asked(path, "SELECT v, typeof(v) FROM t ORDER BY id") == [(7, "integer"), ("a", "text")]
