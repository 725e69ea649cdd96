"""Views cannot be written, by name or by a class: what a view does with a row is not what a report could say."""

from __future__ import annotations

import polars as pl
import pytest
from reflecting import run

import crave_bulk as cb


class View(cb.Table):
    id: int = cb.field(key=True)
    n: str | None

    class Config:
        name = "v"


FRAME = pl.DataFrame({"id": [7], "n": ["a"]})
CALLS = {
    "insert": lambda db, t, **o: db.insert(t, FRAME, **o),
    "upsert": lambda db, t, **o: db.upsert(t, FRAME, **o),
    "update": lambda db, t, **o: db.update(t, FRAME, **o),
    "delete": lambda db, t, **o: db.delete(t, [1], **o),
    "sync": lambda db, t, **o: db.sync(t, FRAME, **o),
    "update_where": lambda db, t, **o: db.update_where(t, {"n": "b"}, "id = 1", **o),
    "delete_where": lambda db, t, **o: db.delete_where(t, "id = 1", **o),
}


@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("table", ["v", View], ids=["found", "declared"])
@pytest.mark.parametrize("verb", CALLS)
def test_a_view_is_refused(db: cb.Database, verb: str, table: str | type[cb.Table], undo: bool) -> None:
    run(
        db,
        "CREATE TABLE b (id bigint PRIMARY KEY, n text)",
        "INSERT INTO b VALUES (1, 'x')",
        "CREATE VIEW v AS SELECT * FROM b WHERE id < 5",
    )
    if db.backend.name == "sqlite":
        run(db, "CREATE TRIGGER i INSTEAD OF INSERT ON v BEGIN SELECT 1; END")
    with pytest.raises(cb.ContractError, match="v is a view: write to the tables behind it"):
        CALLS[verb](db, table, undo=undo)
    assert db.read("b").rows() == [(1, "x")]
    assert db.read(View).rows() == [(1, "x")]
