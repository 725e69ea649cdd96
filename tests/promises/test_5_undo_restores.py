"""Undo restores: what a batch has changed is as it was before, whatever the batch did."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from properties import examples
from test_4_what_went_in_comes_out import EDGES, frame_of
from world import NAMES, Call, State, begin, build, calls, disturb, row, state, touched

import crave_bulk as cb

QUICK = examples(6)
# Several calls are one transaction.
STEP = st.lists(calls(), min_size=1, max_size=1) | st.lists(calls(), min_size=2, max_size=3)


@pytest.fixture
def world(db: cb.Database) -> cb.Database:
    build(db)
    return db


def take(db: cb.Database, step: list[Call]) -> str | None:
    """Take a step; give the id of a batch of it, or None where it was refused as a whole."""
    before = state(db)
    try:
        if len(step) == 1:
            return str(step[0].run(db).batch_id)
        with db.transaction():
            reports = [call.run(db) for call in step]
        return str(reports[len(step) // 2].batch_id)
    except cb.BulkError:
        assert state(db) == before
        return None


SWAP = [Call("upsert", "items", [row("items", 1, code=2), row("items", 2, code=1)])]
HAND_OVER = [Call("upsert", "items", [row("items", 1, code=9), row("items", 4, code=1)])]
TAKE_FAMILY = [Call("delete_where", "parents", "id > 0", {"hard": True})]
TAKE_LEAVES = [Call("delete", "parents", [{"id": 3}])]
KEY_NOT_FIRST = [Call("upsert", "leaves", [row("leaves", 1, said="m"), row("leaves", 4, said="n")])]
COMPUTED_BETWEEN = [Call("upsert", "made", [row("made", 1, n=2), row("made", 3, label="C")])]
UNDER_A_NEW_NODE = [Call("upsert", "nodes", [row("nodes", 1, up=5), row("nodes", 5)])]
TAKE_NODES = [Call("delete", "nodes", [{"id": 1}, {"id": 3}])]


@QUICK
@given(steps=st.lists(STEP, min_size=1, max_size=4))
@example(steps=[SWAP])
@example(steps=[HAND_OVER])
@example(steps=[TAKE_LEAVES])
@example(steps=[TAKE_NODES])
@example(steps=[[Call("delete_where", "nodes", "id > 0", {"hard": True})]])
@example(steps=[UNDER_A_NEW_NODE])
@example(steps=[KEY_NOT_FIRST])
@example(steps=[COMPUTED_BETWEEN])
@example(steps=[[Call("delete_where", "items", "k > 0", {"hard": True}), *TAKE_FAMILY]])
def test_undo_restores_what_was_there_before_the_call_and_undo_of_undo_redoes_it(
    world: cb.Database, steps: list[list[Call]]
) -> None:
    begin(world)
    for step in steps:
        before = state(world)
        batch = take(world, step)
        if batch is not None:
            after = state(world)
            undone = world.undo(batch)
            assert state(world) == before
            world.undo(undone.batch_id)
            assert state(world) == after


@QUICK
@given(steps=st.lists(STEP, min_size=2, max_size=5))
@example(steps=[SWAP, HAND_OVER, SWAP])
@example(steps=[[Call("delete_where", "items", "k > 0", {"hard": True})], TAKE_FAMILY, TAKE_NODES])
def test_undoing_all_batches_the_newest_first_ends_at_the_start(
    world: cb.Database, steps: list[list[Call]]
) -> None:
    begin(world)
    done: list[tuple[State, str]] = []
    for step in steps:
        before = state(world)
        batch = take(world, step)
        if batch is not None:
            done.append((before, batch))
    for before, batch in reversed(done):
        world.undo(batch)
        assert state(world) == before


@QUICK
@given(step=STEP, choice=st.integers(0, 20))
@example(step=SWAP, choice=0)
@example(step=TAKE_NODES, choice=0)
def test_a_row_that_somebody_else_has_changed_since_refuses_the_undo_and_nothing_is_changed(
    world: cb.Database, step: list[Call], choice: int
) -> None:
    table, key, batch, _, now = changed_since(world, step, choice)
    with pytest.raises(cb.UndoRefused) as refused:
        world.undo(batch)
    lines = refused.value.rows
    assert lines.columns == ["table", "key", "column", "written", "found"]
    assert set(lines.select("table", "key").rows()) == {(table, str(key))}
    assert lines.filter(pl.col("written").eq_missing(pl.col("found"))).is_empty()
    assert state(world) == now


@QUICK
@given(step=STEP, choice=st.integers(0, 20))
@example(step=[Call("delete", "parents", [{"id": 1}, {"id": 3}])], choice=6)
def test_a_row_that_the_batch_did_not_change_may_be_another_one_since(
    world: cb.Database, step: list[Call], choice: int
) -> None:
    begin(world)
    before = state(world)
    batch = take(world, step)
    assume(batch is not None)
    after = state(world)
    places = touched(before, after)
    free = [(name, key) for name in NAMES for key in after[name] if (name, key) not in places]
    assume(free)
    table, key = free[choice % len(free)]
    disturb(world, table, key, after)
    now = state(world)
    world.undo(str(batch))
    assert touched(now, state(world)) == places


@QUICK
@given(step=STEP, choice=st.integers(0, 20))
@example(step=[Call("upsert", "items", [row("items", 1, note="z"), row("items", 2, note="z")])], choice=0)
@example(step=TAKE_NODES, choice=0)
@example(
    step=[
        Call("update", "parents", [row("parents", 1)]),
        Call("update", "parents", [row("parents", 1, name="b")]),
    ],
    choice=0,
)
@example(
    step=[
        Call("insert", "parents", [row("parents", 4)]),
        Call("insert", "leaves", [row("leaves", 4, parent=4)]),
    ],
    choice=1,
)
def test_force_leaves_the_changed_row_alone_and_takes_back_the_others(
    world: cb.Database, step: list[Call], choice: int
) -> None:
    table, key, batch, before, now = changed_since(world, step, choice)
    report = world.undo(batch, force=True)
    after = state(world)
    assert after[table].get(key) == now[table].get(key)
    others = [place for place in touched(before, now) if place != (table, key)]
    assert report.counts["stale"] == 1
    assert report.counts["stale"] + report.counts["rejected"] <= report.counts["input"]
    if holds({**before, table: without(before[table], key, now[table])}):
        assert report.counts["rejected"] == 0
        for name, other in others:
            assert after[name].get(other) == before[name].get(other)
    for name, other in others:  # where the changed row is in the way, another may have to stay too
        assert after[name].get(other) in (before[name].get(other), now[name].get(other))
    assert set(touched(now, after)) <= set(others)


def changed_since(db: cb.Database, step: list[Call], choice: int) -> tuple[str, int, str, State, State]:
    """Take a step, and change one of the rows that it has changed."""
    begin(db)
    before = state(db)
    batch = take(db, step)
    assume(batch is not None)
    after = state(db)
    places = touched(before, after)
    assume(places)
    table, key = places[choice % len(places)]
    disturb(db, table, key, after)
    now = state(db)
    assert touched(after, now) == [(table, key)]
    return table, key, str(batch), before, now


def without(rows: dict[int, Any], key: int, found: dict[int, Any]) -> dict[int, Any]:
    """Put one row as it is found in place of what was there."""
    rest = {k: row for k, row in rows.items() if k != key}
    return {**rest, key: found[key]} if key in found else rest


def holds(there: State) -> bool:
    """Tell whether a state meets the unique key and the references."""
    codes = [row["code"] for row in there["items"].values() if row["code"] is not None]
    pointing = {
        "items": {"parent": "parents", "boss": "items"},
        "leaves": {"parent": "parents", "second": "parents"},
        "buds": {"leaf": "leaves"},
        "nodes": {"up": "nodes", "twin": "nodes"},
    }
    return len(codes) == len(set(codes)) and all(
        row[column] is None or row[column] in there[target]
        for name, columns in pointing.items()
        for column, target in columns.items()
        for row in there[name].values()
    )


# -- every dtype ---------------------------------------------------------------------------------------

LONGEST = max(len(values) for _, values, _ in EDGES.values()) + 1
WIDE = pl.concat(
    [
        pl.DataFrame({"id": range(LONGEST)}),
        *(
            frame_of(dtype, [None, *values, *[None] * (LONGEST - 1 - len(values))]).select(
                pl.col("value").alias(name)
            )
            for name, (dtype, values, _) in EDGES.items()
        ),
    ],
    how="horizontal",
)
Wide: Any = type(
    "Wide",
    (cb.Table,),
    {
        "__annotations__": {"id": int, **{name: dtype for name, (dtype, _, _) in EDGES.items()}},
        "id": cb.field(key=True),
        **{name: cb.field(nullable=True, **options) for name, (_, _, options) in EDGES.items()},
        "Config": type("Config", (), {"name": "wide"}),
    },
)


def stored(db: cb.Database) -> list[tuple[Any, ...]]:
    """Read what is stored to the bit, with its storage class where a column may hold several."""
    exact = "typeof({0}) || hex({0}) AS {0}" if db.backend.name == "sqlite" else "{0}::text AS {0}"
    columns = ", ".join(exact.format(f'"{name}"') for name in WIDE.columns)
    with db.session() as session:
        return session.fetch(f"SELECT {columns} FROM wide ORDER BY wide.id").rows()


@pytest.mark.thorough
@pytest.mark.parametrize("target", [Wide, "wide"], ids=["declared", "by its name"])
@pytest.mark.parametrize("verb", ["update", "upsert", "delete"])
def test_undo_restores_every_dtype_to_the_bit(db: cb.Database, verb: str, target: Any) -> None:
    db.create(Wide)
    db.insert(Wide, WIDE)
    before, raw = db.read(Wide, order_by="id"), stored(db)
    moved = db.read(target, order_by="id").with_columns(pl.exclude("id").shift(1))
    report = getattr(db, verb)(target, [0, 2, 5] if verb == "delete" else moved)
    after = stored(db)
    assert after != raw
    undone = db.undo(report.batch_id)
    assert_frame_equal(db.read(Wide, order_by="id"), before)
    assert stored(db) == raw
    db.undo(undone.batch_id)
    assert stored(db) == after
