"""A plan is what apply does: it writes nothing, says every change, and comes true or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from properties import examples
from world import (
    FREE,
    GENERATED,
    KEYS,
    NAMES,
    TARGETS,
    Call,
    State,
    begin,
    build,
    calls,
    disturb,
    row,
    state,
    touched,
)

import crave_bulk as cb

QUICK = examples(12)
# What was there before: what the tables hold at the start, and what some calls have made of it.
FIRST = st.lists(calls(most=3), max_size=2)


@pytest.fixture
def world(db: cb.Database) -> cb.Database:
    build(db)
    return db


def arrive(db: cb.Database, first: list[Call]) -> None:
    """Let the tables hold something."""
    begin(db)
    for call in first:
        try:
            call.run(db)
        except cb.BulkError:
            assume(False)


def planned(db: cb.Database, call: Call) -> cb.Plan:
    """Plan a call; one that is refused as a whole is of no interest here."""
    try:
        return call.run(db, plan=True)  # type: ignore[no-any-return]
    except cb.BulkError:
        assume(False)
        raise


class RolledBack(Exception):
    """The call was only to be seen."""


def directly(db: cb.Database, call: Call) -> tuple[cb.Report, State, dict[str, Any]]:
    """Make a call, see what it leaves, and take it back."""
    seen: list[Any] = []
    with pytest.raises(RolledBack), db.transaction():
        # What it says while it is pending, not that it was rolled back.
        seen += [replace(call.run(db), fate=None), state(db), values(db)]
        raise RolledBack
    return seen[0], seen[1], seen[2]


SWAP = Call("upsert", "items", [row("items", 1, code=2), row("items", 2, code=1)])
REFUSED = Call(
    "upsert", "items", [row("items", 4, code=4), row("items", 1, parent=9), row("items", 4, best=3)]
)
FAMILY = Call("delete_where", "nodes", "id = 2", {"hard": True})
TAKEN = Call("delete", "parents", [{"id": 3}])
SYNC = Call("sync", "items", [row("items", 2, code=1), row("items", 5, code=2)])


@QUICK
@given(first=FIRST, call=calls())
@example(first=[], call=SWAP)
@example(first=[], call=SYNC)
def test_a_plan_changes_nothing(world: cb.Database, first: list[Call], call: Call) -> None:
    arrive(world, first)
    before, batches, others = state(world), world.batches(), relations(world)
    planned(world, call)
    assert state(world) == before
    assert world.batches().equals(batches)
    assert relations(world) == others


def relations(db: cb.Database) -> set[str]:
    """List all tables that there are, also those of a session."""
    query = (
        "SELECT name FROM (SELECT name FROM sqlite_master UNION ALL SELECT name FROM sqlite_temp_master)"
        if db.backend.name == "sqlite"
        else "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r'"
    )
    with db.session() as session:
        return set(session.fetch(query)["name"])


@QUICK
@given(first=FIRST, call=calls())
@example(first=[], call=SWAP)
@example(first=[], call=REFUSED)
@example(first=[], call=FAMILY)
@example(first=[], call=TAKEN)
@example(first=[], call=SYNC)
def test_a_plan_says_what_the_call_does_and_apply_does_it(
    world: cb.Database, first: list[Call], call: Call
) -> None:
    arrive(world, first)
    plan = planned(world, call)
    report, after, _ = directly(world, call)
    assert plan.counts == report.counts
    assert plan.outcomes.equals(report.outcomes)
    assert plan.failures.equals(report.failures)
    applied = plan.apply()
    assert state(world) == after
    assert applied.committed
    assert applied.outcomes.equals(report.outcomes)
    assert applied.keys.equals(report.keys)


@QUICK
@given(first=FIRST, call=calls())
@example(first=[], call=SWAP)
@example(first=[], call=REFUSED)
@example(first=[], call=FAMILY)
@example(first=[], call=TAKEN)
@example(first=[], call=SYNC)
@example(first=[], call=Call("delete", "nodes", [{"id": 1}]))
def test_the_changes_of_a_plan_are_the_cells_that_differ(
    world: cb.Database, first: list[Call], call: Call
) -> None:
    arrive(world, first)
    plan, before = planned(world, call), values(world)
    report, _, after = directly(world, call)
    assert sorted(plan.changes.rows(), key=repr) == sorted(differences(call, report, before, after), key=repr)


def values(db: cb.Database) -> dict[str, Any]:
    """Read all tables as frames give them: table → key → column → value."""
    return {
        name: {
            row[KEYS[name]]: row
            for row in db.read(TARGETS[name], include_deleted=name == "items").iter_rows(named=True)
        }
        for name in NAMES
    }


def differences(call: Call, report: cb.Report, before: dict[str, Any], after: dict[str, Any]) -> list[Any]:
    """List the values that differ, as text."""
    written = {"inserted", "updated", "deleted"}
    keys = call.keys or report.source[KEYS[call.name]].to_list()
    numbers = {
        keys[number]: number
        for number, outcome in report.outcomes.rows()
        if number is not None and outcome in written
    }
    if call.options.get("on"):  # which key a row has is found by its unique value
        numbers = {
            key: number for number, key in report.keys.rows() if report.outcomes["outcome"][number] in written
        }
    lines: list[Any] = []
    for name, key in touched(before, after):
        old, new = before[name].get(key), after[name].get(key)
        number = numbers.get(key) if name == call.name else None
        if old is None or new is None:
            lines.append((number, str(key), KEYS[name], old and str(key), new and str(key)))
        for column in old or new:
            was, now = (None if there is None else as_text(there[column]) for there in (old, new))
            if was != now and column not in (KEYS[name], *GENERATED.get(name, ())):
                lines.append((number, str(key), column, was, now))
    return lines


def as_text(value: Any) -> str | None:
    """Write a value for people."""
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# -- what somebody else changes in between -------------------------------------------------------------


@QUICK
@given(first=FIRST, call=calls(), choice=st.integers(0, 20))
@example(first=[], call=SWAP, choice=0)
@example(first=[], call=FAMILY, choice=1)
@example(first=[], call=TAKEN, choice=1)
@example(first=[], call=SYNC, choice=0)
def test_a_row_that_is_planned_and_was_changed_makes_the_plan_stale(
    world: cb.Database, first: list[Call], call: Call, choice: int
) -> None:
    arrive(world, first)
    plan, before = planned(world, call), state(world)
    places = touched(before, directly(world, call)[1])
    assume(places)
    table, key = places[choice % len(places)]
    disturb(world, table, key, before)
    now, batches = state(world), world.batches()
    assert touched(before, now) == [(table, key)]
    with pytest.raises(cb.PlanStale, match="nothing was written"):
        plan.apply()
    assert state(world) == now
    assert world.batches().equals(batches)


@QUICK
@given(first=FIRST, call=calls(), choice=st.integers(0, 20))
@example(first=[], call=SWAP, choice=2)
@example(first=[], call=FAMILY, choice=0)
@example(first=[], call=Call("delete", "parents", [{"id": 1}, {"id": 3}]), choice=4)
def test_a_row_that_is_not_planned_may_change(
    world: cb.Database, first: list[Call], call: Call, choice: int
) -> None:
    arrive(world, first)
    plan, before = planned(world, call), state(world)
    _, after, _ = directly(world, call)
    met = {*touched(before, after), *((call.name, key) for key in call.keys)}
    free = [(name, key) for name in NAMES for key in before[name] if (name, key) not in met]
    if call.verb == "update_where":  # it passes over rows that have the values already
        free = [place for place in free if place[0] != call.name or FREE[call.name] not in call.argument[0]]
    assume(free)
    table, key = free[choice % len(free)]
    disturb(world, table, key, before)
    now = state(world)
    plan.apply()
    assert touched(now, state(world)) == touched(before, after)
