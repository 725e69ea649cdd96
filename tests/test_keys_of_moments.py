"""SQLite keys that are moments, which others write in other forms: a row is found, or the call says that it is not."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from reflecting import run

import crave_bulk as cb

MOMENT = dt.datetime(2024, 5, 1, 10)
FORMS = [
    "2024-05-01 10:00:00",
    "2024-05-01T10:00:00",
    "2024-05-01 10:00:00.000",
    "2024-05-01T10:00:00.000Z",
    "2024-05-01 10:00:00+00:00",
    "2024-05-01 10:00",
    "2024-05-01T10:00:00.000000",
    1714557600000,
]


@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_another_form_is_no_new_key(tmp_path: Path, form: str | int) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        run(
            db,
            "CREATE TABLE m (sensor INT, at TIMESTAMP, v REAL, PRIMARY KEY (sensor, at))",
            f"INSERT INTO m VALUES (1, {form!r}, 1.0)",
        )
        frame = db.read("m").with_columns(v=pl.lit(9.0))
        assert frame["at"].to_list() == [MOMENT]
        for call in (db.insert, db.upsert, db.update, db.sync):
            with pytest.raises(
                cb.ContractError, match=f"sensor, at = 1, {str(form).replace('+', '.')}, which"
            ):
                call("m", frame)
        with pytest.raises(cb.ContractError, match="would not be found by its key"):
            db.delete("m", frame)
        assert db.read("m")["v"].to_list() == [1.0]
        other = frame.with_columns(at=pl.col("at") + pl.duration(seconds=1))
        assert db.upsert("m", other).counts == {"input": 1, "inserted": 1}
        assert db.upsert("m", other.with_columns(v=8.0)).counts == {"input": 1, "updated": 1}


@pytest.mark.parametrize("form", ["10:00:00", "10:00:00.000"])
def test_a_time_in_another_form_is_no_new_key(tmp_path: Path, form: str) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        run(db, "CREATE TABLE n (at TIME PRIMARY KEY, v REAL)", f"INSERT INTO n VALUES ('{form}', 1.0)")
        with pytest.raises(cb.ContractError, match=f"at = {form}, which"):
            db.upsert("n", db.read("n").with_columns(v=pl.lit(9.0)))


def test_keys_of_our_own_are_found(db: cb.Database) -> None:
    class Readings(cb.Table):
        at: pl.Datetime("us", "UTC") = cb.field(key=True)  # type: ignore[valid-type]
        time: pl.Time = cb.field(key=True)
        v: int

    db.create(Readings)
    moments = [MOMENT, MOMENT + dt.timedelta(microseconds=1), dt.datetime(2024, 5, 1)]
    frame = pl.DataFrame(
        {"at": moments, "time": [dt.time(10), dt.time(0), dt.time(1, 2, 3, 4)], "v": [1, 2, 3]}
    )
    frame = frame.with_columns(pl.col("at").dt.replace_time_zone("UTC"))
    for outcome in ("inserted", "unchanged"):
        assert db.upsert(Readings, frame).counts == {"input": 3, outcome: 3}
    assert db.delete(Readings, frame).counts == {"input": 3, "deleted": 3}
