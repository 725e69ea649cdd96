"""What the verbs mean, in the plainest Python: tables are dicts of rows, and rows are written one at a time.

Written from the README's words alone; nothing of crave_bulk is used here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from shapes import Brief, Key, Row, Shape

Rows = dict[Key, Row]
Step = Callable[[Rows, int, Row], tuple[str, Key]]  # writes a row: what became of it, and its key
Condition = tuple[tuple[str, str, Any], ...]  # column, lookup, value


@dataclass(frozen=True, repr=False)
class Call(Brief):
    """A call of a verb; `columns` are those of its frame."""

    verb: str
    number: int
    rows: tuple[Row, ...] = ()
    columns: tuple[str, ...] = ()
    where: Condition = ()
    changes: Row = field(default_factory=dict)
    on_conflict: str = "error"
    on: tuple[str, ...] = ()
    newer: str | None = None
    hard: bool = False
    keep: bool = True


@dataclass
class Answer:
    """What a call answers: the outcome of each row, those of rows that the frame does not have, and keys."""

    outcomes: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    keys: dict[int, Key] = field(default_factory=dict)
    unsaid: bool = False  # the words do not say which rows are refused

    @property
    def counts(self) -> dict[str, int]:
        """Outcomes that occur, and the input."""
        counts = Counter(self.outcomes) + self.others
        return {"input": counts.total(), **counts}


class Model:
    """The tables of a world."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        self.shapes = shapes
        self.tables: list[Rows] = [{} for _ in shapes]

    def copy(self) -> list[Rows]:
        """Copy all rows."""
        return [{key: dict(row) for key, row in table.items()} for table in self.tables]

    def apply(self, call: Call, made: dict[int, Key]) -> Answer:
        """Make a call; `made` are the keys that the database made. Nothing is written if rows must not be refused."""
        before = self.copy()
        answer: Answer = getattr(self, f"_{call.verb}")(call, made)
        if "rejected" in answer.counts and not call.keep:
            self.tables = before
        return answer

    # -- rows of a frame ------------------------------------------------------------------------------

    def _insert(self, call: Call, made: dict[int, Key]) -> Answer:
        shape = self.shapes[call.number]

        def step(table: Rows, number: int, row: Row) -> tuple[str, Key]:
            new = complete(shape, filled(shape, row, call), made.get(number, (-1 - number,)))
            key = shape.key_of(new)
            if key in table:
                return ("ignored" if call.on_conflict == "ignore" else "rejected"), key
            return store(shape, table, key, new), key

        return self._settle(call, step)

    def _upsert(self, call: Call, made: dict[int, Key]) -> Answer:
        return self._settle(call, self._merge(call, made))

    def _merge(self, call: Call, made: dict[int, Key]) -> Step:
        shape = self.shapes[call.number]

        def step(table: Rows, number: int, row: Row) -> tuple[str, Key]:
            full = filled(shape, row, call)
            new = complete(shape, full, made.get(number, (-1 - number,)))
            key = shape.key_of(new)
            if call.on:
                if any(full[name] is None for name in call.on):
                    return "rejected", ()
                same = (k for k, old in table.items() if all(old[name] == full[name] for name in call.on))
                found = next(same, None)
                if found is None and key in table:
                    return "rejected", key
                key = key if found is None else found
            if key not in table:
                return store(shape, table, key, new), key
            old = table[key]
            row = {**row, **{name: full[name] for name in call.on}}
            rules = {name: "replace" if call.verb == "sync" else shape[name].rule for name in row}
            if any(
                value is None and rules[name] == "replace" and not shape[name].nullable
                for name, value in row.items()
                if name not in shape.key
            ):
                return "rejected", key
            if call.newer and not is_newer(old[call.newer], row[call.newer]):
                return "stale", key
            values = {
                name: merged(rules[name], old[name], value)
                for name, value in row.items()
                if name not in shape.key
            }
            alive = {"gone": False} if shape.marked else {}
            return store(shape, table, key, {**old, **values, **alive}), key

        return step

    def _update(self, call: Call, made: dict[int, Key]) -> Answer:
        shape = self.shapes[call.number]

        def step(table: Rows, number: int, row: Row) -> tuple[str, Key]:
            key = shape.key_of(row)
            if key not in table or table[key].get("gone"):
                return "missing", key
            return store(shape, table, key, {**table[key], **row}), key

        return self._settle(call, step)

    def _sync(self, call: Call, made: dict[int, Key]) -> Answer:
        shape, table = self.shapes[call.number], self.tables[call.number]
        there = {shape.key_of(row) for row in call.rows}
        absent = [
            key
            for key, row in table.items()
            if key not in there and meets(row, call.where) and (call.hard or not row.get("gone"))
        ]
        if shape.marked and not call.hard:
            for key in absent:
                table[key]["gone"] = True
            answer = self._upsert(call, made)
            answer.others["deleted"] = len(absent)
            return answer
        # What rows that stay still point at cannot go.
        needed: set[Key] = set()
        while True:
            self.tables[call.number] = {
                key: row for key, row in table.items() if key not in absent or key in needed
            }
            answer = self._settle(call, self._merge(call, made), {(call.number, key[0]) for key in absent})
            more = {(value,) for number, value in self.broken() if number == call.number}
            if not more:
                answer.others = Counter(deleted=len(absent) - len(needed), rejected=len(needed))
                answer.unsaid = bool(needed) and "rejected" in answer.outcomes
                return answer
            needed |= more

    def _settle(self, call: Call, step: Step, there: Set[tuple[int, Any]] = frozenset()) -> Answer:
        """Write row after row; one whose parent is not there at the end is as if it had never been."""
        shape = self.shapes[call.number]
        before = self.copy()
        table = before[call.number]
        refused = {
            number
            for number, row in enumerate(call.rows)
            if any(shape[name].breaks(value) for name, value in filled(shape, row, call).items())
        }
        while True:
            trial = self.tables[call.number] = {key: dict(row) for key, row in table.items()}
            said: list[tuple[str, Key]] = [("rejected", ())] * len(call.rows)
            left: dict[int, Row] = {}
            turns = [number for number in range(len(call.rows)) if number not in refused]
            while turns:
                for number in turns:
                    row = {name: call.rows[number][name] for name in call.columns}
                    said[number] = step(trial, number, row)
                    if said[number][0] == "written":
                        left[number] = dict(trial[said[number][1]])
                # A sync means its end: a row may have the value that only a later one gives up.
                waiting = [
                    number for number in turns if call.verb == "sync" and self._may_wait(call, number, said)
                ]
                turns = waiting if len(waiting) < len(turns) else []
            lost = {
                number: missing
                for number, row in left.items()
                if (missing := self._missing(shape, row) - there)
            }
            if not lost:
                return named(shape, table, trial, said)
            # A parent may yet be written, once the rows that are refused for sure no longer stand in its way.
            hoped = {(call.number, key[0]) for what, key in said if what == "rejected" and key}
            sure = {number for number, missing in lost.items() if not missing <= hoped}
            # A later row of the same key may only have taken over what it points at.
            first = {said[number][1]: number for number in sorted(sure, reverse=True)}
            refused |= set(first.values()) or {min(lost)}

    def _may_wait(self, call: Call, number: int, said: list[tuple[str, Key]]) -> bool:
        """Whether a row was refused that is the only one of its key."""
        key_of = self.shapes[call.number].key_of
        mine = [row for row in call.rows if key_of(row) == key_of(call.rows[number])]
        return said[number][0] == "rejected" and len(mine) == 1

    def _missing(self, shape: Shape, row: Row) -> set[tuple[int, Any]]:
        """List what a row points at and is not there."""
        points = {
            (c.target, row[c.name]) for c in shape.columns if c.target is not None and row[c.name] is not None
        }
        return {(target, value) for target, value in points if (value,) not in self.tables[target]}

    # -- rows that go, and rows that meet a condition ---------------------------------------------------

    def _delete(self, call: Call, made: dict[int, Key]) -> Answer:
        shape, table = self.shapes[call.number], self.tables[call.number]
        keys = [shape.key_of(row) for row in call.rows]
        soft = shape.marked and not call.hard
        chosen = {key for key in keys if key in table and not (soft and table[key]["gone"])}
        refused = self._remove(call, chosen)
        last = {key: number for number, key in enumerate(keys)}
        outcomes = []
        for number, key in enumerate(keys):
            if key not in chosen:
                outcomes.append("missing")
            elif key in refused:
                outcomes.append("rejected")
            else:
                outcomes.append("deleted" if last[key] == number else "duplicate")
        return Answer(outcomes)

    def _delete_where(self, call: Call, made: dict[int, Key]) -> Answer:
        table = self.tables[call.number]
        chosen = {
            key for key, row in table.items() if meets(row, call.where) and (call.hard or not row.get("gone"))
        }
        refused = self._remove(call, chosen)
        return Answer(others=Counter(deleted=len(chosen - refused), rejected=len(refused)))

    def _remove(self, call: Call, chosen: set[Key]) -> set[Key]:
        """Delete rows, or mark them; return those that must stay because others point at them."""
        shape, table = self.shapes[call.number], self.tables[call.number]
        if shape.marked and not call.hard:
            for key in chosen:
                table[key]["gone"] = True
            return set()
        refused: set[Key] = set()
        while True:
            rest = {key: row for key, row in table.items() if key not in chosen - refused}
            self.tables[call.number] = rest
            needed = {(value,) for number, value in self.broken() if number == call.number} & chosen
            if not needed:
                return refused
            refused |= needed

    def _update_where(self, call: Call, made: dict[int, Key]) -> Answer:
        shape, table = self.shapes[call.number], self.tables[call.number]
        rows = {
            key: row
            for key, row in table.items()
            if meets(row, call.where)
            and not row.get("gone")
            and any(row[name] != value for name, value in call.changes.items())
        }
        lost = {key for key, row in rows.items() if self._missing(shape, {**row, **call.changes})}
        held = {
            key
            for key in rows.keys() - lost
            if store(shape, table, key, {**table[key], **call.changes}) == "rejected"
        }
        refused = len(lost | held)
        # Which of several rows gets a unique value that all of them are to have is left open.
        counts = Counter(updated=len(rows) - refused, rejected=refused)
        return Answer(others=counts, unsaid=bool(held) and len(rows) > 1)

    def _restore_where(self, call: Call, made: dict[int, Key]) -> Answer:
        rows = [row for row in self.tables[call.number].values() if row["gone"] and meets(row, call.where)]
        for row in rows:
            row["gone"] = False
        return Answer(others=Counter(updated=len(rows)))

    # -- all tables -----------------------------------------------------------------------------------

    def broken(self) -> set[tuple[int, Any]]:
        """List what rows point at and is not there: number of the table and key."""
        return {
            lost
            for shape, table in zip(self.shapes, self.tables, strict=True)
            for row in table.values()
            for lost in self._missing(shape, row)
        }

    def is_sound(self) -> bool:
        """Whether the database could hold these rows."""
        return not self.broken() and all(
            not clashes(shape, table, key, row)
            for shape, table in zip(self.shapes, self.tables, strict=True)
            for key, row in table.items()
        )


