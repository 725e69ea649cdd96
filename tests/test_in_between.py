"""What one row's refusal, skip or wait means for the other rows, exactly as if they had come one at a time."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb


def make(db: cb.Database, *statements: str) -> None:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)


def trigger(db: cb.Database, table: str, event: str, when: str, then: str) -> None:
    """Make a trigger that skips a row, or raises."""
    if db.backend.name == "sqlite":
        act = "RAISE(IGNORE)" if then == "skip" else "RAISE(ABORT, 'no')"
        make(db, f"CREATE TRIGGER g BEFORE {event} ON {table} WHEN {when} BEGIN SELECT {act}; END")
        return
    act = "RETURN NULL" if then == "skip" else "RAISE 'no'"
    make(
        db,
        f"CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {when} THEN {act}; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER g BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION g()",
    )


def outcomes(report: cb.Report) -> list[str]:
    return report.outcomes["outcome"].to_list()


class Counters(cb.Table):
    """A sum that the database limits."""

    id: int = cb.field(key=True)
    n: int = cb.field(merge="add", default=0)

    class Config:
        name = "counters"


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


def test_the_row_that_breaks_a_sum_is_the_one_that_is_refused(db: cb.Database) -> None:
    make(db, "CREATE TABLE counters (id bigint PRIMARY KEY, n bigint NOT NULL CHECK (n >= 0))")
    report = db.upsert(Counters, frame(id=[2, 2, 2], n=[-5, 3, -1]), on_reject="keep")
    assert outcomes(report) == ["rejected", "duplicate", "inserted"]
    report = db.upsert(Counters, frame(id=[2, 2, 2], n=[1, -9, 2]), on_reject="keep")
    assert outcomes(report) == ["duplicate", "rejected", "updated"]
    assert db.read(Counters).rows() == [(2, 5)]


def test_a_row_that_a_trigger_skips_leaves_the_one_before_it(db: cb.Database) -> None:
    make(db, "CREATE TABLE t (id bigint PRIMARY KEY, v bigint)", "INSERT INTO t VALUES (1, 0)")
    trigger(db, "t", "UPDATE", "NEW.v = 96", "skip")
    for verb in (db.update, db.upsert):
        report = verb("t", frame(id=[1, 1], v=[5, 96]), on_reject="keep")
        assert outcomes(report)[1] == "rejected"
        assert db.read("t").rows() == [(1, 5)]


@pytest.mark.parametrize("verb", ["insert", "upsert"])
def test_a_row_that_is_refused_holds_no_unique_value(db: cb.Database, verb: str) -> None:
    make(db, "CREATE TABLE c (id bigint PRIMARY KEY, code bigint UNIQUE, amount bigint CHECK (amount >= 0))")
    rows = frame(id=[1, 2, 3], code=[5, 5, 5], amount=[-1, 1, 1])
    report = getattr(db, verb)("c", rows, on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted", "rejected"]
    assert report.failures["stage"].to_list() == ["database", "unique"]
    assert db.read("c").rows() == [(2, 5, 1)]


@pytest.mark.parametrize("on_conflict", ["error", "ignore"])
def test_a_row_that_is_refused_holds_no_key(db: cb.Database, on_conflict: Any) -> None:
    make(db, "CREATE TABLE c (id bigint PRIMARY KEY, amount bigint CHECK (amount >= 0))")
    report = db.insert("c", frame(id=[7, 7], amount=[-1, 1]), on_conflict=on_conflict, on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted"]


def test_after_an_overflow_the_sum_goes_on(db: cb.Database) -> None:
    class Small(cb.Table):
        id: int = cb.field(key=True)
        w: pl.Int8 = cb.field(merge="add", default=0)

    db.create(Small)
    rows = pl.DataFrame({"id": [1, 1, 1], "w": [100, 100, 5]}, schema={"id": pl.Int64, "w": pl.Int8})
    report = db.upsert(Small, rows, on_reject="keep")
    assert outcomes(report) == ["duplicate", "rejected", "inserted"]
    assert db.read(Small).rows() == [(1, 105)]


def test_a_bad_row_does_not_part_children_from_their_parents(db: cb.Database) -> None:
    make(
        db, "CREATE TABLE n (id bigint PRIMARY KEY, parent bigint REFERENCES n (id), v bigint CHECK (v > 0))"
    )
    rows = frame(id=[1, 2, 3, 4, 5, 6, 9, 10], parent=[6, 1, 2, 3, 4, None, None, 9], v=[1] * 6 + [-1, 1])
    report = db.insert("n", rows, on_reject="keep")
    assert outcomes(report) == ["inserted"] * 6 + ["rejected"] * 2
    assert set(report.failures["stage"]) == {"database", "reference"}
    assert report.retries == 0


def test_a_child_can_wait_for_a_parent_that_waits(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE n (id bigint PRIMARY KEY, code varchar(5) UNIQUE, parent bigint REFERENCES n (id))",
        "INSERT INTO n VALUES (1, 'a', NULL)",
    )
    report = db.upsert("n", frame(id=[1, 2, 3], code=["b", "a", "c"], parent=[None, None, 2]))
    assert outcomes(report) == ["updated", "inserted", "inserted"]


def test_a_row_that_waits_and_is_skipped_is_no_secret(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE w (id bigint PRIMARY KEY, code varchar(5) UNIQUE)",
        "INSERT INTO w VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    trigger(db, "w", "UPDATE", "OLD.id = 1", "skip")
    report = db.update("w", frame(id=[3, 2, 1], code=["d", "c", "z"]), on_reject="keep")
    assert outcomes(report) == ["updated", "updated", "rejected"]


def test_a_delete_that_takes_others_along(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE k (id bigint PRIMARY KEY, p bigint REFERENCES k (id) ON DELETE CASCADE)",
        "INSERT INTO k VALUES (1, NULL), (2, 1)",
    )
    assert db.delete("k", [1, 2]).counts == {"input": 2, "deleted": 2}


@pytest.mark.thorough
@pytest.mark.parametrize("keys", [[1.7], [True], [1, "x"], [(1, 2)], [2**70], 1, "x", None])
def test_keys_in_a_list_are_not_cast(db: cb.Database, keys: Any) -> None:
    db.create(Counters)
    db.insert(Counters, frame(id=[1, 2], n=[0, 0]))
    with pytest.raises(cb.ContractError, match="keys|key of"):
        db.delete(Counters, keys)
    assert db.read(Counters).height == 2


def test_a_number_is_no_date(db: cb.Database) -> None:
    class Days(cb.Table):
        day: pl.Date = cb.field(key=True)

    db.create(Days)
    db.insert(Days, frame(day=[dt.date(2020, 1, 1)]))
    with pytest.raises(cb.ContractError, match="cannot be read as day"):
        db.delete(Days, [18262])
    assert db.delete(Days, [dt.date(2020, 1, 1)]).counts["deleted"] == 1


def test_a_key_that_is_made_is_above_those_that_the_frame_brings(db: cb.Database) -> None:
    key = "INTEGER" if db.backend.name == "sqlite" else "bigint GENERATED BY DEFAULT AS IDENTITY"
    make(db, f"CREATE TABLE t (id {key} PRIMARY KEY, n varchar(5))", "INSERT INTO t VALUES (6, 'x')")
    report = db.upsert("t", frame(id=[7, None], n=["c", "d"]))
    assert report.counts == {"input": 2, "inserted": 2}
    assert db.read("t").height == 3


def test_a_sequence_that_lags_behind_overwrites_nothing(server_db: cb.Database) -> None:
    make(
        server_db,
        "CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n text)",
        "INSERT INTO t VALUES (1, 'x'), (2, 'y')",
    )
    new = frame(n=["a", "b", "c"]).with_columns(id=pl.lit(None, dtype=pl.Int64))
    report = server_db.upsert("t", new, on_reject="keep")
    assert outcomes(report) == ["rejected", "rejected", "inserted"]
    assert sorted(server_db.read("t")["n"]) == ["c", "x", "y"]


class Members(cb.Table):
    """Matched by their address."""

    id: int = cb.field(key=True)
    email: str = cb.field(unique=True)
    n: int = cb.field(merge="add", default=0)

    class Config:
        name = "members"


def test_matching_by_another_key_never_takes_over_a_row(db: cb.Database) -> None:
    db.create(Members)
    db.insert(Members, frame(id=[1], email=["a"], n=[1]))
    report = db.upsert(
        Members, frame(id=[1, 9], email=["new", "a"], n=[100, 1]), on="email", on_reject="keep"
    )
    assert outcomes(report) == ["rejected", "updated"]
    assert db.read(Members).rows() == [(1, "a", 2)]


def test_the_order_of_on_does_not_matter(db: cb.Database) -> None:
    make(db, "CREATE TABLE t (id bigint PRIMARY KEY, a bigint NOT NULL, b bigint NOT NULL, UNIQUE (a, b))")
    rows = frame(id=[1], a=[1], b=[2])
    assert db.upsert("t", rows, on=["b", "a"]).counts["inserted"] == 1
    assert db.upsert("t", rows.with_columns(id=pl.lit(5)), on=["b", "a"]).counts["unchanged"] == 1


def test_a_read_that_fails_leaves_the_transaction_as_it_was(db: cb.Database) -> None:
    db.create(Counters)
    with db.transaction():
        db.insert(Counters, frame(id=[1], n=[1]))
        for what in (
            lambda: db.read(Members),
            lambda: db.read("nothing"),
            lambda: db.insert("nothing", frame(a=[1])),
        ):
            with pytest.raises(cb.TableNotFound):
                what()
        db.insert(Counters, frame(id=[2], n=[1]))
    assert db.read(Counters).height == 2


def test_a_transaction_that_a_trigger_ended_does_not_go_on(db: cb.Database) -> None:
    if db.backend.name == "sqlite":
        make(
            db,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT)",
            "CREATE TRIGGER rb BEFORE INSERT ON t WHEN NEW.v = 66 BEGIN SELECT RAISE(ROLLBACK, 'stop'); END",
        )
        bad = lambda: db.insert("t", frame(id=[201], v=[66]))  # noqa: E731
    else:
        make(db, "CREATE TABLE t (id bigint PRIMARY KEY, v bigint)")
        bad = lambda: make(db, "SELECT 1 / 0")  # noqa: E731
    with pytest.raises(cb.BulkError), db.transaction():
        db.insert("t", frame(id=[200], v=[1]))
        with pytest.raises(cb.BulkError):
            bad()
        if db.backend.name == "sqlite":
            with pytest.raises(cb.DatabaseError, match="the transaction has ended"):
                db.insert("t", frame(id=[202], v=[2]))
    assert db.read("t").is_empty()
    assert db.insert("t", frame(id=[203], v=[2])).counts["inserted"] == 1


def test_json_elements_keep_their_text(db: cb.Database) -> None:
    class Logs(cb.Table):
        id: int = cb.field(key=True)
        log: str = cb.field(json=True, merge="append", default="[]")
        tags: str = cb.field(json=True, merge="union", default="[]")

    db.create(Logs)
    db.insert(Logs, frame(id=[1], log=["[9007199254740993.0]"], tags=['["y", "x"]']))
    rows = frame(
        id=[1, 1], log=['[0.1234567890123456789, "a, ]\\u00e9"]', "[1.10, -0]"], tags=["[1.10]", '["x"]']
    )
    db.upsert(Logs, rows)
    log, tags = db.read(Logs).select("log", "tags").row(0)
    assert log == '[9007199254740993.0,0.1234567890123456789,"a, ]\\u00e9",1.10,-0]'
    assert tags == '["y","x",1.10]'
    assert db.upsert(Logs, frame(id=[1], log=["[]"], tags=['["x"]'])).counts["unchanged"] == 1
    report = db.upsert(Logs, frame(id=[2], log=['{"a": 1}'], tags=["[]"]), on_reject="keep")
    assert report.failures["message"].to_list() == ["log must be a JSON array"]


@pytest.mark.parametrize("dtype", [pl.Enum(["low", "high"]), pl.Categorical, pl.String])
def test_newer_takes_whatever_has_an_order(db: cb.Database, dtype: Any) -> None:
    levels = type(
        "Levels",
        (cb.Table,),
        {"__annotations__": {"id": int, "level": dtype}, "id": cb.field(key=True), "level": cb.field()},
    )
    db.create(levels)
    older, newer = ("low", "high") if isinstance(dtype, pl.Enum) else ("high", "low")
    rows = frame(id=[1, 1], level=[newer, older]).with_columns(pl.col("level").cast(dtype))
    assert outcomes(db.upsert(levels, rows, newer="level")) == ["inserted", "stale"]


def test_a_sync_needs_its_key(db: cb.Database) -> None:
    key = (
        "INTEGER PRIMARY KEY"
        if db.backend.name == "sqlite"
        else "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    )
    make(db, f"CREATE TABLE t (id {key}, n varchar(5))")
    db.insert("t", frame(n=["four"]))
    with pytest.raises(cb.ContractError, match="key column 'id' is missing"):
        db.sync("t", frame(n=["four"]))


def test_a_sync_points_elsewhere_before_it_deletes(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE n (id bigint PRIMARY KEY, p bigint REFERENCES n (id))",
        "INSERT INTO n VALUES (1, NULL), (2, 1)",
    )
    report = db.sync("n", frame(id=[2, 3], p=[3, None]))
    assert report.counts == {"input": 3, "inserted": 1, "updated": 1, "deleted": 1}
    with pytest.raises(cb.RejectedRows, match="id = '3': rows of n that stay refer to it by p"):
        db.sync("n", frame(id=[2], p=[3]))
    assert db.read("n").height == 2


def test_a_parent_may_go_first_where_that_is_checked_at_the_end(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE p (id bigint PRIMARY KEY)",
        "CREATE TABLE ch (id bigint PRIMARY KEY, p bigint REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO p VALUES (1)",
        "INSERT INTO ch VALUES (1, 1)",
    )
    with db.transaction():
        assert db.delete("p", [1]).counts["deleted"] == 1
        assert db.delete("ch", [1]).counts["deleted"] == 1
    assert db.read("p").is_empty()
    assert db.read("ch").is_empty()


@pytest.mark.parametrize("verb", ["upsert", "update"])
def test_a_long_chain_of_values_that_are_handed_on_is_one_statement(db: cb.Database, verb: str) -> None:
    make(db, "CREATE TABLE w (id bigint PRIMARY KEY, place bigint NOT NULL UNIQUE)")
    n = 500
    db.insert("w", frame(id=range(n), place=range(n)))
    seen: list[str] = []
    db.trace(seen.append)
    shifted = frame(id=range(n - 1, -1, -1), place=range(n, 0, -1))
    assert getattr(db, verb)("w", shifted).counts == {"input": n, "updated": n}
    if (db.backend.name, verb) != ("sqlite", "update"):  # SQLite's UPDATE … FROM goes by the target's order
        assert len(seen) < 40
    assert db.read("w", order_by="id")["place"].to_list() == list(range(1, n + 1))


def test_rows_of_one_made_key_stand_for_themselves_when_the_last_is_refused(db: cb.Database) -> None:
    key = "INTEGER" if db.backend.name == "sqlite" else "bigint GENERATED ALWAYS AS IDENTITY"
    make(
        db,
        f"CREATE TABLE m (id {key} PRIMARY KEY, email varchar(5) NOT NULL UNIQUE, amount bigint CHECK (amount >= 0))",
    )
    rows = frame(email=["x", "x", "x", "y"], amount=[1, 2, -1, 3])
    report = db.upsert("m", rows, on="email", on_reject="keep")
    assert outcomes(report) == ["duplicate", "inserted", "rejected", "inserted"]
    assert db.read("m", columns=["email", "amount"], order_by="email").rows() == [("x", 2), ("y", 3)]


class Pairs(cb.Table):
    """Rows that may point at each other in a circle."""

    k: str = cb.field(key=True)
    d: int | None = cb.field(unique=True)
    r: str | None = cb.field(references="pairs.k")
    s: str | None = cb.field(references="pairs.k", merge="max")

    class Config:
        name = "pairs"


def test_a_row_without_a_parent_anywhere_takes_no_circle_along(db: cb.Database) -> None:
    rows = [
        ("a", 1, "b", "b"),
        ("b", 1, None, "z"),
        ("b", 4, "b", "a"),
        ("b", None, "z", "a"),
        ("a", None, None, "b"),
    ]
    chosen = {
        (0, 1, 2): ["inserted", "rejected", "inserted"],
        (0, 1, 2, 3): ["inserted", "rejected", "inserted", "rejected"],
        (0, 1, 2, 4): ["duplicate", "rejected", "inserted", "inserted"],
        (0, 1, 2, 3, 4): ["duplicate", "rejected", "inserted", "rejected", "inserted"],
    }
    db.create(Pairs)
    for numbers, expected in chosen.items():
        given = pl.DataFrame([rows[number] for number in numbers], schema=["k", "d", "r", "s"], orient="row")
        report = db.upsert(Pairs, given, on_reject="keep")
        assert outcomes(report) == expected
        last = ("a", 1, "b", "b") if numbers[-1] != 4 else ("a", None, None, "b")
        assert db.read(Pairs, order_by="k").rows() == [last, ("b", 4, "b", "a")]
        report.undo()
