"""Values that a frame cannot hold: an error that names the column and the row, or text if that is asked for."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from reflecting import run

import crave_bulk as cb


def stored(path: Path, *statements: str) -> str:
    with closing(sqlite3.connect(path)) as other:
        for statement in statements:
            other.execute(statement)
        other.commit()
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("sql_type", "value"),
    [
        ("INTEGER", "2.5"),
        ("INTEGER", "'two'"),
        ("INTEGER", "x'00ff'"),
        ("BIGINT", "1e300"),
        ("REAL", "'x'"),
        ("REAL", "x'00'"),
        ("TEXT", "x'ff'"),
        ("VARCHAR(5)", "x'61'"),
        ("BLOB", "'text'"),
        ("BLOB", "5"),
        ("BOOLEAN", "2"),
        ("BOOLEAN", "'true'"),
        ("BOOLEAN", "0.5"),
        ("DATE", "'2024-02-31'"),
        ("DATE", "'now'"),
        ("DATE", "19000"),
        ("DATE", "2460000.5"),
        ("DATE", "'0000-01-01'"),
        ("DATE", "'2024-05-01 10:00:00'"),
        ("TIME", "'24:00:00'"),
        ("TIME", "'now'"),
        ("TIME", "'10:00:00.1234567'"),
        ("TIME", "36000"),
        ("DATETIME", "'2024-02-31 10:00:00'"),
        ("DATETIME", "'2024-02-31'"),
        ("TIMESTAMP", "'2023-02-29 10:00:00.000000'"),
        ("DATETIME", "'now'"),
        ("DATETIME", "'10:00:00'"),
        ("DATETIME", "'2024-05-01 24:00:00'"),
        ("DATETIME", "'2024-05-01 23:59:60'"),
        ("DATETIME", "'2024-05-01 10:00:00.1234567'"),
        ("DATETIME", "'2024-05-01 10:00:00+02'"),
        ("DATETIME", "'2024-05-01 10:00:00 Europe/Berlin'"),
        ("DATETIME", "'0001-01-01 00:00:00+02:00'"),
        ("DATETIME", "1714566615"),  # seconds
        ("DATETIME", "-1"),
        ("DATETIME", "1714566615123456"),  # microseconds
        ("DATETIME", "2460000.5"),  # a Julian day
        ("TIMESTAMPTZ", "1714566615"),
        ("INTERVAL", "1.5"),
        ("NUMERIC(10, 2)", "0.1 + 0.2"),
        ("NUMERIC(10, 2)", "123456789"),
        ("NUMERIC(10, 2)", "'x'"),
        ("NUMERIC(10, 2)", "9e999"),
        ("DECIMAL_TEXT(5, 2)", "'1.005'"),
        ("JSON", "x'ff'"),
        ("", "x'ff'"),
    ],
)
def test_a_value_of_another_kind_in_sqlite_is_named(tmp_path: Path, sql_type: str, value: str) -> None:
    url = stored(
        tmp_path / "t.db",
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {sql_type}, note TEXT)",
        "INSERT INTO t VALUES (6, NULL, 'a')",
        f"INSERT INTO t VALUES (7, {value}, 'b')",
    )
    with cb.connect(url) as db:
        with pytest.raises(
            cb.Unreadable, match=r"table t .* column 'v' .* in the row with id = 7: "
        ) as caught:
            db.read("t")
        assert caught.value.columns == ("v",)
        assert db.read("t", columns=["note"], order_by="id")["note"].to_list() == ["a", "b"]
        assert db.read("t", where={"id": 6}).rows() == [(6, None, "a")]
        with closing(sqlite3.connect(tmp_path / "t.db")) as other:
            there = other.execute("SELECT v FROM t WHERE id = 7").fetchone()[0]
        read = db.read("t", unreadable="text", order_by="id")
        assert read.schema == {"id": pl.Int64, "v": pl.String, "note": pl.String}
        assert read["v"][0] is None
        if isinstance(there, float):
            assert float(read["v"][1].replace("9.0e+999", "inf")) == there
        else:
            assert read["v"][1] == (f"X'{there.hex().upper()}'" if isinstance(there, bytes) else str(there))


def test_only_the_columns_with_such_values_become_text(db: cb.Database) -> None:
    if db.backend.name == "sqlite":
        run(
            db,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b DATE, c DATETIME, n INTEGER)",
            "INSERT INTO t VALUES (1, 2.5, '2024-01-01', 'soon', 5), (2, 3, '2024-02-31', NULL, 6)",
        )
        expected: dict[str, list[Any]] = {
            "a": ["2.5", "3"],
            "b": ["2024-01-01", "2024-02-31"],
            "c": ["soon", None],
        }
    else:
        run(
            db,
            "CREATE TABLE t (id int PRIMARY KEY, a numeric(9, 2), b date, c timestamp, n bigint)",
            "INSERT INTO t VALUES (1, 'NaN', '2024-01-01', '-infinity', 5), (2, 3, '0044-03-15 BC', NULL, 6)",
        )
        expected = {"a": ["NaN", "3.00"], "b": ["2024-01-01", "0044-03-15 BC"], "c": ["-infinity", None]}
    read = db.read("t", order_by="id", unreadable="text")
    assert read.select("a", "b", "c").to_dict(as_series=False) == expected
    assert read["n"].to_list() == [5, 6]
    assert db.read("t", columns=["n"], order_by="id")["n"].to_list() == [5, 6]
    with pytest.raises(cb.ContractError, match="unreadable"):
        db.read("t", unreadable="null")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sql_type", "value"),
    [
        ("timestamptz", "infinity"),
        ("timestamp", "-infinity"),
        ("date", "infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "10000-01-01"),
        ("timestamptz", "20000-01-01"),
        ("timestamp", "0044-03-15 BC"),
        ("time", "24:00:00"),
        ("interval", "1 month"),
        ("interval", "2 years"),
        ("numeric", "NaN"),
        ("numeric", "Infinity"),
        ("numeric", "1e30"),
        ("numeric", "0.1234567890123456789"),
        ("numeric(10, 2)", "NaN"),
        ("int[]", "{{1},{2}}"),
        ("int[]", "[0:1]={1,2}"),
        ("date[]", "{infinity}"),
        ("numeric[]", "{1,NaN}"),
        ("timestamptz[]", "{20000-01-01}"),
        ("time[]", "{24:00}"),
    ],
)
def test_a_value_of_postgresql_that_no_frame_holds_is_named(
    server_db: cb.Database, sql_type: str, value: str
) -> None:
    if value == "Infinity" and server_db.backend.version < 14:
        pytest.skip("numeric has no infinity")
    run(
        server_db,
        f"CREATE TABLE t (id int PRIMARY KEY, v {sql_type}, note text)",
        f"INSERT INTO t VALUES (6, NULL, 'a'), (7, '{value}', 'b')",
    )
    with pytest.raises(cb.Unreadable, match=r"table t .* column 'v' .* in the row with id = 7: "):
        server_db.read("t")
    assert server_db.read("t", columns=["note"], order_by="id")["note"].to_list() == ["a", "b"]
    read = server_db.read("t", unreadable="text", order_by="id")
    with server_db.session() as session:
        assert read["v"].to_list() == session.fetch("SELECT v::text FROM t ORDER BY id")["v"].to_list()
    report = server_db.update("t", pl.DataFrame({"id": [7], "note": ["c"]}))
    assert report.counts == {"input": 1, "updated": 1}
    assert server_db.upsert("t", pl.DataFrame({"id": [7], "note": ["c"]})).counts["unchanged"] == 1


def test_declared_tables_are_read_as_carefully(db: cb.Database) -> None:
    class Own(cb.Table):
        id: int = cb.field(key=True)
        day: pl.Date
        at: pl.Datetime("ms", "Europe/Berlin")

    db.create(Own)
    frame = pl.DataFrame(
        {"id": [1, 2], "day": [dt.date(2024, 5, 1)] * 2, "at": [dt.datetime(2024, 5, 1, 12)] * 2}
    ).with_columns(pl.col("at").cast(pl.Datetime("ms")).dt.replace_time_zone("Europe/Berlin"))
    db.insert(Own, frame)
    assert db.read(Own, order_by="id").equals(frame)
    run(db, "UPDATE \"Own\" SET at = '2024-05-01 10:00:00.123456+00:00' WHERE id = 2")
    with pytest.raises(cb.Unreadable, match=r"column 'at' .* id = 2: "):
        db.read(Own)


def test_moments_that_others_write_are_read(tmp_path: Path) -> None:
    texts = {
        "2024-02-29": dt.datetime(2024, 2, 29),
        "2024-05-01 10:00": dt.datetime(2024, 5, 1, 10),
        "2024-05-01T10:00Z": dt.datetime(2024, 5, 1, 10),
        "2024-05-01 10:00+02:00": dt.datetime(2024, 5, 1, 8),
        "2024-12-31 23:59:59": dt.datetime(2024, 12, 31, 23, 59, 59),
        "2024-05-01T10:00:00.5": dt.datetime(2024, 5, 1, 10, 0, 0, 500_000),
        "2024-05-01T10:00:00.1234560Z": dt.datetime(2024, 5, 1, 10, 0, 0, 123_456),
        "2024-05-01 00:30:00.25-01:30": dt.datetime(2024, 5, 1, 2, 0, 0, 250_000),
        "2024-01-01 00:30:00+01:00": dt.datetime(2023, 12, 31, 23, 30),
    }
    values = ", ".join(f"('{text}')" for text in texts)
    url = stored(
        tmp_path / "t.db", "CREATE TABLE t (at DATETIME)", f"INSERT INTO t VALUES {values}, (1714566615123)"
    )
    with cb.connect(url) as db:
        found = db.read("t", order_by=None)["at"].to_list()
        assert sorted(found) == sorted([*texts.values(), dt.datetime(2024, 5, 1, 12, 30, 15, 123_000)])


# -- such values are different from all that a frame can hold --------------------------------------------


def test_a_row_with_such_a_value_is_never_unchanged(tmp_path: Path) -> None:
    url = stored(
        tmp_path / "t.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, b BOOLEAN, d DATETIME, m TIMESTAMP)",
        "INSERT INTO t VALUES (1, 2.5, 1, NULL, NULL), (2, 2, 2, NULL, NULL), (3, 2, 1, '2024-02-31', NULL)",
        "INSERT INTO t VALUES (4, 2, 1, NULL, 1704067200)",
    )
    frame = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "n": [2] * 4,
            "b": [True] * 4,
            "d": [None, None, dt.datetime(2024, 3, 2), None],
            "m": [None, None, None, dt.datetime(1970, 1, 20, 17, 21, 7, 200_000)],
        }
    )
    with cb.connect(url) as db:
        assert db.upsert("t", frame).counts == {"input": 4, "updated": 4}
        assert db.read("t", order_by="id").equals(
            frame.cast({"d": pl.Datetime("us"), "m": pl.Datetime("us")})
        )


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"n": 2}, [3]),
        ({"n__lt": 3}, [1, 3]),  # 2.5 is a number all the same
        ({"n__gt": 3}, []),  # and 'two' is none
        ({"n__ne": 2}, [1, 2]),
        ("NOT n > 3", [1, 2, 3]),
        ({"b": True}, [3]),
        ("b", [3]),
        ("b IS TRUE", [3]),
        ("NOT b", [1, 2]),
        ({"d": dt.datetime(2024, 3, 2)}, [3]),
        ({"d__gt": dt.datetime(1960, 1, 1)}, [3]),
        ({"d__lt": dt.datetime(9999, 1, 1)}, [3]),
        ({"d__in": [dt.datetime(2024, 3, 2)]}, [3]),
        ({"d__ne": dt.datetime(2024, 3, 2)}, [1, 2]),
        ({"day__gte": dt.date(2024, 1, 1)}, [3]),
    ],
)
def test_conditions_are_not_met_by_such_values(tmp_path: Path, where: Any, found: list[int]) -> None:
    url = stored(
        tmp_path / "t.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, b BOOLEAN, d DATETIME, day DATE)",
        "INSERT INTO t VALUES (1, 2.5, 2, '2024-02-31', '2024-02-31')",
        "INSERT INTO t VALUES (2, 'two', 'true', 'now', 'now')",
        "INSERT INTO t VALUES (3, 2, 1, '2024-03-02T00:00:00Z', '2024-03-02')",
    )
    with cb.connect(url) as db:
        assert db.read("t", where=where, columns=["id"], order_by="id")["id"].to_list() == found


def test_infinity_is_after_every_moment_in_a_condition(server_db: cb.Database) -> None:
    run(
        server_db,
        "CREATE TABLE t (id int PRIMARY KEY, until timestamptz)",
        "INSERT INTO t VALUES (1, 'infinity'), (2, '2024-01-01')",
    )
    where = {"until__gt": dt.datetime(2025, 1, 1, tzinfo=dt.UTC)}
    assert server_db.read("t", where=where, columns=["id"])["id"].to_list() == [1]


def test_a_deleted_row_whose_key_is_unreadable_is_named(tmp_path: Path) -> None:
    url = stored(
        tmp_path / "t.db", "CREATE TABLE t (k INT PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (2.5, 'a')"
    )
    with cb.connect(url) as db:
        with pytest.raises(cb.Unreadable, match=r"column 'k' .* k = 2\.5"):
            db.delete_where("t", {"v": "a"}, undo=False)
        assert db.read("t", unreadable="text").rows() == [("2.5", "a")]


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    url = stored(
        tmp_path / "t.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, v TEXT)",
        "INSERT INTO t VALUES (1, 'é', 'b'), (2, 'x', CAST(x'61ff' AS TEXT))",
    )
    with cb.connect(url) as db:
        for unreadable in ("error", "text"):
            with pytest.raises(
                cb.Unreadable,
                match=r"column 'v' \(String\) .* id = 2: text that is not UTF-8: name other columns by columns=",
            ):
                db.read("t", unreadable=unreadable)  # type: ignore[arg-type]
        assert db.read("t", columns=["id", "a"], order_by="id").rows() == [(1, "é"), (2, "x")]


def test_the_advice_is_for_the_call(tmp_path: Path) -> None:
    class T(cb.Table):
        id: int = cb.field(key=True)
        n: int | None = cb.field(merge="max")
        tags: pl.List(pl.Int64) = cb.field(merge="union", nullable=True)  # type: ignore[valid-type]

        class Config:
            name = "t"

    url = stored(
        tmp_path / "t.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, tags TEXT)",
        "INSERT INTO t VALUES (1, 'x', NULL), (2, NULL, '[1.5]')",
    )
    with cb.connect(url) as db:
        with pytest.raises(cb.Unreadable, match=r"id = 1: .*: read with unreadable='text', name other"):
            db.read(T)
        for frame in ({"id": [1], "n": [5], "tags": [[1]]}, {"id": [2], "tags": [[1]]}):
            with pytest.raises(cb.Unreadable, match=r": change the value in the database, or leave") as error:
                db.upsert(T, pl.DataFrame(frame))
            assert "unreadable=" not in str(error.value)
            assert f"id = {frame['id'][0]}: " in str(error.value)
