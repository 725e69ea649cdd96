"""Unchanged means byte for byte, whatever collation a column has: a change of case is a change."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import crave_bulk as cb

ICU = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"


@pytest.fixture(params=["NOCASE", "RTRIM"])
def people(db: cb.Database, request: pytest.FixtureRequest) -> tuple[cb.Database, str, str]:
    """A table whose names are compared in another way than byte by byte, if the database has such a collation."""
    collation, other = request.param, {"NOCASE": "SOUP", "RTRIM": "soup "}[request.param]
    with db.session() as session:
        collate = f"COLLATE {collation}"
        if db.backend.name == "postgresql":
            has_icu = session.fetch(
                "SELECT 1 AS n FROM pg_collation WHERE collname = 'und-x-icu' AND collencoding IN (-1, 6)"
            ).height
            collate = "COLLATE nocase" if has_icu else ""
            if has_icu:
                session.execute(ICU)
        kinds = "text[]" if db.backend.name == "postgresql" else "text"
        session.execute(
            f"CREATE TABLE people (id bigint PRIMARY KEY, name text {collate}, n bigint, tags {kinds} {collate})"
        )
    db.insert("people", frame(db, "soup"))
    return db, "soup", other


def frame(db: cb.Database, name: str, n: int = 1) -> pl.DataFrame:
    tags = [[name]] if db.backend.name == "postgresql" else [name]
    return pl.DataFrame({"id": [1], "name": [name], "n": [n], "tags": tags})


@pytest.mark.parametrize("verb", ["upsert", "update", "sync"])
def test_another_case_is_written(people: tuple[cb.Database, str, str], verb: str) -> None:
    db, old, new = people
    write = getattr(db, verb)
    report = write("people", frame(db, new))
    assert report.counts == {"input": 1, "updated": 1}
    assert db.read("people").equals(frame(db, new))
    assert write("people", frame(db, new)).counts == {"input": 1, "unchanged": 1}
    report.undo()
    assert db.read("people").equals(frame(db, old))


def test_another_case_is_written_beside_another_change(people: tuple[cb.Database, str, str]) -> None:
    db, old, new = people
    report = db.upsert("people", frame(db, new, 2))
    assert db.read("people").equals(frame(db, new, 2))
    report.undo()
    assert db.read("people").equals(frame(db, old))


def test_a_plan_shows_another_case(people: tuple[cb.Database, str, str]) -> None:
    db, old, new = people
    plan = db.update("people", frame(db, new).select("id", "name"), plan=True)
    assert plan.changes.select("column", "old", "new").rows() == [("name", old, new)]
    plan.apply()
    assert db.read("people")["name"].item() == new


def test_update_where_writes_another_case(people: tuple[cb.Database, str, str]) -> None:
    db, old, new = people
    report = db.update_where("people", {"name": new}, "id = 1")
    assert report.counts == {"input": 1, "updated": 1}
    assert db.update_where("people", {"name": new}, "id = 1").counts == {"input": 0}
    assert db.read("people")["name"].item() == new
    report.undo()
    assert db.read("people")["name"].item() == old


def test_a_declared_table_over_such_a_column(people: tuple[cb.Database, str, str]) -> None:
    class People(cb.Table):
        id: int = cb.field(key=True)
        name: str

        class Config:
            name = "people"

    db, _, new = people
    assert db.upsert(People, frame(db, new).select("id", "name")).counts == {"input": 1, "updated": 1}
    assert db.read(People)["name"].item() == new


def test_an_undo_sees_that_another_case_is_a_change(people: tuple[cb.Database, str, str]) -> None:
    db, old, new = people
    report = db.upsert("people", frame(db, old, 2))
    with db.session() as session:
        session.execute(f"UPDATE people SET name = '{new}'")
    with pytest.raises(cb.UndoRefused):
        report.undo()


@pytest.mark.parametrize("verb", ["insert", "upsert", "update", "sync", "delete"])
@pytest.mark.parametrize("key", ["code", "code, n"])
def test_a_declared_key_with_such_a_collation_is_refused(tmp_path: Path, verb: str, key: str) -> None:
    class Codes(cb.Table):
        code: str = cb.field(key=True)
        n: int = cb.field(key="n" in key)
        v: int

        class Config:
            name = "codes"

    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        with db.session() as session:
            session.execute(
                f"CREATE TABLE codes (code TEXT COLLATE NOCASE, n INT, v INT, PRIMARY KEY ({key}))"
            )
            session.execute("INSERT INTO codes VALUES ('ann', 1, 1)")
        rows = pl.DataFrame({"code": ["ANN"], "n": [1], "v": [2]})
        with pytest.raises(cb.ContractError, match="has a collation by which different texts are equal"):
            getattr(db, verb)(Codes, rows)
        assert db.read(Codes).rows() == [("ann", 1, 1)]
