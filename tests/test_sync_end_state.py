"""A sync means its end state: which rows stand in the way of which is not a matter of their order."""

from __future__ import annotations

import itertools
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb

ACTIONS = {
    "no_action": "",
    "restrict": "ON DELETE RESTRICT",
    "cascade": "ON DELETE CASCADE",
    "set_null": "ON DELETE SET NULL",
    "deferred": "DEFERRABLE INITIALLY DEFERRED",
}
SCHEMA = {"id": pl.Int64, "code": pl.String, "p": pl.Int64, "v": pl.Int64}
Rows = dict[int, dict[str, Any]]


def make(db: cb.Database, *statements: str) -> None:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def trees(lasting_db: cb.Database) -> cb.Database:
    for name, action in ACTIONS.items():
        make(
            lasting_db,
            f"CREATE TABLE n_{name} (id bigint PRIMARY KEY, code varchar(3) UNIQUE, p bigint REFERENCES n_{name} (id) {action}, v bigint)",
            f"CREATE TABLE k_{name} (id bigint PRIMARY KEY, n bigint REFERENCES n_{name} (id) {action})",
        )
    return lasting_db


@st.composite
def nodes(draw: st.DrawFn, outside: bool) -> Rows:
    """Make rows whose codes differ, and which point at each other or, if that is allowed, at any row."""
    ids = draw(st.lists(st.integers(1, 5), unique=True, max_size=5))
    codes = draw(st.permutations(["a", "b", "c", "d", "e"]))
    parents = st.none() | st.sampled_from(range(1, 6) if outside else (ids or [None]))
    return {
        i: {
            "id": i,
            "code": draw(st.none() | st.just(code)),
            "p": draw(parents),
            "v": draw(st.integers(0, 2)),
        }
        for i, code in zip(ids, codes, strict=False)
    }


