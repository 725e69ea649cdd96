"""Random programs: calls of verbs, transactions within transactions that may fail, plans, and undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from shapes import VALUES, Column, Row, Shape
from slow import Call, Condition

FAR = {"int": 9, "str": "z"}  # no row has this key unless it is written


@dataclass(frozen=True)
class Step:
    """A call, which may be planned first."""

    call: Call
    planned: bool = False


@dataclass(frozen=True)
class Block:
    """A transaction that may end in an exception."""

    steps: tuple[Any, ...]
    fails: bool


@dataclass(frozen=True)
class Undo:
    """Take back one of the transactions before."""

    which: int


@dataclass(frozen=True)
class Program:
    """Tables, and what is done with them."""

    shapes: tuple[Shape, ...]
    steps: tuple[Any, ...]


def values(column: Column) -> st.SearchStrategy[Any]:
    """Draw a value; one that points may point nowhere."""
    if column.target is None:
        return column.values()
    one = VALUES[column.kind]
    one = st.one_of(one, one, one, st.just(FAR[column.kind]))
    return st.one_of(st.none(), one, one) if column.nullable else one


@st.composite
def conditions(draw: st.DrawFn, shape: Shape) -> Condition:
    """Draw up to two comparisons."""
    found = []
    for column in draw(st.lists(st.sampled_from(shape.columns), max_size=2)):
        if column.kind not in FAR:
            continue
        lookup = draw(st.sampled_from(["eq", "ne", "lt", "gte", "in", "isnull"]))
        one = VALUES[column.kind]
        value = {"in": st.lists(one, min_size=1, max_size=3), "isnull": st.booleans()}.get(lookup, one)
        found.append((column.name, lookup, draw(value)))
    # Of two comparisons that are the same, a mapping knows one.
    return tuple({(name, lookup): (name, lookup, value) for name, lookup, value in found}.values())


@st.composite
def calls(draw: st.DrawFn, shapes: tuple[Shape, ...]) -> Call:
    """Draw a call of any verb."""
    shape = draw(st.sampled_from(shapes))
    verbs = [
        "insert",
        "upsert",
        "upsert",
        "upsert",
        "update",
        "delete",
        "sync",
        "update_where",
        "delete_where",
    ]
    verb = draw(st.sampled_from([*verbs, *(["restore_where"] if shape.marked else [])]))
    keep = draw(st.sampled_from([True, True, False]))
    hard = draw(st.booleans())
    if verb in ("delete_where", "restore_where"):
        return Call(verb, shape.number, where=draw(conditions(shape)), hard=hard, keep=keep)
    free = [column for column in shape.columns if column.name not in shape.key]
    if verb == "update_where":
        chosen = draw(st.lists(st.sampled_from(free), min_size=1, max_size=2, unique_by=lambda c: c.name))
        changes = {c.name: draw(values(c).filter(lambda v, c=c: not c.breaks(v))) for c in chosen}
        return Call(verb, shape.number, where=draw(conditions(shape)), changes=changes, keep=keep)
    rows = st.fixed_dictionaries({column.name: values(column) for column in shape.columns})
    several = tuple(draw(st.lists(rows, min_size=verb == "sync", max_size=5)))
    if verb == "delete":
        return Call(verb, shape.number, several, shape.key, hard=hard, keep=keep)
    on, newer = (), None
    if verb == "upsert":
        plain = [names for names in shape.unique if all(shape[name].rule == "replace" for name in names)]
        on = draw(st.sampled_from([(), (), *plain]))
        ordered = [column.name for column in free if column.rule == "replace" and column.kind in FAR]
        newer = draw(st.sampled_from([None, None, *ordered]))
    left_out = draw(left_out_of(shape, verb, on, newer))
    where = draw(conditions(shape)) if verb == "sync" else ()
    conflict = draw(st.sampled_from(["error", "ignore"])) if verb == "insert" else "error"
    columns = tuple(name for name in shape.names if name not in left_out)
    return Call(verb, shape.number, several, columns, where, {}, conflict, on, newer, hard, keep)


@st.composite
def left_out_of(draw: st.DrawFn, shape: Shape, verb: str, on: tuple[str, ...], newer: str | None) -> set[str]:
    """Draw the columns that a frame does not have."""
    free = [column for column in shape.columns if column.name not in shape.key]
    may = [column.name for column in free if verb == "update" or column.may_be_left_out]
    names: set[str] = (
        draw(st.sets(st.sampled_from(may), max_size=3)) if may and draw(st.booleans()) else set()
    )
    if len(names) == len(free):  # an update needs something to set, and a frame without a key some column
        names.remove(free[0].name)
    if shape.made and (verb == "insert" or on):
        names.add("k")
    return names - {*on, newer}


@st.composite
def programs(draw: st.DrawFn, worlds: st.SearchStrategy[tuple[Shape, ...]]) -> Program:
    """Draw a program."""
    shapes = draw(worlds)
    call = st.builds(Step, calls(shapes), st.sampled_from([False, False, False, True]))
    inner = st.builds(Step, calls(shapes))
    block = st.builds(Block, st.lists(inner, max_size=3).map(tuple), st.booleans())
    outer = st.builds(Block, st.lists(inner | block, min_size=1, max_size=3).map(tuple), st.booleans())
    step = st.one_of(call, call, call, outer, st.builds(Undo, st.integers(0, 5)))
    return Program(shapes, tuple(draw(st.lists(step, min_size=1, max_size=7))))


def where_of(condition: Condition) -> Row | str:
    """Write a condition as a mapping with lookups; what meets all rows must be said."""
    return (
        "true"
        if not condition
        else {name if lookup == "eq" else f"{name}__{lookup}": value for name, lookup, value in condition}
    )
