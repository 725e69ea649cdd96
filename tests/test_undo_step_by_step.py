"""Undo takes the steps of a transaction back one by one, and what waits for rows of an earlier step comes after it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb


def make(db: cb.Database, *statements: str) -> None:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)


def rows(db: cb.Database, table: str) -> list[Any]:
    return db.read(table, order_by="id").rows()


@pytest.fixture
def seats(db: cb.Database) -> cb.Database:
    make(
        db,
        "CREATE TABLE seats (id bigint PRIMARY KEY, code varchar(9) NOT NULL UNIQUE)",
        "INSERT INTO seats VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    return db


def exchange(db: cb.Database) -> str:
    """Exchange two values that may not be NULL, by way of a third."""
    with db.transaction():
        for row, code in ((1, "free"), (2, "a"), (1, "b")):
            report = db.upsert("seats", pl.DataFrame({"id": [row], "code": [code]}))
    return report.batch_id


def test_values_that_were_exchanged_are_exchanged_again_and_again(seats: cb.Database) -> None:
    before, batch = rows(seats, "seats"), exchange(seats)
    after = rows(seats, "seats")
    assert after == [(1, "b"), (2, "a"), (3, "c")]
    for wanted in (before, after, before, after):
        batch = seats.undo(batch).batch_id
        assert rows(seats, "seats") == wanted


def test_a_redo_is_refused_where_the_rows_have_changed_since(seats: cb.Database) -> None:
    undone = seats.undo(exchange(seats))
    seats.upsert("seats", pl.DataFrame({"id": [2], "code": ["other"]}))
    with pytest.raises(cb.UndoRefused, match="code was 'b' and is 'other'") as caught:
        undone.undo()
    assert caught.value.rows.select("key", "written", "found").rows() == [("2", "b", "other")]
    assert rows(seats, "seats") == [(1, "a"), (2, "other"), (3, "c")]


@pytest.fixture
def chain(db: cb.Database) -> cb.Database:
    """Make rows of two tables that point at each other in turn: b10 at a1, a2 at b10, b11 at a2."""
    circle = [
        "CREATE TABLE a (id bigint PRIMARY KEY, b bigint REFERENCES b (id) ON DELETE CASCADE)",
        "CREATE TABLE b (id bigint PRIMARY KEY, a bigint REFERENCES a (id) ON DELETE CASCADE)",
    ]
    if "postgresql" in repr(db):
        circle[0] = "CREATE TABLE a (id bigint PRIMARY KEY, b bigint)"
        circle.append("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE")
    make(
        db,
        *circle,
        "INSERT INTO a VALUES (1, NULL)",
        "INSERT INTO b VALUES (10, 1)",
        "INSERT INTO a VALUES (2, 10)",
        "INSERT INTO b VALUES (11, 2)",
    )
    return db


@pytest.mark.parametrize("force", [False, True])
def test_a_cascade_that_goes_to_and_fro_comes_back(chain: cb.Database, force: bool) -> None:
    before = rows(chain, "a"), rows(chain, "b")
    report = chain.delete("a", pl.DataFrame({"id": [1]}))
    assert (rows(chain, "a"), rows(chain, "b")) == ([], [])
    back = report.undo(force=force)
    assert (rows(chain, "a"), rows(chain, "b")) == before
    assert back.counts == {"input": 4, "inserted": 4}
    again = back.undo()
    assert (rows(chain, "a"), rows(chain, "b")) == ([], [])
    again.undo()
    assert (rows(chain, "a"), rows(chain, "b")) == before


def test_what_still_is_in_the_way_is_named_or_left_out(chain: cb.Database) -> None:
    report = chain.delete("a", pl.DataFrame({"id": [1]}))
    chain.insert("b", pl.DataFrame({"id": [10], "a": [None]}, schema={"id": pl.Int64, "a": pl.Int64}))
    with pytest.raises(cb.UndoRefused, match="10 of table b: id was None and is '10'"):
        report.undo()
    assert (rows(chain, "a"), rows(chain, "b")) == ([], [(10, None)])
    back = report.undo(force=True)
    assert (rows(chain, "a"), rows(chain, "b")) == ([(1, None), (2, 10)], [(10, None), (11, 2)])
    assert back.counts == {"input": 4, "inserted": 3, "stale": 1}


def test_force_leaves_alone_what_lets_go_of_its_value_in_vain(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE t (id bigint PRIMARY KEY, u varchar(5) UNIQUE)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (4, 'd')",
    )
    report = db.upsert("t", pl.DataFrame({"id": [2, 1, 4], "u": ["c", "b", "e"]}))
    make(db, "INSERT INTO t VALUES (3, 'a')")
    with pytest.raises(cb.UndoRefused, match="u = 'a': another row holds this u: its id is 3"):
        report.undo()
    back = report.undo(force=True)
    assert back.counts == {"input": 3, "updated": 1, "rejected": 2}
    assert back.notes == ()
    assert rows(db, "t") == [(1, "b"), (2, "c"), (3, "a"), (4, "d")]


def test_force_leaves_no_row_that_came_back_by_half(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE n (id bigint PRIMARY KEY, code varchar(5) UNIQUE, p bigint REFERENCES n (id), q varchar(5) UNIQUE)",
        "INSERT INTO n VALUES (1, 'c', NULL, 'x'), (2, NULL, NULL, 'y')",
    )
    new = pl.DataFrame(
        {"id": [1, 4, 2], "code": [None, "c", None], "p": [4, None, None], "q": ["z", "w", "v"]}
    )
    report = db.upsert("n", new)
    make(db, "INSERT INTO n VALUES (9, NULL, NULL, 'x')")
    after = rows(db, "n")
    with pytest.raises(cb.UndoRefused, match="cannot be put back"):
        report.undo()
    assert rows(db, "n") == after
    back = report.undo(force=True)
    assert back.counts == {"input": 3, "updated": 1, "rejected": 2}
    assert rows(db, "n") == [
        (1, None, 4, "z"),
        (2, None, None, "y"),
        (4, "c", None, "w"),
        (9, None, None, "x"),
    ]


@pytest.mark.parametrize("verb", ["upsert", "sync"])
@pytest.mark.parametrize("null", ["", "NOT NULL"])
def test_a_value_comes_back_from_a_new_row_that_is_pointed_at(db: cb.Database, verb: str, null: str) -> None:
    make(
        db,
        f"CREATE TABLE u (id bigint PRIMARY KEY, c varchar(5) {null} UNIQUE, boss bigint REFERENCES u (id), v bigint)",
        "INSERT INTO u VALUES (1, 'a', NULL, 7), (2, 'b', 1, 8)",
    )
    before = rows(db, "u")
    new = pl.DataFrame({"id": [1, 9, 2], "c": ["c", "a", "d"], "boss": [9, 1, 9]})
    batch = getattr(db, verb)("u", new)
    after = rows(db, "u")
    assert after == [(1, "c", 9, 7), (2, "d", 9, 8), (9, "a", 1, None)]
    for wanted in (before, after, before, after):
        batch = batch.undo()
        assert rows(db, "u") == wanted
        assert batch.retries == 0  # it knows by itself what is in whose way


# -- tables that point at each other, in any order of calls ---------------------------------------------

ACTIONS = {"cascade": "ON DELETE CASCADE", "set_null": "ON DELETE SET NULL", "no_action": ""}
IDS, CODES = st.integers(1, 5), st.permutations(["v", "w", "x", "y", "z"])
POINTS = st.none() | st.integers(1, 4)


@pytest.fixture(scope="module")
def circles(lasting_db: cb.Database) -> cb.Database:
    for name, action in ACTIONS.items():
        a = (
            f"CREATE TABLE a_{name} (id bigint PRIMARY KEY, u varchar(9) NOT NULL UNIQUE, "
            f"p bigint REFERENCES a_{name} (id) {action}, b bigint"
        )
        b = f"CREATE TABLE b_{name} (id bigint PRIMARY KEY, u varchar(9) UNIQUE, a bigint REFERENCES a_{name} (id) {action})"
        points = f"REFERENCES b_{name} (id) {action}"
        if lasting_db.backend.name == "sqlite":  # where a reference may lead to a table that is made later
            make(lasting_db, f"{a} {points})", b)
        else:
            make(lasting_db, f"{a})", b, f"ALTER TABLE a_{name} ADD FOREIGN KEY (b) {points}")
    return lasting_db


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, str, pl.DataFrame]:
    ids, codes = draw(st.lists(IDS, unique=True, min_size=1, max_size=4)), draw(CODES)
    verb = draw(st.sampled_from(["upsert", "sync", "delete", "insert", "update"]))
    if draw(st.booleans()):
        lines = [(i, u, draw(POINTS), draw(POINTS)) for i, u in zip(ids, codes, strict=False)]
        names = {"id": pl.Int64, "u": pl.String, "p": pl.Int64, "b": pl.Int64}
        frame = pl.DataFrame(lines, schema=names, orient="row")
        return verb, "a", frame.select("id") if verb == "delete" else frame
    rest = [(i, draw(st.none() | st.just(u)), draw(POINTS)) for i, u in zip(ids, codes, strict=False)]
    frame = pl.DataFrame(rest, schema={"id": pl.Int64, "u": pl.String, "a": pl.Int64}, orient="row")
    return verb, "b", frame.select("id") if verb == "delete" else frame


@examples(40)
@given(
    action=st.sampled_from(list(ACTIONS)),
    first=st.lists(calls(), max_size=4),
    together=st.lists(calls(), min_size=1, max_size=4),
)
def test_whatever_is_written_together_is_taken_back_and_made_again(
    circles: cb.Database, action: str, first: list[Any], together: list[Any]
) -> None:
    a, b = f"a_{action}", f"b_{action}"
    make(circles, f"UPDATE {a} SET p = NULL, b = NULL", f"DELETE FROM {b}", f"DELETE FROM {a}")
    for verb, table, frame in first:
        getattr(circles, verb)(f"{table}_{action}", frame, on_reject="keep")
    before = rows(circles, a), rows(circles, b)
    with circles.transaction():
        for verb, table, frame in together:
            batch = getattr(circles, verb)(f"{table}_{action}", frame, on_reject="keep")
    after = rows(circles, a), rows(circles, b)
    for wanted in (before, after, before, after):
        batch = batch.undo()
        assert (rows(circles, a), rows(circles, b)) == wanted


@pytest.mark.parametrize("action", ["", "ON DELETE RESTRICT", "ON DELETE SET NULL"])
def test_new_rows_that_point_at_each_other_go(db: cb.Database, action: str) -> None:
    make(db, f"CREATE TABLE n (id bigint PRIMARY KEY, p bigint REFERENCES n (id) {action}, v bigint)")
    batch = db.sync("n", pl.DataFrame({"id": [3, 1, 2], "p": [None, 2, 1], "v": [7, 8, 9]}))
    after = rows(db, "n")
    for wanted in ([], after, [], after):
        batch = batch.undo()
        assert rows(db, "n") == wanted