def filled(shape: Shape, row: Row, call: Call) -> Row:
    """Take the columns of a call from a new row: a null takes the default, unless the call only updates."""
    given = {name: row[name] for name in call.columns}
    if call.verb == "update":
        return given
    return {name: shape[name].default if value is None else value for name, value in given.items()}


def complete(shape: Shape, row: Row, made: Key) -> Row:
    """Fill up a new row: defaults, nulls, and the key that the database makes."""
    rest: Row = {column.name: column.default for column in shape.columns}
    if shape.made and row.get("k") is None:
        row = {**row, "k": made[0]}
    return {**rest, **row, **({"gone": False} if shape.marked else {})}


def store(shape: Shape, table: Rows, key: Key, row: Row) -> str:
    """Write a row unless another one holds a unique value of it."""
    if clashes(shape, table, key, row):
        return "rejected"
    table[key] = row
    return "written"


def clashes(shape: Shape, table: Rows, key: Key, row: Row) -> bool:
    """Whether another row holds a unique value of a row; nulls are never equal."""
    return any(
        other != key and all(row[name] is not None and row[name] == held[name] for name in names)
        for other, held in table.items()
        for names in shape.unique
    )


def is_newer(old: Any, new: Any) -> bool:
    """Null is older than anything, and what is equally new is taken."""
    return old is None or (new is not None and new >= old)


