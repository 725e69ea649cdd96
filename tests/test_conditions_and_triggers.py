"""Rows that meet a condition and that a trigger keeps are told of."""

from __future__ import annotations

import pytest

import crave_bulk as cb

KEEP = {
    "sqlite": "CREATE TRIGGER keep BEFORE {} ON t WHEN OLD.id = 1 BEGIN SELECT RAISE(IGNORE); END",
    "postgresql": "CREATE TRIGGER keep BEFORE {} ON t FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION keep()",
}


@pytest.fixture
def kept(db: cb.Database, request: pytest.FixtureRequest) -> cb.Database:
    """A table of which a trigger leaves the first row alone."""
    with db.session() as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, v bigint)")
        session.execute("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
        if db.backend.name != "sqlite":
            session.execute(
                "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            )
        session.execute(KEEP[db.backend.name].format(request.param))
    return db


@pytest.mark.parametrize("kept", ["UPDATE"], indirect=True)
def test_an_update(kept: cb.Database) -> None:
    report = kept.update_where("t", {"v": 9}, {"id__lte": 2})
    assert report.counts == {"input": 1, "updated": 1}
    assert report.notes == (
        "Rows that met the condition and were not changed, as a trigger or a policy of table t kept them or did something "
        "else: 1.",
    )
    assert sorted(kept.read("t").rows()) == [(1, 1), (2, 9), (3, 3)]
    assert kept.update_where("t", {"v": 9}, {"id": 2}).notes == ()  # it is so already


@pytest.mark.parametrize("kept", ["DELETE"], indirect=True)
def test_a_deletion(kept: cb.Database) -> None:
    report = kept.delete_where("t", "id > 0")
    assert report.counts == {"input": 2, "deleted": 2}
    assert "were not deleted" in report.notes[0]
    assert report.notes[0].endswith("else: 1.")
    report.undo()
    assert sorted(kept.read("t").rows()) == [(1, 1), (2, 2), (3, 3)]


def test_a_trigger_that_marks_instead(server_db: cb.Database) -> None:
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE t (id int PRIMARY KEY, gone bool DEFAULT false)",
            "INSERT INTO t VALUES (1), (2)",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN UPDATE t SET gone = true WHERE id = OLD.id; RETURN NULL; END'",
            "CREATE TRIGGER f BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        ):
            session.execute(statement)
    report = server_db.delete_where("t", {"id": 1})
    assert report.counts == {"input": 1, "updated": 1}
    assert report.notes[0].endswith("deleted: 1.")
