"""JSON that other programs wrote into a list or a struct: read if a frame holds it, an error that names it if not."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from reflecting import run

import crave_bulk as cb

STRUCT = pl.Struct({"a": pl.Int64, "b": pl.String})


def holding(db: cb.Database, dtype: pl.DataType, text: str, sql_type: str = "json") -> type[cb.Table]:
    """Make a table by hand, and declare one whose column ``v`` is JSON on either database."""

    names = {
        "__annotations__": {"id": int, "v": dtype},
        "id": cb.field(key=True),
        "v": cb.field(nullable=True, json=True),
        "Config": type("Config", (), {"name": "t"}),
    }
    table = type("T", (cb.Table,), names)
    literal = text.replace("'", "''")
    run(
        db,
        f"CREATE TABLE t (id bigint PRIMARY KEY, v {'TEXT' if db.backend.name == 'sqlite' else sql_type})",
        f"INSERT INTO t VALUES (6, NULL), (7, '{literal}'), (8, NULL)",
    )
    return table


LOST: list[tuple[pl.DataType, str]] = [
    (pl.List(pl.Int64), "[1.5]"),
    (pl.List(pl.Int64), '["a"]'),
    (pl.List(pl.Int64), '["1"]'),
    (pl.List(pl.Int64), "[true]"),
    (pl.List(pl.Int64), "[1, 9223372036854775808]"),
    (pl.List(pl.Int64), "[123456789012345678901234567890]"),
    (pl.List(pl.Int64), "[" + "9" * 5000 + "]"),
    (pl.List(pl.Int64), "[[1]]"),
    (pl.List(pl.Int64), "[{}]"),
    (pl.List(pl.Int64), "{}"),
    (pl.List(pl.Int64), "1"),
    (pl.List(pl.Int8), "[300]"),
    (pl.List(pl.UInt64), "[-1]"),
    (pl.List(pl.String), "[1]"),
    (pl.List(pl.String), "[1.50]"),
    (pl.List(pl.String), "[true]"),
    (pl.List(pl.String), '[{"a": 1}]'),
    (pl.List(pl.Float64), "[9007199254740993]"),
    (pl.List(pl.Float64), "[true]"),
    (pl.List(pl.Float32), "[16777217]"),
    (pl.List(pl.Boolean), "[1]"),
    (pl.List(pl.Decimal(8, 2)), '["1.555"]'),
    (pl.List(pl.Decimal(8, 2)), "[1.555]"),
    (pl.List(pl.Decimal(8, 2)), '["x"]'),
    (pl.List(pl.Date), '["2024-02-31"]'),
    (pl.List(pl.Date), "[1]"),
    (pl.List(pl.Time), '["10:00:00.1234567"]'),
    (pl.List(pl.Datetime("us", "UTC")), '["2024-01-01 00:00:00.000000+02:00"]'),
    (pl.List(pl.Datetime("us")), '["2024-01-01 00:00:00.0000001"]'),
    (pl.List(pl.Enum(["a"])), '["b"]'),
    (pl.List(pl.Duration("ms")), "[1001]"),
    (pl.List(pl.Binary), '["zz"]'),
    (pl.List(pl.List(pl.Int64)), "[1]"),
    (pl.List(pl.List(pl.Int64)), "[[1], [2.5]]"),
    (STRUCT, '{"a": 1.5, "b": "x"}'),
    (STRUCT, '{"a": 1, "b": "x", "c": 3}'),
    (STRUCT, '{"a": 1, "b": "x", "c": null}'),
    (STRUCT, '{"a": 1, "a": 2, "b": "x"}'),
    (STRUCT, '{"A": 1}'),
    (STRUCT, "[1]"),
    (STRUCT, "[]"),
    (STRUCT, '"a"'),
    (pl.List(STRUCT), '[{"a": 1, "b": "x", "c": 3}]'),
    (pl.List(STRUCT), "[1]"),
    (pl.Struct({"l": pl.List(pl.Int64)}), '{"l": [1, 2.5]}'),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("dtype", "text"), LOST)
def test_json_that_a_frame_cannot_hold_is_named(db: cb.Database, dtype: pl.DataType, text: str) -> None:
    table = holding(db, dtype, text)
    for columns in (None, ["v"]):
        with pytest.raises(
            cb.Unreadable, match=r"table t .* column 'v' .* in the row with id = 7: "
        ) as error:
            db.read(table, columns=columns)
        assert error.value.columns == ("v",)
        assert text[:9] in str(error.value)
    assert db.read(table, columns=["id"], order_by="id")["id"].to_list() == [6, 7, 8]
    assert db.read(table, unreadable="text", order_by="id")["v"].to_list() == [None, text, None]
    assert db.read(table, where={"id__ne": 7})["v"].to_list() == [None, None]


HELD: list[tuple[pl.DataType, str, Any]] = [
    (pl.List(pl.Int64), "[ 1 ,\n 2, null]", [1, 2, None]),
    (pl.List(pl.Int64), "[1.0, 1e2]", [1, 100]),
    (pl.List(pl.Int64), "[]", []),
    (pl.List(pl.Float64), "[1, 1.0, 1E5, -0.0, 0.1000000000000000055511151231257827]", [1, 1, 1e5, 0, 0.1]),
    (pl.List(pl.Float32), "[0.5, 0.10000000149011612, 1]", [0.5, 0.10000000149011612, 1]),
    (pl.List(pl.String), r'["\u00e9", "a\/b", "a b", "\"", "1"]', ["é", "a/b", "a b", '"', "1"]),
    (pl.List(pl.Decimal(8, 2)), '["1.50", "1.5", 1.5, 2]', [Decimal("1.5")] * 3 + [Decimal(2)]),
    (pl.List(pl.Date), '["2024-01-01", "2024-1-1"]', [dt.date(2024, 1, 1)] * 2),
    (pl.List(pl.Time), '["10:00:00", "10:00:00.5"]', [dt.time(10), dt.time(10, 0, 0, 500_000)]),
    (pl.List(pl.Datetime("us")), '["2024-01-01 10:00:00"]', [dt.datetime(2024, 1, 1, 10)]),
    (pl.List(pl.Datetime("us")), '["2024-01-01 10:00:00.001"]', [dt.datetime(2024, 1, 1, 10, 0, 0, 1000)]),
    (pl.List(pl.Binary), '["00FF"]', [b"\x00\xff"]),
    (STRUCT, '{"b": "x", "a": 1}', {"a": 1, "b": "x"}),
    (STRUCT, '{"a": null, "b": null}', {"a": None, "b": None}),
    (STRUCT, '{"a": 1}', {"a": 1, "b": None}),
    (pl.List(STRUCT), '[{"b": " x ", "a": 1.0}, null]', [{"a": 1, "b": " x "}, None]),
]


@pytest.mark.parametrize("sql_type", ["json", "jsonb"])
@pytest.mark.parametrize(("dtype", "text", "value"), HELD)
def test_json_in_another_spelling_is_read(
    db: cb.Database, dtype: pl.DataType, text: str, value: Any, sql_type: str
) -> None:
    table = holding(db, dtype, text, sql_type)
    frame = db.read(table, order_by="id")
    assert frame["v"].to_list() == [None, value, None]
    assert frame.schema["v"] == dtype


def test_one_of_many_is_found(db: cb.Database) -> None:
    table = holding(db, pl.List(pl.Int64), "[1]")
    db.upsert(
        table,
        pl.DataFrame({"id": range(10, 5000), "v": [[n] for n in range(4990)]}),
        undo=False,
    )
    run(db, "UPDATE t SET v = '[\"x\"]' WHERE id IN (3000, 4000)")
    with pytest.raises(cb.Unreadable, match=r"id = 3000: "):
        db.read(table, order_by="id", columns=["v"])
    assert db.read(table, where={"id__lt": 3000}).height == 2993