def merged(rule: str, old: Any, new: Any) -> Any:
    """Combine two values by the rule of their column."""
    if rule == "replace":
        return new
    if rule == "keep":
        return old
    if old is None or new is None:
        return new if old is None else old
    if rule == "coalesce":
        return new
    if rule == "union":
        return old if set(new) <= set(old) else list(dict.fromkeys(old + new))
    return {"add": lambda: old + new, "append": lambda: old + new, "max": lambda: max(old, new)}.get(
        rule, lambda: min(old, new)
    )()


def meets(row: Row, where: Condition) -> bool:
    """Whether a row meets a condition; null meets none but isnull."""
    return all(_meets(row[name], lookup, value) for name, lookup, value in where)


def _meets(held: Any, lookup: str, value: Any) -> bool:
    if lookup == "isnull":
        return (held is None) == value
    if held is None:
        return False
    return bool(
        {
            "eq": lambda: held == value,
            "ne": lambda: held != value,
            "lt": lambda: held < value,
            "gte": lambda: held >= value,
            "in": lambda: held in value,
        }[lookup]()
    )


def named(shape: Shape, before: Rows, after: Rows, said: list[tuple[str, Key]]) -> Answer:
    """Name outcomes as a batch does: the last row of a key that was written tells what became of it."""
    last = {key: number for number, (what, key) in enumerate(said) if what == "written"}
    answer = Answer()
    for number, (what, key) in enumerate(said):
        outcome = what
        if what == "written" and last[key] != number:
            outcome = "duplicate"
        elif what == "written" and key not in before:
            outcome = "inserted"
        elif what == "written":
            outcome = "updated" if before[key] != after[key] else "unchanged"
        answer.outcomes.append(outcome)
        if outcome in ("inserted", "updated", "unchanged"):
            answer.keys[number] = key
    return answer


def touched(before: list[Rows], after: list[Rows]) -> Iterator[tuple[int, Key]]:
    """List the rows that differ."""
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                yield number, key
