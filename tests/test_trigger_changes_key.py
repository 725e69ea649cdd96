"""A trigger that changes the key of a row: the report, the journal and the undo follow the row that really stands there."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import crave_bulk as cb


def make(db: cb.Database, *statements: str) -> None:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


def outcomes(report: cb.Report) -> list[str]:
    return report.outcomes["outcome"].to_list()


@pytest.fixture
def upper(server_db: cb.Database) -> cb.Database:
    make(
        server_db,
        "CREATE TABLE k (code text PRIMARY KEY, v bigint, name text UNIQUE)",
        "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.code := upper(NEW.code); RETURN NEW; END $$",
        "CREATE TRIGGER t BEFORE INSERT ON k FOR EACH ROW EXECUTE FUNCTION up()",
    )
    return server_db


@pytest.mark.parametrize("verb", ["insert", "upsert", "sync"])
def test_a_new_row_is_reported_and_undone_under_the_key_that_it_has(upper: cb.Database, verb: str) -> None:
    report = getattr(upper, verb)("k", frame(code=["abc", "DEF", "ghi"], v=[1, 2, 3]))
    assert report.counts == {"input": 3, "inserted": 3}
    assert report.keys.rows() == [(0, "ABC"), (1, "DEF"), (2, "GHI")]
    assert upper.read("k", order_by="code")["code"].to_list() == ["ABC", "DEF", "GHI"]
    undone = report.undo()
    assert undone.counts == {"input": 3, "deleted": 3}
    assert upper.read("k").is_empty()
    undone.undo()
    assert upper.read("k").height == 3


def test_an_upsert_meets_the_row_whose_key_the_trigger_makes(upper: cb.Database) -> None:
    make(upper, "INSERT INTO k VALUES ('abc', 1), ('def', 2)")
    report = upper.upsert("k", frame(code=["abc", "def", "ghi"], v=[1, 20, 30]))
    assert outcomes(report) == ["unchanged", "updated", "inserted"]
    assert report.keys["code"].to_list() == ["ABC", "DEF", "GHI"]
    assert upper.read("k", order_by="code").rows() == [("ABC", 1, None), ("DEF", 20, None), ("GHI", 30, None)]
    assert report.undo().counts == {"input": 2, "updated": 1, "deleted": 1}
    assert upper.read("k", order_by="code").rows() == [("ABC", 1, None), ("DEF", 2, None)]


def test_rows_of_one_key_come_in_their_order(upper: cb.Database) -> None:
    report = upper.upsert("k", frame(code=["abc", "Abc", "aBC"], v=[1, 2, 3]))
    assert outcomes(report)[0] == "inserted"
    assert upper.read("k").rows() == [("ABC", 3, None)]
    report.undo()
    assert upper.read("k").is_empty()
    report = upper.upsert("k", frame(code=["abc", "ABC"], v=[1, 2]), on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted"]
    assert "the key of a later row of the frame" in report.failures["message"].item()


def test_an_insert_of_a_key_that_the_trigger_makes_a_taken_one_is_refused(upper: cb.Database) -> None:
    make(upper, "INSERT INTO k VALUES ('abc', 1)")
    report = upper.insert("k", frame(code=["abc", "new"], v=[5, 6]), on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted"]
    assert report.failures.select("stage", "column", "value").rows() == [("unique", "code", "abc")]
    assert "gives the row the key ABC, and a row with it exists already" in report.failures["message"].item()


def test_another_unique_value_is_still_told_apart(upper: cb.Database) -> None:
    make(upper, "INSERT INTO k VALUES ('abc', 1, 'x')")
    report = upper.upsert("k", frame(code=["def", "ghi"], v=[5, 6], name=["x", "y"]), on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted"]
    assert "another row holds this name" in report.failures["message"].item()
    assert report.keys["code"].to_list() == ["GHI"]


def test_a_row_is_not_in_its_own_way(upper: cb.Database) -> None:
    rows = frame(code=["abc", "def"], v=[1, 2], name=["x", "y"])
    upper.upsert("k", rows)
    assert upper.upsert("k", rows).counts == {"input": 2, "unchanged": 2}
    rows = frame(code=["abc", "new", "ghi", "def", "DEF"], v=[5, 6, 7, 8, 9], name=["x", "x", "z", "y", "y"])
    report = upper.upsert("k", rows, on_reject="keep")
    assert outcomes(report) == ["updated", "rejected", "inserted", "duplicate", "updated"]
    assert report.failures.select("row", "stage", "column", "value").rows() == [(1, "unique", "name", "x")]
    assert "its code is ABC" in report.failures["message"].item()
    there = upper.read("k", order_by="code").rows()
    assert there == [("ABC", 5, "x"), ("DEF", 9, "y"), ("GHI", 7, "z")]
    report.undo()
    assert upper.read("k", order_by="code").rows() == [("ABC", 1, "x"), ("DEF", 2, "y")]
    handed_on = frame(code=["abc", "def"], v=[1, 2], name=["y", "z"])
    assert upper.sync("k", handed_on).counts == {"input": 2, "updated": 2}
    assert upper.read("k", order_by="code").rows() == [("ABC", 1, "y"), ("DEF", 2, "z")]


def test_keys_that_a_trigger_counts_itself(server_db: cb.Database) -> None:
    make(
        server_db,
        "CREATE TABLE s (id bigint PRIMARY KEY, v bigint)",
        "CREATE SEQUENCE numbers START 1000",
        "CREATE FUNCTION next_number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := nextval('numbers'); RETURN NEW; END $$",
        "CREATE TRIGGER t BEFORE INSERT ON s FOR EACH ROW EXECUTE FUNCTION next_number()",
    )
    report = server_db.insert("s", frame(id=[1, 2], v=[10, 20]))
    there = dict(server_db.read("s").select("v", "id").rows())
    assert report.keys["id"].to_list() == [there[10], there[20]]
    report.undo()
    assert server_db.read("s").is_empty()


def test_what_cannot_be_followed_is_refused(db: cb.Database) -> None:
    make(db, "CREATE TABLE k (id bigint PRIMARY KEY, v bigint)", "INSERT INTO k VALUES (1, 1)")
    act = "UPDATE k SET id = NEW.id + 100 WHERE id = NEW.id"
    if db.backend.name == "sqlite":
        make(
            db,
            f"CREATE TRIGGER i AFTER INSERT ON k WHEN NEW.v = 66 BEGIN {act}; END",
            f"CREATE TRIGGER u AFTER UPDATE ON k WHEN NEW.v = 77 AND NEW.id < 100 BEGIN {act}; END",
        )
    else:
        make(
            db,
            f"CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {act}; RETURN NULL; END $$",
            "CREATE TRIGGER i AFTER INSERT ON k FOR EACH ROW WHEN (NEW.v = 66) EXECUTE FUNCTION g()",
            "CREATE TRIGGER u AFTER UPDATE ON k FOR EACH ROW WHEN (NEW.v = 77 AND NEW.id < 100) EXECUTE FUNCTION g()",
        )
    report = db.insert("k", frame(id=[2, 3], v=[66, 3]), on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted"]
    assert "changes the key" in report.failures["message"].item()
    for verb in (db.upsert, db.update):
        report = verb("k", frame(id=[1, 3], v=[77, 4]), on_reject="keep")
        assert outcomes(report)[0] == "rejected"
        assert db.read("k", order_by="id").rows() == [(1, 1), (3, 4)]


def test_a_sync_keeps_the_row_whose_key_the_trigger_makes(upper: cb.Database) -> None:
    make(upper, "ALTER TABLE k ADD p text REFERENCES k (code) ON DELETE CASCADE")
    make(
        upper,
        "INSERT INTO k VALUES ('abc', 1), ('def', 2), ('ghi', 3)",
        "UPDATE k SET p = 'ABC' WHERE code = 'DEF'",
    )
    rows = frame(code=["abc", "DEF", "new"], v=[1, 20, 4])
    report = upper.sync("k", rows)
    assert report.counts == {"input": 4, "inserted": 1, "updated": 1, "unchanged": 1, "deleted": 1}
    assert report.keys["code"].to_list() == ["ABC", "DEF", "NEW"]
    assert report.deleted["code"].to_list() == ["GHI"]
    there = upper.read("k", order_by="code").select("code", "v", "p").rows()
    assert there == [("ABC", 1, None), ("DEF", 20, "ABC"), ("NEW", 4, None)]
    assert upper.sync("k", rows).counts == {"input": 3, "unchanged": 3}
    report.undo()
    assert upper.read("k", order_by="code")["v"].to_list() == [1, 2, 3]


def test_a_row_that_a_trigger_stores_elsewhere_in_the_table_is_inserted(server_db: cb.Database) -> None:
    make(
        server_db,
        "CREATE TABLE p (id bigint PRIMARY KEY, v bigint)",
        "CREATE TABLE p1 (PRIMARY KEY (id)) INHERITS (p)",
        "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id < 9 THEN INSERT INTO p1 VALUES (NEW.*); END IF; RETURN NULL; END $$",
        "CREATE TRIGGER g BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION g()",
    )
    for verb, numbers in ((server_db.insert, [1, 9]), (server_db.upsert, [2, 9])):
        report = verb("p", frame(id=numbers, v=[1, 2]), on_reject="keep")
        assert outcomes(report) == ["inserted", "rejected"]
        assert "left the row out without an error" in report.failures["message"].item()
    assert server_db.read("p", order_by="id")["id"].to_list() == [1, 2]


def test_a_row_that_a_constraint_ignores_is_rejected(tmp_path: Any) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        make(
            db,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, email TEXT COLLATE NOCASE UNIQUE ON CONFLICT IGNORE)",
            "INSERT INTO t VALUES (1, 'ann@x')",
        )
        for verb, numbers in ((db.insert, [2, 3]), (db.upsert, [4, 5])):
            report = verb("t", frame(id=numbers, email=["ANN@x", f"b{numbers[1]}"]), on_reject="keep")
            assert outcomes(report) == ["rejected", "inserted"]
            assert report.failures["stage"].item() == "unique"


def test_a_row_that_is_unchanged_is_a_later_row_as_well(upper: cb.Database) -> None:
    make(upper, "INSERT INTO k VALUES ('ABC', 2)")
    report = upper.upsert("k", frame(code=["abc", "ABC"], v=[1, 2]), on_reject="keep")
    assert outcomes(report) == ["rejected", "unchanged"]
    assert upper.read("k").rows() == [("ABC", 2, None)]
