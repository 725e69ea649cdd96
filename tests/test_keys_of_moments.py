"""SQLite keys that are moments, which others write in other forms: a row is found, or the call says that it is not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
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


def stored(db: cb.Database, table: str, column: str = "at") -> list[tuple[str, object]]:
    """What stands there, to the letter."""
    with db.session() as session:
        return session.fetch(f"SELECT CAST({column} AS TEXT) AS a, v FROM {table} ORDER BY a").rows()


@pytest.fixture(params=FORMS, ids=map(str, FORMS))
def form(request: pytest.FixtureRequest) -> str | int:
    """One way to write the same moment."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def readings(tmp_path: Path, form: str | int) -> Iterator[cb.Database]:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        run(
            db,
            "CREATE TABLE m (sensor INT, at TIMESTAMP, v REAL, PRIMARY KEY (sensor, at))",
            f"INSERT INTO m VALUES (1, {form!r}, 1.0)",
        )
        yield db


def test_the_same_moment_is_the_same_key(readings: cb.Database, form: str | int) -> None:
    db = readings
    frame = db.read("m")
    assert frame["at"].to_list() == [MOMENT]
    assert db.upsert("m", frame).counts == {"input": 1, "unchanged": 1}
    report = db.upsert("m", frame.with_columns(v=2.0))
    assert report.counts == {"input": 1, "updated": 1}
    assert report.keys["at"].to_list() == [MOMENT]
    assert stored(db, "m") == [(str(form), 2.0)]
    if isinstance(form, str):  # a number there cannot be kept for an undo, and the report says so
        report.undo()
        assert stored(db, "m") == [(str(form), 1.0)]
    else:
        assert "cannot be taken back" in report.notes[0]
    assert db.update("m", frame.with_columns(v=3.0)).counts == {"input": 1, "updated": 1}
    assert db.sync("m", frame.with_columns(v=4.0)).counts == {"input": 1, "updated": 1}
    assert stored(db, "m") == [(str(form), 4.0)]
    with pytest.raises(cb.RejectedRows, match="exists already"):
        db.insert("m", frame)
    assert db.insert("m", frame, on_conflict="ignore").counts == {"input": 1, "ignored": 1}
    gone = db.delete("m", frame)
    assert gone.counts == {"input": 1, "deleted": 1}
    if isinstance(form, str):
        gone.undo()
        assert stored(db, "m") == [(str(form), 4.0)]


def test_new_keys_beside_it_are_written_in_one_form(readings: cb.Database, form: str | int) -> None:
    db = readings
    later = [MOMENT, MOMENT + dt.timedelta(seconds=1), MOMENT]
    frame = pl.DataFrame({"sensor": [1, 1, 1], "at": later, "v": [2.0, 3.0, 4.0]})
    report = db.upsert("m", frame)
    assert report.counts == {"input": 3, "inserted": 1, "updated": 1, "duplicate": 1}
    assert sorted(stored(db, "m")) == sorted([(str(form), 4.0), ("2024-05-01 10:00:01.000000", 3.0)])
    assert report.keys["at"].to_list() == [MOMENT + dt.timedelta(seconds=1), MOMENT]
    gone = db.sync("m", frame.head(1))
    assert gone.counts == {"input": 2, "updated": 1, "deleted": 1}
    assert stored(db, "m") == [(str(form), 2.0)]
    if isinstance(form, int):
        return
    gone.undo()
    assert sorted(stored(db, "m")) == sorted([(str(form), 4.0), ("2024-05-01 10:00:01.000000", 3.0)])


def test_what_adds_finds_it_too(readings: cb.Database, form: str | int) -> None:
    class Readings(cb.Table):
        sensor: int = cb.field(key=True)
        at: pl.Datetime("us") = cb.field(key=True)  # type: ignore[valid-type]
        v: float = cb.field(merge="add")

        class Config:
            name = "m"

    frame = pl.DataFrame({"sensor": [1, 1], "at": [MOMENT, MOMENT], "v": [2.0, 3.0]})
    assert readings.upsert(Readings, frame).counts == {"input": 2, "updated": 1, "duplicate": 1}
    assert stored(readings, "m") == [(str(form), 6.0)]


@pytest.mark.parametrize("form", ["2024-05-01 10:00:00+00:00", "2024-05-01T10:00:00Z", "2024-05-01 10:00:00"])
def test_a_moment_with_a_zone(tmp_path: Path, form: str) -> None:
    class Readings(cb.Table):
        at: pl.Datetime("us", "Europe/Berlin") = cb.field(key=True)  # type: ignore[valid-type]
        v: float

        class Config:
            name = "z"

    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        run(db, "CREATE TABLE z (at TEXT PRIMARY KEY, v REAL)", f"INSERT INTO z VALUES ('{form}', 1.0)")
        frame = db.read(Readings).with_columns(v=2.0)
        report = db.upsert(Readings, frame)
        assert report.counts == {"input": 1, "updated": 1}
        assert report.keys["at"].to_list() == frame["at"].to_list()
        assert stored(db, "z") == [(form, 2.0)]


@pytest.mark.parametrize("form", ["10:00:00", "10:00:00.000"])
def test_the_same_time_is_the_same_key(tmp_path: Path, form: str) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        run(db, "CREATE TABLE n (at TIME PRIMARY KEY, v REAL)", f"INSERT INTO n VALUES ('{form}', 1.0)")
        assert db.upsert("n", db.read("n").with_columns(v=9.0)).counts == {"input": 1, "updated": 1}
        assert stored(db, "n") == [(form, 9.0)]


def test_a_moment_in_two_forms_is_refused(readings: cb.Database, form: str | int) -> None:
    run(readings, "INSERT INTO m VALUES (1, '2024-05-01 10:00:00.000000', 5.0)")
    frame = readings.read("m").with_columns(v=9.0)
    for call in (readings.insert, readings.upsert, readings.update, readings.sync, readings.delete):
        with pytest.raises(cb.ContractError, match="more than one row with sensor, at = 1, "):
            call("m", frame.head(1))
    assert readings.read("m", order_by="v")["v"].to_list() == [1.0, 5.0]


def test_a_moment_that_rows_are_matched_by_must_be_in_one_form(tmp_path: Path) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        run(
            db,
            "CREATE TABLE n (id INTEGER PRIMARY KEY, at TIMESTAMP UNIQUE, v REAL)",
            "INSERT INTO n VALUES (1, '2024-05-01 10:00:00', 1.0)",
        )
        with pytest.raises(cb.ContractError, match="match the rows by the key of the table"):
            db.upsert("n", db.read("n").drop("id"), on="at")


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
