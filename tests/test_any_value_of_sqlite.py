"""Whatever stands in a column of SQLite: it is read as just that, or named by its row; never as something else."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
import tempfile
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import adbc_driver_sqlite.dbapi
import polars as pl
import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb

TYPES = [
    "INTEGER", "BIGINT", "TEXT", "VARCHAR(3)", "REAL", "FLOAT", "BLOB", "BOOLEAN", "DATE", "TIME", "DATETIME",
    "TIMESTAMP", "TIMESTAMPTZ", "NUMERIC(10, 2)", "DECIMAL(5)", "NUMERIC", "DECIMAL_TEXT(6, 2)", "INTERVAL",
    "STRING", "JSON", "UUID", "", "ANY", "FLOATING POINT",
]  # fmt: skip
DAYS = [
    "2024-02-29",
    "2024-02-31",
    "2023-02-29",
    "0001-01-01",
    "0000-12-31",
    "9999-12-31",
    "2024-5-1",
    "2024",
]
CLOCKS = [
    "",
    " 10:00",
    "T10:00:00",
    " 23:59:59.5",
    " 24:00:00",
    "T23:59:60",
    " 10:00:00.123456",
    " 10:00:00.1234567",
]
CLOCKS += ["T10:00:00.1230000", " 10:00:00.", " 1:00:00", "  10:00:00", " 10:00:00.1.2"]
ZONES = ["", "Z", "+00:00", "+02:00", "-14:30", "+2", " UTC", "+25:00"]
MOMENTS = st.builds("{}{}{}".format, st.sampled_from(DAYS), st.sampled_from(CLOCKS), st.sampled_from(ZONES))
WORDS = [
    "now",
    "",
    " ",
    "abc",
    "10:00:00",
    "10:00:00.25",
    "24:00:00",
    "true",
    "1",
    "007",
    "1.5",
    "1.005",
    "-0.10",
    "1e3",
]
WORDS += [
    "12-3",
    "1.2.3",
    "-",
    ".",
    ".5",
    "5.",
    "1234567.89",
    "2460000.5",
    "{}",
    "é",
    "a\0b",
    "2024-01-01\0",
    "nan",
    "inf",
]
INTEGERS = [
    0,
    1,
    2,
    -1,
    19_000,
    2_460_000,
    1_714_566_615,
    1_714_566_615_123,
    253_402_300_799,
    253_402_300_800,
    2**53 + 1,
]
INTEGERS += [253_402_300_799_999, 253_402_300_800_000, 2**63 - 1, -(2**63), 99_999_999, 100_000_000]
REALS = [
    0.5,
    2.5,
    0.1 + 0.2,
    0.3,
    1e300,
    -1e-320,
    2460000.5,
    99999999.99,
    1234567.891,
    0.01,
    1.005,
    float("inf"),
    2.0**60,
]
VALUES = st.one_of(
    st.none(),
    st.sampled_from(INTEGERS),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(REALS),
    st.floats(allow_nan=False),
    st.sampled_from(WORDS),
    MOMENTS,
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.binary(max_size=3),
)


def moment(text: str) -> dt.datetime | None:
    """Read what may stand in a DATETIME column, in UTC; by Python's own calendar."""
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?", text, re.ASCII
    )
    if found is None:
        return None
    day, minutes, seconds, fraction, zone = found.groups()
    fraction = (fraction or "").rstrip("0")
    if len(fraction) > 6:
        return None
    iso = f"{day}T{minutes or '00:00'}:{seconds or '00'}.{fraction:0<6}{(zone or 'Z').replace('Z', '+00:00')}"
    try:
        return dt.datetime.fromisoformat(iso).astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def whole(value: Any) -> Any:
    return value if isinstance(value, int) else None


def real(value: Any) -> Any:
    return value if isinstance(value, float) else None


def string(value: Any) -> Any:
    return value if isinstance(value, str) else None


def day(value: Any) -> Any:
    found = moment(value) if isinstance(value, str) and len(value) == 10 else None
    return found and found.date()


def clock(value: Any) -> Any:
    written = isinstance(value, str) and re.fullmatch(r"\d\d:\d\d:\d\d(\.\d+)?", value, re.ASCII)
    found = moment(f"2024-01-01 {value}") if written else None
    return found and found.time()


def stamp(value: Any) -> Any:
    if isinstance(value, int) and 253_402_300_799 < value < 253_402_300_800_000:
        return dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=value)
    return moment(value) if isinstance(value, str) else None


def zoned(value: Any) -> Any:
    found = stamp(value)
    return found and found.replace(tzinfo=dt.UTC)


def anything(value: Any) -> Any:
    return None if isinstance(value, bytes) else value if isinstance(value, str) else str(value)


