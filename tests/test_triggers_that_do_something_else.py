"""Triggers that write in their own way and leave the row out: what the database did is what the report says."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from reflecting import ask, run

import crave_bulk as cb

FUNCTION = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {} RETURN NULL; END$$"


def trigger(db: cb.Database, event: str, body: str, table: str = "t") -> None:
    """Make a trigger that does something and leaves the row out."""
    if db.backend.name == "postgresql":
        run(
            db,
            FUNCTION.format(body),
            f"CREATE TRIGGER f BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION f()",
        )
    else:
        run(db, f"CREATE TRIGGER f BEFORE {event} ON {table} BEGIN {body} SELECT RAISE(IGNORE); END")


@pytest.fixture
def marks(db: cb.Database) -> cb.Database:
    """A table of which rows 1 to 3 are there, and a log."""
    run(
        db,
        "CREATE TABLE t (id bigint PRIMARY KEY, gone boolean DEFAULT false, n bigint)",
        "CREATE TABLE log (id bigint)",
        "INSERT INTO t (id, n) VALUES (1, 10), (2, 20), (3, 30)",
    )
    return db


def rows(db: cb.Database) -> list[tuple[Any, ...]]:
    return db.read("t", order_by="id").rows()


ALL = [(1, False, 10), (2, False, 20), (3, False, 30)]
SOFT = "UPDATE t SET gone = true WHERE id = OLD.id;"


def test_a_condition_that_deletes_reports_the_rows_that_were_marked(marks: cb.Database) -> None:
    trigger(marks, "DELETE", SOFT)
    report = marks.delete_where("t", {"id__lt": 3})
    assert report.counts == {"input": 2, "updated": 2}
    assert "changed in its own way, where they were to be deleted: 2." in report.notes[0]
    assert rows(marks) == [(1, True, 10), (2, True, 20), ALL[2]]
    assert sorted(report.keys["id"]) == [1, 2]
    report.undo()
    assert rows(marks) == ALL


@pytest.mark.parametrize("verb", ["delete", "sync"])
def test_a_row_that_was_to_be_deleted_is_refused_and_not_marked(marks: cb.Database, verb: str) -> None:
    trigger(marks, "DELETE", SOFT)
    if verb == "delete":
        report = marks.delete("t", [1, 2], on_reject="keep")
        assert report.counts == {"input": 2, "rejected": 2}
    else:
        report = marks.sync("t", pl.DataFrame({"id": [3], "n": [30]}), on_reject="keep")
        assert report.counts == {"input": 3, "unchanged": 1, "rejected": 2}
    assert "is still there" in report.failures["message"][0]
    assert rows(marks) == ALL
    with pytest.raises(cb.RejectedRows):
        marks.delete("t", [1])
    assert rows(marks) == ALL


@pytest.mark.parametrize("verb", ["insert", "upsert"])
def test_a_row_that_is_left_out_leaves_no_traces(marks: cb.Database, verb: str) -> None:
    trigger(marks, "INSERT", "INSERT INTO log VALUES (NEW.id);")
    report = getattr(marks, verb)("t", pl.DataFrame({"id": [7, 8], "n": [1, 2]}), on_reject="keep")
    assert report.counts == {"input": 2, "rejected": 2}
    assert rows(marks) == ALL
    assert ask(marks, "SELECT count(*) AS n FROM log").item() == 0


def test_a_row_that_is_left_out_takes_no_other_along(marks: cb.Database) -> None:
    body = (
        "IF NEW.id = 8 THEN INSERT INTO log VALUES (NEW.id); ELSE RETURN NEW; END IF;"
        if marks.backend.name == "postgresql"
        else "INSERT INTO log SELECT NEW.id WHERE NEW.id = 8; SELECT RAISE(IGNORE) WHERE NEW.id = 8; "
    )
    if marks.backend.name == "postgresql":
        trigger(marks, "INSERT", body)
    else:
        run(marks, f"CREATE TRIGGER f BEFORE INSERT ON t BEGIN {body}END")
    report = marks.upsert("t", pl.DataFrame({"id": [1, 7, 8, 9], "n": [11, 1, 2, 3]}), on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["updated", "inserted", "rejected", "inserted"]
    assert ask(marks, "SELECT count(*) AS n FROM log").item() == 0
    assert [row[0] for row in rows(marks)] == [1, 2, 3, 7, 9]
    report.undo()
    assert rows(marks) == ALL


@pytest.mark.parametrize("verb", ["upsert", "update", "sync"])
def test_an_update_that_is_left_out_leaves_no_traces(marks: cb.Database, verb: str) -> None:
    trigger(marks, "UPDATE", "INSERT INTO log VALUES (NEW.id);")
    frame = pl.DataFrame({"id": [1, 2, 3], "n": [11, 20, 30]})
    report = getattr(marks, verb)("t", frame, on_reject="keep")
    assert report.counts == {"input": 3, "unchanged": 2, "rejected": 1}
    assert rows(marks) == ALL
    assert ask(marks, "SELECT count(*) AS n FROM log").item() == 0


def test_a_condition_that_updates_reports_what_a_trigger_did_instead(marks: cb.Database) -> None:
    body = "IF NEW.n = 11 THEN UPDATE t SET gone = true, n = 12 WHERE id = OLD.id; ELSE RETURN NEW; END IF;"
    if marks.backend.name == "postgresql":
        trigger(marks, "UPDATE", body)
    else:
        run(
            marks,
            "CREATE TRIGGER f BEFORE UPDATE ON t WHEN NEW.n = 11 BEGIN "
            "UPDATE t SET gone = true, n = 12 WHERE id = OLD.id; SELECT RAISE(IGNORE); END",
        )
    report = marks.update_where("t", {"n": 11}, {"id": 1})
    assert report.counts == {"input": 1, "updated": 1}
    assert "changed in its own way" in report.notes[0]
    assert rows(marks)[0] == (1, True, 12)
    report.undo()
    assert rows(marks) == ALL


def test_a_trigger_of_a_partition(server_db: cb.Database) -> None:
    db = server_db
    run(
        db,
        "CREATE TABLE t (id bigint PRIMARY KEY, gone boolean DEFAULT false, n bigint) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE log (id bigint)",
        "INSERT INTO t (id, n) VALUES (1, 10), (2, 20), (3, 30)",
    )
    trigger(db, "DELETE", SOFT, "t1")
    report = db.delete_where("t", {"id": 1})
    assert report.counts == {"input": 1, "updated": 1}
    assert rows(db)[0] == (1, True, 10)
    report.undo()
    assert db.delete("t", [1], on_reject="keep").counts == {"input": 1, "rejected": 1}
    run(db, "DROP TRIGGER f ON t1", "DROP FUNCTION f")
    trigger(db, "UPDATE", "INSERT INTO log VALUES (NEW.id);", "t1")
    report = db.upsert("t", pl.DataFrame({"id": [1], "n": [11]}), on_reject="keep")
    assert report.counts == {"input": 1, "rejected": 1}
    assert ask(db, "SELECT count(*) AS n FROM log").item() == 0
    assert rows(db) == ALL


def test_a_trigger_that_rolls_back_everything_is_named() -> None:
    with cb.connect() as db:
        run(
            db,
            "CREATE TABLE t (id bigint PRIMARY KEY, n bigint)",
            "CREATE TRIGGER f BEFORE INSERT ON t WHEN NEW.n = 5 BEGIN SELECT RAISE(ROLLBACK, 'no fives'); END",
        )
        frame = pl.DataFrame({"id": [1, 2], "n": [1, 5]})
        for verb in (db.insert, db.upsert):
            with pytest.raises(
                cb.DatabaseError, match=r"rolled back everything \(no fives\): nothing of it was written"
            ):
                verb("t", frame, on_reject="keep")
        assert db.read("t").is_empty()
        assert db.insert("t", frame.head(1)).counts == {"input": 1, "inserted": 1}


def test_what_was_refused_beside_a_row_that_is_left_out_is_judged_anew(db: cb.Database) -> None:
    class Nodes(cb.Table):
        id: int = cb.field(key=True)
        up: int | None = cb.field(references="nodes.id")
        n: int = cb.field(default=1)

        class Config:
            name = "nodes"

    db.create(Nodes)
    if db.backend.name == "postgresql":
        trigger(db, "INSERT", "IF NEW.id <> 3 THEN RETURN NEW; END IF;", "nodes")
    else:
        run(db, "CREATE TRIGGER f BEFORE INSERT ON nodes WHEN NEW.id = 3 BEGIN SELECT RAISE(IGNORE); END")
    # Row 4 makes the row of its key, as row 2 hangs under one that the trigger leaves out; so its null takes the default.
    frame = pl.DataFrame(
        {"id": [3, 4, 5, 1, 5], "up": [None, 3, 4, None, 1], "n": pl.Series([None] * 5, dtype=pl.Int64)}
    )
    for verb in (db.upsert, db.sync):
        report = verb(Nodes, frame, on_reject="keep")
        assert report.outcomes["outcome"].to_list() == [
            "rejected",
            "rejected",
            "rejected",
            "inserted",
            "inserted",
        ]
        assert db.read(Nodes, order_by="id").rows() == [(1, None, 1), (5, 1, 1)]
        report.undo()
