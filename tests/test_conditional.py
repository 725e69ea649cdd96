"""update_where, delete_where and restore_where: one statement, and an account of the rows that it touched."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

UTC = dt.UTC
NEVER = dt.datetime(2020, 1, 1, tzinfo=UTC)


class Staff(cb.Table):
    """People; nothing marks who left."""

    id: int = cb.field(key=True)
    dept: str = cb.field(str_length={"max_value": 10})
    salary: pl.Decimal(10, 2) = cb.field(nullable=True, ge=0)
    badge: int = cb.field(nullable=True, unique=True)
    tags: pl.List(pl.String) = cb.field(nullable=True)
    updated_at: pl.Datetime("us", "UTC") = cb.field(default="now", on_update="now")

    class Config:
        name = "staff"


class Notes(cb.Table):
    """Rows that are marked as deleted by a moment."""

    id: int = cb.field(key=True)
    lang: str = cb.field(key=True)
    text: str
    deleted_at: pl.Datetime("ms", "Europe/Berlin") = cb.field(soft_delete=True, nullable=True)
    updated_at: pl.Datetime("us", "UTC") = cb.field(default="now", on_update="now")

    class Config:
        name = "notes"


class Flags(cb.Table):
    """Rows that are marked as deleted by a boolean."""

    id: int = cb.field(key=True)
    gone: bool = cb.field(soft_delete=True, default=False)

    class Config:
        name = "flags"


@pytest.fixture
def staff(db: cb.Database) -> cb.Database:
    db.create(Staff)
    frame = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "dept": ["eng", "eng", "ops", "ops"],
            "salary": [Decimal("10.00"), Decimal("80.00"), None, Decimal("9.50")],
            "badge": [1, 2, 3, None],
            "updated_at": [NEVER] * 4,
        },
        schema_overrides={"salary": pl.Decimal(10, 2)},
    )
    db.insert(Staff, frame.with_columns(tags=pl.lit(None, dtype=pl.List(pl.String))))
    return db


@pytest.fixture
def notes(db: cb.Database) -> cb.Database:
    db.create(Notes)
    frame = pl.DataFrame({"id": [1, 1, 2], "lang": ["de", "en", "de"], "text": ["a", "b", "c"]})
    moments = pl.lit(None, dtype=pl.Datetime("ms", "Europe/Berlin"))
    db.insert(Notes, frame.with_columns(deleted_at=moments, updated_at=pl.lit(NEVER)))
    return db


def closes(report: cb.Report) -> dict[str, int]:
    counts = dict(report.counts)
    assert sum(n for outcome, n in counts.items() if outcome != "input") == counts["input"]
    assert report.committed
    assert report.failures.height == 0
    assert report.outcomes["row"].null_count() == counts["input"]
    return counts


def test_update_where_changes_what_meets_the_condition(staff: cb.Database) -> None:
    where = {"dept": "eng", "salary__lt": 50}
    report = staff.update_where(Staff, {"salary": 80, "dept": "lab"}, where=where)
    assert closes(report) == {"input": 1, "updated": 1}
    assert report.keys.to_dict(as_series=False) == {"_row": [None], "id": [1]}
    assert report.verb == "update_where"
    assert staff.read(Staff, order_by="id", columns=["dept", "salary"]).rows() == [
        ("lab", Decimal("80.00")),
        ("eng", Decimal("80.00")),
        ("ops", None),
        ("ops", Decimal("9.50")),
    ]


def test_update_where_stamps_only_what_changes(staff: cb.Database) -> None:
    before = dt.datetime.now(UTC)
    report = staff.update_where(Staff, {"salary": "80.00"}, where="dept = 'eng'")
    assert report.keys["id"].to_list() == [1]
    stamps = staff.read(Staff, order_by="id")["updated_at"].to_list()
    assert stamps[1:] == [NEVER] * 3
    assert before <= stamps[0] <= dt.datetime.now(UTC)
    staff.update_where(Staff, {"dept": "x", "updated_at": NEVER}, where="id = 1")
    assert staff.read(Staff, where={"id": 1})["updated_at"].item() == NEVER


def test_update_where_to_null_and_from_null(staff: cb.Database) -> None:
    assert closes(staff.update_where(Staff, {"salary": None}, where="true")) == {"input": 3, "updated": 3}
    assert staff.read(Staff)["salary"].null_count() == 4
    assert closes(staff.update_where(Staff, {"salary": 1}, where="salary IS NULL")) == {
        "input": 4,
        "updated": 4,
    }


def test_update_where_of_a_list(staff: cb.Database) -> None:
    for _, expected in ((0, 2), (1, 0)):
        assert (
            staff.update_where(Staff, {"tags": ["a", None, "'"]}, where="id < 3").counts["updated"]
            == expected
        )
    assert staff.read(Staff, where={"tags": ["a", None, "'"]})["id"].len() == 2


def test_each_verb_is_one_statement(notes: cb.Database) -> None:
    seen: list[str] = []
    notes.trace(seen.append)
    calls: list[Any] = [
        lambda: notes.update_where(Notes, {"text": "z"}, "id = 1", undo=False),
        lambda: notes.delete_where(Notes, "id = 1", undo=False),
        lambda: notes.restore_where(Notes, "id = 1", undo=False),
        lambda: notes.delete_where(Notes, "id = 1", hard=True, undo=False),
    ]
    for call in calls:
        seen.clear()
        assert call().counts["input"] == 2
        assert [s.split()[0] for s in seen] == ["BEGIN", seen[1].split()[0], "INSERT", "COMMIT"]
        assert seen[2].startswith('INSERT INTO "crave_bulk_batches"')


def test_delete_where_removes_where_nothing_marks(staff: cb.Database) -> None:
    report = staff.delete_where(Staff, {"salary__lt": 50})
    assert closes(report) == {"input": 2, "deleted": 2}
    assert report.deleted["id"].sort().to_list() == [1, 4]
    assert report.keys.height == 0
    assert staff.read(Staff, order_by="id")["id"].to_list() == [2, 3]


def test_delete_where_marks_what_is_alive_and_stamps_it(notes: cb.Database) -> None:
    assert closes(notes.delete_where(Notes, {"lang": "de"})) == {"input": 2, "deleted": 2}
    assert notes.read(Notes)["text"].to_list() == ["b"]
    rows = notes.read(Notes, order_by=["id", "lang"], include_deleted=True)
    assert rows["deleted_at"].is_not_null().to_list() == [True, False, True]
    assert (rows["updated_at"] > NEVER).to_list() == [True, False, True]
    assert closes(notes.delete_where(Notes, "true")) == {"input": 1, "deleted": 1}


def test_hard_removes_marked_rows_too(notes: cb.Database) -> None:
    notes.delete_where(Notes, {"lang": "de"})
    assert closes(notes.delete_where(Notes, "id = 1", hard=True)) == {"input": 2, "deleted": 2}
    assert notes.read(Notes, include_deleted=True)["text"].to_list() == ["c"]


def test_update_where_leaves_marked_rows_alone(notes: cb.Database) -> None:
    notes.delete_where(Notes, {"lang": "de"})
    assert closes(notes.update_where(Notes, {"text": "z"}, "true")) == {"input": 1, "updated": 1}
    assert notes.read(Notes, order_by="text", include_deleted=True)["text"].to_list() == ["a", "c", "z"]


def test_restore_where_takes_marks_back(notes: cb.Database) -> None:
    notes.delete_where(Notes, "true")
    report = notes.restore_where(Notes, {"id": 1})
    assert closes(report) == {"input": 2, "updated": 2}
    assert report.keys["lang"].sort().to_list() == ["de", "en"]
    assert notes.read(Notes, order_by="lang")["text"].to_list() == ["a", "b"]
    assert closes(notes.restore_where(Notes, {"id": 1})) == {"input": 0}


def test_a_boolean_mark(db: cb.Database) -> None:
    db.create(Flags)
    db.insert(Flags, pl.DataFrame({"id": [1, 2]}))
    assert closes(db.delete_where(Flags, {"id": 1})) == {"input": 1, "deleted": 1}
    assert db.read(Flags)["id"].to_list() == [2]
    assert closes(db.restore_where(Flags, "true")) == {"input": 1, "updated": 1}
    assert db.read(Flags)["gone"].to_list() == [False, False]


def test_restore_where_needs_a_mark(staff: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="has no soft_delete column"):
        staff.restore_where(Staff, "true")


@pytest.mark.parametrize("where", [None, {}, "", "  \n"])
def test_an_empty_condition_is_refused(notes: cb.Database, where: Any) -> None:
    calls: list[Any] = [
        lambda: notes.update_where(Notes, {"text": "z"}, where),
        lambda: notes.delete_where(Notes, where),
        lambda: notes.delete_where(Notes, where, hard=True),
        lambda: notes.restore_where(Notes, where),
    ]
    for call in calls:
        with pytest.raises(cb.ContractError, match="say where='true' if that is meant"):
            call()
    assert notes.read(Notes)["text"].sort().to_list() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "sets nothing"),
        ({"id": 9}, "part of the key"),
        ({"depth": "x"}, "has no column 'depth': did you mean 'dept'"),
        ({"dept": None}, "may not be null"),
        ({"dept": "x" * 11}, "rule str_length"),
        ({"dept": 5}, "cannot be set to 5"),
        ({"salary": -1}, "rule greater_than_or_equal_to"),
        ({"salary": "1.005"}, "more than 2 digits after the point"),
        ({"tags": "a"}, "a list of values"),
        ({"badge": 2**70}, "is outside"),
    ],
)
def test_changes_that_cannot_be(staff: cb.Database, changes: Any, says: str) -> None:
    before = staff.read(Staff, order_by="id")
    with pytest.raises(cb.ContractError, match=says):
        staff.update_where(Staff, changes, "true")
    assert staff.read(Staff, order_by="id").equals(before)


def test_a_broken_constraint_writes_nothing(staff: cb.Database) -> None:
    before = staff.read(Staff, order_by="id")
    with pytest.raises(cb.RejectedRows):
        staff.update_where(Staff, {"badge": 7}, "true")
    assert staff.read(Staff, order_by="id").equals(before)


def test_a_row_that_others_refer_to_is_not_deleted(db: cb.Database) -> None:
    class Parents(cb.Table):
        id: int = cb.field(key=True)

    class Children(cb.Table):
        id: int = cb.field(key=True)
        parent: int = cb.field(references="Parents.id")

    db.create(Parents, Children)
    db.insert(Parents, pl.DataFrame({"id": [1, 2]}))
    db.insert(Children, pl.DataFrame({"id": [1], "parent": [1]}))
    with pytest.raises(cb.RejectedRows):
        db.delete_where(Parents, "true")
    assert db.read(Parents).height == 2
    assert db.delete_where(Parents, {"id__ne": 1}).counts["deleted"] == 1


def test_they_join_an_outer_transaction(notes: cb.Database) -> None:
    with pytest.raises(RuntimeError), notes.session() as session, session.atomic():
        assert notes.update_where(Notes, {"text": "z"}, "true").counts["updated"] == 3
        assert notes.delete_where(Notes, "id = 1").counts["deleted"] == 2
        zoned = {"updated_at__gt": NEVER, "updated_at__in": [NEVER, dt.datetime.now(UTC)]}
        assert notes.read(Notes, where=zoned).height == 0
        assert notes.read(Notes, where={"updated_at__gt": NEVER})["text"].to_list() == ["z"]
        raise RuntimeError
    assert notes.read(Notes)["text"].sort().to_list() == ["a", "b", "c"]


def test_nothing_meets_the_condition(notes: cb.Database) -> None:
    report = notes.update_where(Notes, {"text": "z"}, {"id": 99})
    assert closes(report) == {"input": 0}
    assert report.keys.schema["lang"] == pl.String
    assert closes(notes.delete_where(Notes, {"id": 99}, hard=True)) == {"input": 0}
