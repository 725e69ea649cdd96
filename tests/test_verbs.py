"""Every verb passes the same contracts: commits alone, joins, rolls back, closes, costs the same statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

Call = Callable[[cb.Database, Any, int], cb.Report]


class Staff(cb.Table):
    """People, some of whom have left."""

    id: int = cb.field(key=True)
    name: str = cb.field(unique=True)
    salary: int
    visits: int | None = cb.field(merge="add")
    left: bool | None = cb.field(soft_delete=True)

    class Config:
        name = "staff"


def people(*ids: int, salary: int = 1) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": ids, "name": [f"n{i}" for i in ids], "salary": [salary] * len(ids)},
        schema={"id": pl.Int64, "name": pl.String, "salary": pl.Int64},
    )


def many(n: int, salary: int = 1) -> pl.DataFrame:
    return people(*range(100, 100 + n), salary=salary)


# Each call changes the table of `start` and, with n, goes through n more rows.
VERBS: dict[str, Call] = {
    "insert": lambda db, t, n: db.insert(t, pl.concat([people(7), many(n)])),
    "insert_ignore": lambda db, t, n: db.insert(t, pl.concat([people(1, 7), many(n)]), on_conflict="ignore"),
    "upsert": lambda db, t, n: db.upsert(t, pl.concat([people(1, 7, salary=9), many(n)])),
    "upsert_on": lambda db, t, n: db.upsert(t, pl.concat([people(1, 7, salary=9), many(n)]), on="name"),
    "upsert_newer": lambda db, t, n: db.upsert(
        t, pl.concat([people(1, 2, 7, salary=9), many(n)]), newer="salary"
    ),
    "upsert_add": lambda db, t, n: db.upsert(
        t, pl.concat([people(1, 7), many(n)]).with_columns(visits=pl.lit(2, dtype=pl.Int64))
    ),
    "update": lambda db, t, n: db.update(t, pl.concat([people(1, 99, salary=9), many(n)])),
    "update_where": lambda db, t, n: db.update_where(t, {"salary": 9}, where={"id__lt": 3}),
    "delete": lambda db, t, n: db.delete(t, [1, 99, *range(100, 100 + n)]),
    "delete_hard": lambda db, t, n: db.delete(t, [1, 99, *range(100, 100 + n)], hard=True),
    "delete_where": lambda db, t, n: db.delete_where(t, {"id__lt": 3}),
    "delete_where_hard": lambda db, t, n: db.delete_where(t, "id < 3", hard=True),
    "restore_where": lambda db, t, n: db.restore_where(t, where="id = 3"),
    "sync": lambda db, t, n: db.sync(t, pl.concat([people(1, 7, salary=9), many(n)])),
    "sync_within": lambda db, t, n: db.sync(
        t, pl.concat([people(1, 7, salary=9), many(n)]), within={"id__lt": 3}
    ),
}


@pytest.fixture
def staff(db: cb.Database) -> cb.Database:
    db.create(Staff)
    db.insert(Staff, people(1, 2, 3))
    db.delete(Staff, [3])
    return db


def rows(db: cb.Database) -> set[tuple[Any, ...]]:
    return set(db.read(Staff, include_deleted=True).rows())


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> Call:
    return VERBS[request.param]


@pytest.mark.thorough_on_postgres
def test_commits_alone(staff: cb.Database, url: str, verb: Call) -> None:
    before = rows(staff)
    verb(staff, Staff, 0)
    with cb.connect(url) as other:
        assert rows(other) == rows(staff) != before


def test_joins_an_outer_transaction_and_rolls_back_with_it(staff: cb.Database, verb: Call) -> None:
    before = rows(staff)
    with pytest.raises(ZeroDivisionError), staff.transaction():
        verb(staff, Staff, 0)
        assert rows(staff) != before
        raise ZeroDivisionError
    assert rows(staff) == before


@pytest.mark.thorough
def test_a_nested_block_rolls_back_alone(staff: cb.Database, verb: Call) -> None:
    with staff.transaction():
        staff.insert(Staff, people(50))
        with pytest.raises(ZeroDivisionError), staff.transaction():
            verb(staff, Staff, 0)
            raise ZeroDivisionError
        staff.insert(Staff, people(51))
    assert {row[0] for row in rows(staff)} == {1, 2, 3, 50, 51}


def test_the_outcomes_sum_to_the_input(staff: cb.Database, verb: Call) -> None:
    report = verb(staff, Staff, 5)
    listed = {name: n for name, n in report.counts.items() if name != "input"}
    assert sum(listed.values()) == report.counts["input"] == report.outcomes.height
    assert listed == dict(report.outcomes.group_by("outcome").len().iter_rows())
    assert report.committed
    keyed = sum(report.counts[name] for name in ("inserted", "updated", "unchanged"))
    assert report.keys.columns == ["_row", "id"]
    assert report.keys.height == keyed
    assert report.deleted.height == report.counts["deleted"]
    assert str(report)
    assert report._repr_html_()


@pytest.mark.thorough_on_postgres
def test_statements_do_not_depend_on_the_size_of_the_batch(staff: cb.Database, verb: Call) -> None:
    seen: list[str] = []
    staff.trace(seen.append)
    counts = []
    for n in (5, 400):
        seen.clear()
        with pytest.raises(ZeroDivisionError), staff.transaction():
            verb(staff, Staff, n)
            raise ZeroDivisionError
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 34


@pytest.mark.thorough_on_postgres
def test_takes_an_existing_table_by_name(
    staff: cb.Database, verb: Call, request: pytest.FixtureRequest
) -> None:
    if "restore" in request.node.callspec.id:
        with pytest.raises(cb.ContractError, match="soft_delete"):
            verb(staff, "staff", 0)
        return
    before = rows(staff)
    assert verb(staff, "staff", 0).committed
    assert rows(staff) != before


@pytest.mark.parametrize("name", ["update_where", "delete_where", "delete_where_hard", "restore_where"])
def test_a_conditional_verb_is_one_statement(staff: cb.Database, name: str) -> None:
    seen: list[str] = []
    staff.trace(seen.append)
    VERBS[name](staff, Staff, 0)
    assert len([s for s in seen if s.startswith(('UPDATE "staff"', 'DELETE FROM "staff"'))]) == 1
    assert len(seen) <= 14  # the rest reads the rows before and after, for undo, and writes them down


def test_a_verb_that_is_refused_leaves_an_outer_transaction_usable(staff: cb.Database) -> None:
    with staff.transaction():
        staff.insert(Staff, people(50))
        with pytest.raises(cb.RejectedRows):
            staff.insert(Staff, people(51, 1))
        staff.insert(Staff, people(52))
    assert {row[0] for row in rows(staff)} == {1, 2, 3, 50, 52}


# -- update --


def test_update_sets_only_the_columns_given(staff: cb.Database) -> None:
    report = staff.update(Staff, pl.DataFrame({"id": [1, 2, 9], "salary": [5, 1, 5]}))
    assert report.counts == {"input": 3, "updated": 1, "unchanged": 1, "missing": 1}
    assert sorted(staff.read(Staff, columns=["id", "name", "salary"]).rows()) == [(1, "n1", 5), (2, "n2", 1)]


def test_update_does_not_add(staff: cb.Database) -> None:
    for _ in range(2):
        staff.update(Staff, pl.DataFrame({"id": [1], "visits": [3]}))
    assert staff.read(Staff, where={"id": 1})["visits"].to_list() == [3]


def test_update_passes_over_rows_that_are_marked_as_deleted(staff: cb.Database) -> None:
    assert staff.update(Staff, pl.DataFrame({"id": [3], "salary": [5]})).counts["missing"] == 1


def test_update_needs_the_key_and_a_known_column(staff: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="key column 'id' is missing"):
        staff.update(Staff, pl.DataFrame({"salary": [1]}))
    with pytest.raises(cb.ContractError, match="did you mean 'salary'"):
        staff.update(Staff, pl.DataFrame({"id": [1], "salry": [1]}))


def test_update_refuses_null_where_the_column_must_have_a_value(staff: cb.Database) -> None:
    report = staff.update(Staff, pl.DataFrame({"id": [1, 2], "salary": [None, 4]}), on_reject="keep")
    assert report.counts == {"input": 2, "updated": 1, "rejected": 1}


# -- delete --


@pytest.mark.parametrize(
    "keys", [[1, 2], (1, 2), pl.Series([1, 2]), pl.DataFrame({"id": [1, 2]}), people(1, 2), [(1,), (2,)]]
)
def test_delete_takes_keys_in_many_forms(staff: cb.Database, keys: Any) -> None:
    assert staff.delete(Staff, keys).counts == {"input": 2, "deleted": 2}


def test_delete_marks_and_hard_removes(staff: cb.Database) -> None:
    assert staff.delete(Staff, [1, 3]).counts == {"input": 2, "deleted": 1, "missing": 1}
    assert staff.read(Staff)["id"].to_list() == [2]
    assert staff.delete(Staff, [1, 3], hard=True).counts == {"input": 2, "deleted": 2}
    assert {row[0] for row in rows(staff)} == {2}


def test_delete_tells_keys_that_cannot_be_read(staff: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="cannot be read as id"):
        staff.delete(Staff, ["x"])
    with pytest.raises(cb.ContractError, match="need column 'id'"):
        staff.delete(Staff, pl.DataFrame({"name": ["n1"]}))


def test_upsert_revives_what_was_deleted(staff: cb.Database) -> None:
    assert staff.upsert(Staff, people(3)).counts == {"input": 1, "updated": 1}
    assert sorted(staff.read(Staff)["id"]) == [1, 2, 3]


def test_insert_refuses_a_key_that_was_only_marked_as_deleted(staff: cb.Database) -> None:
    assert staff.insert(Staff, people(3), on_reject="keep").counts["rejected"] == 1


# -- sync --


def test_sync_makes_the_table_equal_to_the_frame(staff: cb.Database) -> None:
    report = staff.sync(Staff, people(2, 3, 8), hard=True)
    assert report.counts == {"input": 4, "inserted": 1, "updated": 1, "unchanged": 1, "deleted": 1}
    assert report.deleted["id"].to_list() == [1]
    assert sorted(staff.read(Staff)["id"]) == [2, 3, 8]
    assert {row[0] for row in rows(staff)} == {2, 3, 8}


def test_sync_deletes_only_within_the_condition(staff: cb.Database) -> None:
    report = staff.sync(Staff, people(8), within={"id": 1})
    assert report.counts == {"input": 2, "inserted": 1, "deleted": 1}
    assert sorted(staff.read(Staff)["id"]) == [2, 8]


def test_sync_never_deletes_a_row_that_the_frame_has_but_is_refused(staff: cb.Database) -> None:
    frame = people(1, 2).with_columns(salary=pl.Series([None, 1], dtype=pl.Int64))
    report = staff.sync(Staff, frame, hard=True, on_reject="keep")
    assert report.counts == {"input": 3, "unchanged": 1, "deleted": 1, "rejected": 1}
    assert {row[0] for row in rows(staff)} == {1, 2}


def test_sync_hands_over_unique_values_of_rows_that_go(staff: cb.Database) -> None:
    frame = people(8).with_columns(name=pl.lit("n1"))
    assert staff.sync(Staff, frame, hard=True).counts["inserted"] == 1
    assert {row[:2] for row in rows(staff)} == {(8, "n1")}


def test_sync_refuses_an_empty_frame_unless_told(staff: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="allow_empty=True"):
        staff.sync(Staff, people())
    assert staff.read(Staff).height == 2
    assert staff.sync(Staff, people(), allow_empty=True).counts == {"input": 2, "deleted": 2}


# -- on, newer, duplicates --


def test_upsert_on_another_key_keeps_the_key_that_is_there(staff: cb.Database) -> None:
    frame = people(70, 71, 72).with_columns(
        name=pl.Series(["n1", "new", "new"]), salary=pl.lit(5, dtype=pl.Int64)
    )
    report = staff.upsert(Staff, frame, on="name")
    assert report.counts == {"input": 3, "inserted": 1, "updated": 1, "duplicate": 1}
    assert report.keys.rows() == [(0, 1), (2, 71)]
    assert {row[:3] for row in rows(staff)} == {(1, "n1", 5), (2, "n2", 1), (3, "n3", 1), (71, "new", 5)}


def test_upsert_on_another_key_refuses_a_new_row_whose_key_is_taken(staff: cb.Database) -> None:
    frame = people(2, 70, 70).with_columns(name=pl.Series(["new", "a", "b"]))
    report = staff.upsert(Staff, frame, on="name", on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected", "inserted", "rejected"]
    assert set(report.failures["rule"]) == {"key"}


def test_on_must_be_a_unique_key(staff: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="on=salary is no unique key of table staff"):
        staff.upsert(Staff, people(1), on="salary")


def test_newer_passes_over_rows_that_are_older(staff: cb.Database) -> None:
    frame = pl.concat([people(1, salary=0), people(1, salary=5), people(1, salary=4), people(9, salary=0)])
    report = staff.upsert(Staff, frame, newer="salary")
    assert report.outcomes["outcome"].to_list() == ["stale", "updated", "stale", "inserted"]
    assert staff.read(Staff, where={"id": 1})["salary"].to_list() == [5]


def test_newer_must_be_a_column_of_the_frame(staff: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="newer='visits' must be a column of the frame"):
        staff.upsert(Staff, people(1), newer="visits")


@pytest.mark.parametrize("name", ["upsert", "update", "sync"])
def test_duplicates_can_be_refused(staff: cb.Database, name: str) -> None:
    frame = people(1, 2, 1, salary=5)
    report = getattr(staff, name)(Staff, frame, duplicates="error", on_reject="keep")
    assert report.outcomes["outcome"].to_list()[:3] == ["rejected", "updated", "rejected"]
    assert set(report.failures["rule"]) == {"duplicates"}


# -- lists of operations --


def test_operations_are_all_or_nothing(staff: cb.Database) -> None:
    before = rows(staff)
    operations = [
        cb.Operation("insert", Staff, (people(8),)),
        cb.Operation("insert", Staff, (people(1),), name="the second"),
    ]
    with pytest.raises(cb.RejectedRows) as caught:
        staff.run(operations)
    assert "operation 1 of 2 (the second)" in caught.value.__notes__[0]
    assert rows(staff) == before


def test_operations_that_are_not_atomic_succeed_in_part(staff: cb.Database) -> None:
    results = staff.run(
        [
            cb.Operation("insert", Staff, (people(1),)),
            cb.Operation("upsert", "staff", (people(8),), {"on": "name"}),
            cb.Operation("delete_where", Staff, ("nonsense =",)),
            cb.Operation("delete", Staff, ([2],)),
        ],
        atomic=False,
    )
    assert [result.succeeded for result in results] == [False, True, False, True]
    assert isinstance(results[0].error, cb.RejectedRows)
    assert results[1].report is not None
    assert {row[0] for row in rows(staff)} == {1, 2, 3, 8}
    assert sorted(staff.read(Staff)["id"]) == [1, 8]


def test_an_operation_needs_a_verb_that_writes() -> None:
    with pytest.raises(cb.ContractError, match="'read' is no verb that writes"):
        cb.Operation("read", Staff)