READ = {
    **dict.fromkeys(("INTEGER", "BIGINT", "FLOATING POINT"), whole),
    **dict.fromkeys(("REAL", "FLOAT"), real),
    **dict.fromkeys(("TEXT", "VARCHAR(3)", "UUID"), string),
    **dict.fromkeys(("DATETIME", "TIMESTAMP"), stamp),
    **dict.fromkeys(("STRING", "", "ANY"), anything),
    "BLOB": lambda value: value if isinstance(value, bytes) else None,
    "BOOLEAN": lambda value: {0: False, 1: True}.get(value) if isinstance(value, int) else None,
    "INTERVAL": lambda value: dt.timedelta(microseconds=value) if isinstance(value, int) else None,
    "DATE": day,
    "TIME": clock,
    "TIMESTAMPTZ": zoned,
}


def expected(sql_type: str, value: Any) -> Any:
    """Say what is read of a stored value: None if it must be named instead."""
    if sql_type == "JSON":
        return json(value)
    return READ[sql_type](value) if sql_type in READ else decimal(sql_type, value)


def json(value: Any) -> Any:
    """Read what stands in a column for JSON, also in SQLite's own binary form, which the driver's SQLite knows."""
    if not isinstance(value, bytes):
        return anything(value)
    with adbc_driver_sqlite.dbapi.connect() as driver, driver.cursor() as cursor:
        cursor.execute("SELECT CAST(iif(json_valid(?1, 8), json(?1), NULL) AS BLOB)", [value])
        text = cursor.fetchone()[0]
    try:
        return text and text.decode()
    except UnicodeDecodeError:
        reject()  # it can be read neither as JSON nor as text, and so `unreadable="text"` names it as well


def decimal(sql_type: str, value: Any) -> Any:
    """Read a decimal: the shortest that is the stored number, if the column has room for it."""
    digits, scale = {"NUMERIC(10, 2)": (10, 2), "DECIMAL(5)": (5, 0), "DECIMAL_TEXT(6, 2)": (6, 2)}.get(
        sql_type, (38, 18)
    )
    if sql_type.startswith("DECIMAL_TEXT"):
        if not isinstance(value, str) or not re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", value, re.ASCII):
            return None
    elif isinstance(value, str | bytes):
        return None
    exact = Decimal(repr(value) if isinstance(value, float) else value)
    if not exact.is_finite() or abs(exact) >= 10 ** (digits - scale):
        return None
    return exact if exact == 0 or -int(exact.normalize().as_tuple().exponent) <= scale else None


def same(sql_type: str, read: Any, wanted: Any) -> bool:
    if isinstance(read, str) and read != wanted:  # a real has several texts
        return float(read.replace("9.0e+999", "inf")) == float(wanted)
    return type(read) is type(wanted) and read == wanted


@examples(300)
@given(st.sampled_from(TYPES), VALUES)
@example("DATETIME", "2024-01-01\0")
@example("DATETIME", "2024-01-01 10:00:00.123456\0")
@example("DATE", "2024-01-01\0")
@example("TIME", "10:00:00\0")
@example("JSON", b"\0")
def test_a_value_is_read_as_it_is_or_named(sql_type: str, written: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.db"
        with closing(sqlite3.connect(path)) as other:
            other.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {sql_type}, note TEXT)")
            other.execute("INSERT INTO t VALUES (1, NULL, 'a'), (7, ?, 'b')", [written])
            other.commit()
            value = other.execute("SELECT v FROM t WHERE id = 7").fetchone()[0]
        wanted = None if value is None else expected(sql_type, value)
        with cb.connect(f"sqlite:///{path}", ledger=False) as db:
            assert db.read("t", columns=["note"], order_by="id")["note"].to_list() == ["a", "b"]
            as_text = db.read("t", order_by="id", unreadable="text")["v"]
            if (
                as_text.dtype == pl.String
                and value is not None
                and (wanted is None or inexact(sql_type, value))
            ):
                with pytest.raises(cb.Unreadable, match=r"column 'v' .* id = 7: ") as named:
                    db.read("t")
                assert named.value.columns == ("v",)
                assert as_text[0] is None
                assert as_text[1] is not None
                return
            read = db.read("t", order_by="id")["v"].to_list()
        assert read[0] is None
        assert read[1] is None if value is None else same(sql_type, read[1], wanted), (value, read[1], wanted)


def inexact(sql_type: str, value: Any) -> bool:
    """Tell whether a number has more digits than a numeric column of SQLite keeps, and so may be named."""
    return sql_type.startswith(("NUMERIC", "DECIMAL(")) and isinstance(value, float) and len(repr(value)) > 15