def table(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(list(rows.values()), schema=SCHEMA)


@pytest.mark.thorough
@examples(12)
@given(data=st.data())
@pytest.mark.parametrize("action", ACTIONS)
def test_a_sync_comes_to_its_end_state_or_says_what_is_in_the_way(
    trees: cb.Database, action: str, data: st.DataObject
) -> None:
    n, k = f"n_{action}", f"k_{action}"
    start = data.draw(nodes(outside=False), label="start")
    wanted = data.draw(nodes(outside=True), label="frame")
    left_out = data.draw(st.sampled_from(["", "p", "code", "v"]), label="left out")
    children = (
        data.draw(st.lists(st.sampled_from(list(start)), max_size=2), label="children") if start else []
    )
    make(trees, f"DELETE FROM {k}", f"UPDATE {n} SET p = NULL", f"DELETE FROM {n}")
    trees.upsert(n, table(start))
    trees.insert(k, frame(id=range(len(children)), n=pl.Series(children, dtype=pl.Int64)))
    was, was_children = trees.read(n, order_by="id"), trees.read(k, order_by="id")
    rows = table(wanted).drop(left_out or [])
    report = trees.sync(n, rows, on_reject="keep", allow_empty=True)

    there = trees.read(n, order_by="id")
    assert set(wanted) & set(start) <= set(there["id"])  # no row of the frame is lost
    assert set(report.keys["id"]) | set(start) >= set(there["id"])
    assert not set(report.deleted["id"]) & set(there["id"])
    assert set(start) - set(there["id"]) == set(report.deleted["id"])
    if not report.counts["rejected"]:
        assert there.select(rows.columns).equals(rows.sort("id"))
        if left_out:
            kept = there.filter(pl.col("id").is_in(list(start)))
            assert kept[left_out].to_list() == [start[i][left_out] for i in kept["id"]]
        again = trees.sync(n, rows, on_reject="keep", allow_empty=True)
        assert set(again.outcomes["outcome"]) <= {"unchanged"}
        again.undo()
    else:
        assert all(report.failures["message"])
    assert report.counts["rejected"] == 0 or not _is_free(start, wanted, children, action, left_out)
    report.undo()
    assert trees.read(n, order_by="id").equals(was)
    assert trees.read(k, order_by="id").equals(was_children)


def _claiming(start: Rows, wanted: Rows, codes: dict[str, int], pointing: set[int]) -> set[int]:
    """Find the rows that claim the code of a row which goes last, as some rows point at it, by whatever detours."""
    last = {start[i]["p"] for i in pointing} - {None}
    while more := {start[i]["p"] for i in last} - {None} - last:
        last |= more
    return {codes[start[i]["code"]] for i in last - set(wanted) if start[i]["code"] in codes}


def _is_free(start: Rows, wanted: Rows, children: list[int], action: str, left_out: str) -> bool:
    """Tell whether nothing can be in the way: neither a value that is handed on nor a reference."""
    codes = {} if left_out == "code" else {r["code"]: i for i, r in wanted.items() if r["code"]}
    stay = {i: r for i, r in start.items() if i in wanted}
    handed_on = any(r["code"] in codes and codes[r["code"]] != i for i, r in stay.items())
    waiting = _claiming(start, wanted, codes, set(stay))
    while more := {i for i, r in wanted.items() if r["p"] in waiting - set(start)} - waiting:
        waiting |= more
    handed_on = handed_on or bool(_claiming(start, wanted, codes, waiting & set(stay)))
    parents = (
        [stay[i]["p"] if i in stay else None for i in wanted]
        if left_out == "p"
        else [r["p"] for r in wanted.values()]
    )
    dangling = any(p is not None and p not in wanted for p in parents)
    held = action not in ("cascade", "set_null") and any(c not in wanted for c in children)
    return not (handed_on or dangling or held)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_value_of_a_row_that_goes_last_is_handed_on(trees: cb.Database, action: str) -> None:
    n = f"n_{action}"
    make(trees, f"DELETE FROM k_{action}", f"UPDATE {n} SET p = NULL", f"DELETE FROM {n}")
    trees.insert(n, frame(id=[2, 1], code=["b", "a"], p=[None, 2], v=[0, 0]))
    before = trees.read(n, order_by="id")
    wanted = frame(id=[1, 3, 4], code=["a", "b", "d"], p=[None, 1, 3], v=[0, 0, 0])
    report = trees.sync(n, wanted)
    assert report.counts == {"input": 4, "inserted": 2, "updated": 1, "deleted": 1}
    assert trees.read(n, order_by="id").equals(wanted)
    report.undo().undo()
    assert trees.read(n, order_by="id").equals(wanted)
    report.undo(force=True)
    assert trees.read(n, order_by="id").equals(before)


@pytest.mark.parametrize("action", ACTIONS)
def test_undo_puts_a_unique_value_back_that_it_has_let_go_of(trees: cb.Database, action: str) -> None:
    n = f"n_{action}"
    make(trees, f"DELETE FROM k_{action}", f"UPDATE {n} SET p = NULL", f"DELETE FROM {n}")
    before = frame(id=[1, 3, 4], code=["a", "b", "d"], p=[None, 1, 3], v=[0, 0, 0])
    trees.insert(n, before)
    trees.sync(n, frame(id=[1, 2], code=["a", "b"], p=[2, None], v=[0, 0])).undo()
    assert trees.read(n, order_by="id").equals(before)


@pytest.mark.parametrize("action", ACTIONS)
def test_what_a_row_that_had_to_wait_points_at_goes_in_the_end(trees: cb.Database, action: str) -> None:
    n = f"n_{action}"
    make(trees, f"DELETE FROM k_{action}", f"UPDATE {n} SET p = NULL", f"DELETE FROM {n}")
    codes = [None, None, "c", None, None]
    before = frame(id=[1, 2, 3, 4, 5], code=codes[2:] + codes[:2], p=[None, 4, 1, None, None], v=[0] * 5)
    trees.upsert(n, before)
    rows = frame(id=[2, 3], code=["c", None], p=pl.Series([None, None], dtype=pl.Int64), v=[0, 0])
    report = trees.sync(
        n, rows
    )  # 2 takes the value of 1, which 3 points at until then; and 4 stays until 2 is written
    assert report.counts == {"input": 5, "updated": 2, "deleted": 3}
    assert not report.failures.height
    assert trees.read(n, order_by="id").equals(rows)
    report.undo()
    assert trees.read(n, order_by="id").equals(before)


@pytest.fixture
def tree(db: cb.Database) -> cb.Database:
    make(
        db,
        "CREATE TABLE n (id bigint PRIMARY KEY, code varchar(3) UNIQUE, p bigint REFERENCES n (id) ON DELETE CASCADE, note varchar(9))",
        "INSERT INTO n VALUES (1, 'a', NULL, 'one'), (2, 'b', NULL, 'two'), (3, 'c', 2, 'precious')",
    )
    return db


def test_no_cascade_touches_a_row_of_the_frame(tree: cb.Database) -> None:
    report = tree.sync("n", frame(id=[1, 3], p=[None, 1]))
    assert report.counts == {"input": 3, "updated": 1, "unchanged": 1, "deleted": 1}
    assert tree.read("n", order_by="id").rows() == [(1, "a", None, "one"), (3, "c", 1, "precious")]
    report.undo()
    report = tree.sync("n", frame(id=[1, 3], p=[None, 99]), on_reject="keep")
    assert report.counts == {"input": 3, "unchanged": 1, "rejected": 2}
    assert tree.read("n").height == 3  # what a row of the frame still points at has stayed
    assert report.failures.select("row", "stage", "column", "value").rows() == [
        (1, "reference", "p", "99"),
        (None, "reference", "id", "2"),
    ]
    assert "rows of n that stay refer to it by p" in report.failures["message"][1]


def test_what_the_frame_itself_points_at_is_named(tree: cb.Database) -> None:
    for setup in ("UPDATE n SET p = NULL WHERE id = 3", "UPDATE n SET p = 2 WHERE id = 3"):
        make(tree, setup)
        with pytest.raises(
            cb.RejectedRows, match="one that was to be deleted: id = '2': rows of n that stay"
        ) as caught:
            tree.sync("n", frame(id=[1, 3], p=[None, 2]))
        assert caught.value.report.counts["rejected"] == 1
        assert tree.read("n").height == 3


def test_rows_that_are_missing_may_point_at_each_other(tree: cb.Database) -> None:
    make(tree, "UPDATE n SET p = 3 WHERE id = 2")
    report = tree.sync("n", frame(id=[1], p=[None]))
    assert report.deleted["id"].sort().to_list() == [2, 3]
    report.undo()
    assert tree.read("n", order_by="id")["p"].to_list() == [None, 3, 2]


def test_a_cascade_stops_at_rows_outside_the_condition(tree: cb.Database) -> None:
    report = tree.sync("n", frame(id=[1], p=[None]), within={"note": "two"}, on_reject="keep")
    assert report.counts == {"input": 2, "unchanged": 1, "rejected": 1}
    assert tree.read("n").height == 3


def test_a_unique_value_is_free_once_its_row_is_gone(tree: cb.Database) -> None:
    report = tree.sync("n", frame(id=[1, 4], code=["b", "c"]))
    assert report.counts == {"input": 4, "inserted": 1, "updated": 1, "deleted": 2}
    assert tree.sync("n", frame(id=[1, 4], code=["b", "c"])).counts == {"input": 2, "unchanged": 2}
    report.undo()
    assert tree.read("n", order_by="id")["code"].to_list() == ["a", "b", "c"]


def test_a_cascade_through_another_table_does_not_reach_the_frame(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE a (id bigint PRIMARY KEY, b bigint)"
        if db.backend.name == "postgresql"
        else "CREATE TABLE a (id bigint PRIMARY KEY, b bigint REFERENCES b (id) ON DELETE CASCADE)",
        "CREATE TABLE b (id bigint PRIMARY KEY, a bigint REFERENCES a (id) ON DELETE CASCADE)",
        *(
            ["ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE"]
            if db.backend.name == "postgresql"
            else []
        ),
        "INSERT INTO a VALUES (1, NULL), (2, NULL)",
        "INSERT INTO b VALUES (10, 1)",
        "UPDATE a SET b = 10 WHERE id = 2",
    )
    for undo in (True, False):
        report = db.sync("a", frame(id=[2]), on_reject="keep", undo=undo)
        assert report.counts == {"input": 2, "unchanged": 1, "rejected": 1}
        assert db.read("a", order_by="id").rows() == [(1, None), (2, 10)]
    report = db.sync("a", frame(id=[2], b=pl.Series([None], dtype=pl.Int64)))
    assert report.counts == {"input": 2, "updated": 1, "deleted": 1}
    assert db.read("b").is_empty()
    report.undo()
    assert db.read("a", order_by="id").rows() == [(1, None), (2, 10)]


def test_a_row_that_others_need_is_named_and_the_rest_is_written(db: cb.Database) -> None:
    make(
        db,
        "CREATE TABLE p (id bigint PRIMARY KEY)",
        "CREATE TABLE c (id bigint PRIMARY KEY, p bigint REFERENCES p (id))",
        "INSERT INTO p VALUES (1), (2), (3)",
        "INSERT INTO c VALUES (1, 2)",
    )
    report = db.sync("p", frame(id=[1, 4]), on_reject="keep")
    assert report.counts == {"input": 4, "inserted": 1, "unchanged": 1, "deleted": 1, "rejected": 1}
    assert report.failures.select("row", "stage", "rule", "column", "value").rows() == [
        (None, "reference", "referenced(c.p)", "id", "2")
    ]
    assert report.rejected.is_empty()  # it is no row of the frame
    report.undo()
    assert db.read("p", order_by="id")["id"].to_list() == [1, 2, 3]
    with pytest.raises(cb.RejectedRows, match="rows of c refer to it by p"):
        db.sync("p", frame(id=[1, 4]))
    assert db.sync("p", frame(id=[1, 4]), plan=True, on_reject="keep").report.counts["rejected"] == 1


def test_a_row_that_is_marked_as_deleted_still_holds_its_unique_value(db: cb.Database) -> None:
    class Soft(cb.Table):
        id: int = cb.field(key=True)
        code: str
        gone: bool = cb.field(soft_delete=True, default=False)

        class Config:
            unique = ["code"]

    db.create(Soft)
    db.insert(Soft, frame(id=[1, 2], code=["a", "b"]))
    report = db.sync(Soft, frame(id=[1, 3], code=["a", "b"]), on_reject="keep")
    assert report.counts == {"input": 3, "unchanged": 1, "deleted": 1, "rejected": 1}
    assert "perhaps marked as deleted" in report.failures["message"].item()
    report.undo()
    assert db.read(Soft).height == 2
    assert db.sync(Soft, frame(id=[1, 3], code=["a", "b"]), hard=True).counts["inserted"] == 1


@pytest.mark.parametrize("instead", ["nothing", "a mark"])
def test_a_row_that_a_trigger_keeps_is_rejected_and_left_as_it_was(db: cb.Database, instead: str) -> None:
    make(
        db, "CREATE TABLE b (id bigint PRIMARY KEY, v bigint)", "INSERT INTO b VALUES (1, 1), (2, 2), (3, 3)"
    )
    act = "UPDATE b SET v = -1 WHERE id = OLD.id;" if instead == "a mark" else ""
    if db.backend.name == "sqlite":
        make(db, f"CREATE TRIGGER g BEFORE DELETE ON b WHEN OLD.id = 2 BEGIN {act} SELECT RAISE(IGNORE); END")
    else:
        make(
            db,
            f"CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {act} RETURN NULL; END $$",
            "CREATE TRIGGER g BEFORE DELETE ON b FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION g()",
        )
    report = db.sync("b", frame(id=[1], v=[1]), on_reject="keep")
    assert report.counts == {"input": 3, "unchanged": 1, "deleted": 1, "rejected": 1}
    assert report.failures.select("row", "stage", "column", "value").rows() == [(None, "database", "id", "2")]
    assert "the row is still there" in report.failures["message"].item()
    assert db.read("b", order_by="id").rows() == [(1, 1), (2, 2)]
    report = db.delete("b", [1, 2], on_reject="keep")
    assert report.counts == {"input": 2, "deleted": 1, "rejected": 1}
    assert "the row is still there" in report.failures["message"].item()
    assert db.read("b").rows() == [(2, 2)]
    with pytest.raises(cb.RejectedRows, match="the row is still there"):
        db.sync("b", frame(id=[1], v=[1]))


def test_a_row_that_a_policy_keeps_is_rejected(server_db: cb.Database) -> None:
    make(
        server_db,
        "CREATE TABLE b (id bigint PRIMARY KEY, owner text)",
        "INSERT INTO b VALUES (1, 'me'), (2, 'me'), (3, 'you')",
        "ALTER TABLE b ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY see ON b FOR SELECT USING (true)",
        "CREATE POLICY act ON b FOR ALL USING (owner = 'me')",
        "DROP ROLE IF EXISTS crave_bulk_limited",
        "CREATE ROLE crave_bulk_limited",
        "GRANT ALL ON b TO crave_bulk_limited",
        "GRANT ALL ON SCHEMA public TO crave_bulk_limited",
    )
    ledger, server_db.ledger = server_db.ledger, None  # which the role may not write
    with server_db.transaction(), server_db.session() as session:
        session.execute("SET LOCAL ROLE crave_bulk_limited")
        report = server_db.sync("b", frame(id=[1], owner=["me"]), on_reject="keep")
    assert report.counts == {"input": 3, "unchanged": 1, "deleted": 1, "rejected": 1}
    assert report.failures["value"].to_list() == ["3"]
    assert server_db.read("b", order_by="id").rows() == [(1, "me"), (3, "you")]

    server_db.ledger = ledger
    server_db.update("b", frame(id=[1], owner=["me"]))  # which makes it
    make(server_db, "GRANT ALL ON ALL TABLES IN SCHEMA public TO crave_bulk_limited")
    with server_db.transaction(), server_db.session() as session:
        session.execute("SET LOCAL ROLE crave_bulk_limited")
        for report in (
            server_db.update_where("b", {"owner": "me"}, "id > 2"),
            server_db.delete_where("b", "id > 0"),
        ):
            assert "a policy of table b kept them or did something else: 1." in report.notes[0]
    assert server_db.read("b").rows() == [(3, "you")]
    make(server_db, "DROP OWNED BY crave_bulk_limited", "DROP ROLE crave_bulk_limited")


@pytest.mark.thorough
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_unique_value_is_handed_on_whatever_the_order_of_the_rows(
    db: cb.Database, order: tuple[int, ...]
) -> None:
    with db.session() as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, code text UNIQUE)")
        session.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    rows = [(1, "b"), (2, "c"), (3, "e"), (5, "a")]
    frame = pl.DataFrame([rows[place] for place in order], schema=["id", "code"], orient="row")
    report = db.sync("t", frame)
    assert sorted(db.read("t").rows()) == rows
    report.undo()
    assert sorted(db.read("t").rows()) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_values_that_go_round_are_refused_by_name(db: cb.Database) -> None:
    with db.session() as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, code text UNIQUE)")
        session.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    with pytest.raises(cb.RejectedRows, match="code = 'b'"):
        db.sync("t", pl.DataFrame({"id": [1, 2], "code": ["b", "a"]}))
    assert sorted(db.read("t").rows()) == [(1, "a"), (2, "b")]


