"""PostgreSQL's ``numeric`` without a precision keeps as many decimals as are written, and a frame's dtype has 18."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest
from reflecting import ask, run

import crave_bulk as cb

VALUES = ["1.10", "100", "0", "-0.5", "1000.00", "0.000000000000000001", "12345678901234567890", "-100"]


@pytest.fixture
def numbers(server_db: cb.Database) -> cb.Database:
    run(server_db, "CREATE TABLE t (k numeric PRIMARY KEY, v numeric, vs numeric[])")
    return server_db


@pytest.mark.parametrize("dtype", [pl.Decimal(38, 18), pl.Decimal(20, 0), pl.Decimal(10, 2)], ids=str)
def test_no_zeros_are_added(numbers: cb.Database, dtype: pl.Decimal) -> None:
    values = [
        v for v in VALUES if len(v.partition(".")[2]) <= dtype.scale and (dtype.precision > 10 or len(v) < 10)
    ]
    frame = pl.DataFrame({"k": values, "v": values}).select(
        pl.all().str.to_decimal(scale=dtype.scale).cast(dtype)
    )
    frame = frame.with_columns(vs=pl.concat_list("v"))
    numbers.insert("t", frame)
    stored = ask(numbers, "SELECT k::text AS k, v::text AS v, vs::text AS vs FROM t ORDER BY t.k")
    expected = [format(Decimal(v).normalize(), "f") for v in sorted(values, key=Decimal)]
    assert stored["k"].to_list() == stored["v"].to_list() == expected
    assert stored["vs"].to_list() == [f"{{{v}}}" for v in expected]
    read = numbers.read("t")
    assert sorted(read["v"].to_list()) == sorted(map(Decimal, values))
    for again in (frame, read):
        assert numbers.upsert("t", again).counts == {"input": len(values), "unchanged": len(values)}
    doubled = read.with_columns(pl.col("v") + 1)
    assert numbers.update("t", doubled).counts == {"input": len(values), "updated": len(values)}
    assert numbers.delete("t", read).counts == {"input": len(values), "deleted": len(values)}


def test_what_others_wrote_with_zeros_is_the_same_number(numbers: cb.Database) -> None:
    run(numbers, "INSERT INTO t VALUES (1.1, 2.50, '{3.00}')")
    frame = numbers.read("t")
    assert numbers.upsert("t", frame).counts == {"input": 1, "unchanged": 1}
    report = numbers.delete("t", frame)
    report.undo()
    assert ask(numbers, "SELECT k::text || v::text || vs::text AS t FROM t").item() == "1.12.50{3.00}"
    report = numbers.upsert("t", frame.with_columns(v=pl.lit(Decimal("9")).cast(pl.Decimal(38, 18))))
    assert report.counts == {"input": 1, "updated": 1}
    report.undo()
    assert ask(numbers, "SELECT k::text || v::text || vs::text AS t FROM t").item() == "1.12.50{3.00}"