def test_a_value_handed_to_a_new_row_that_is_pointed_at_comes_back(db: cb.Database) -> None:
    with db.session() as session:
        session.execute(
            "CREATE TABLE n (id bigint PRIMARY KEY, code text UNIQUE, p bigint REFERENCES n (id))"
        )
        session.execute("INSERT INTO n VALUES (1, 'c', NULL), (2, NULL, NULL)")
    report = db.sync("n", pl.DataFrame({"id": [1, 4], "code": [None, "c"], "p": [4, None]}))
    assert sorted(db.read("n").rows()) == [(1, None, 4), (4, "c", None)]
    undone = report.undo()
    assert sorted(db.read("n").rows()) == [(1, "c", None), (2, None, None)]
    undone.undo()
    assert sorted(db.read("n").rows()) == [(1, None, 4), (4, "c", None)]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_circle_of_rows_goes_together(trees: cb.Database, action: str) -> None:
    n = f"n_{action}"
    make(trees, f"DELETE FROM k_{action}", f"UPDATE {n} SET p = NULL", f"DELETE FROM {n}")
    before = frame(id=[1, 2, 3, 4, 5], code=[None] * 4 + ["e"], p=[2, 1, 3, 3, None], v=[0] * 5)
    trees.upsert(n, before.with_columns(code=pl.col("code").cast(pl.String)))
    before = trees.read(n, order_by="id")
    report = trees.sync(n, before.tail(1))
    assert report.counts == {"input": 5, "unchanged": 1, "deleted": 4}
    report.undo()
    assert trees.read(n, order_by="id").equals(before)
    report = trees.delete(n, [1, 2, 3, 4])
    assert report.counts == {"input": 4, "deleted": 4}
    assert report.retries == 0
    report.undo()
    assert trees.read(n, order_by="id").equals(before)


def test_a_circle_that_something_keeps_is_left_as_it_is(trees: cb.Database) -> None:
    make(trees, "DELETE FROM k_restrict", "UPDATE n_restrict SET p = NULL", "DELETE FROM n_restrict")
    trees.upsert("n_restrict", frame(id=[1, 2, 3], p=[2, 1, None]))
    trees.upsert("n_restrict", frame(id=[3], p=[1]))
    before = trees.read("n_restrict", order_by="id")
    report = trees.delete("n_restrict", [1, 2], on_reject="keep")
    assert report.counts == {"input": 2, "rejected": 2}
    assert trees.read("n_restrict", order_by="id").equals(before)
