"""The oracle: rows applied one at a time, each in a statement of its own, by SQLite's own constraints.

It shares no code with crave_bulk: the standard library's ``sqlite3``, one hand-written ``INSERT`` a row,
and whatever the database says about it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


class Oracle:
    """A table of items with a parent table, two unique keys, a CHECK and a reference."""

    def __init__(self, parents: Iterable[int]) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        self.connection.executemany("INSERT INTO parents VALUES (?)", [(p,) for p in parents])
        self.connection.execute(
            "CREATE TABLE items (a INTEGER NOT NULL, b TEXT NOT NULL, code INTEGER UNIQUE,"
            " x TEXT NOT NULL, y INTEGER, parent INTEGER REFERENCES parents (id), amount INTEGER NOT NULL"
            " CHECK (amount >= 0), PRIMARY KEY (a, b), UNIQUE (x, y))"
        )

    def apply(self, verb: str, rows: list[Row], on_conflict: str = "error") -> list[str]:
        """Apply rows in order, and return the outcome of each."""
        before = self.rows()
        outcomes = [self._one(verb, row, on_conflict) for row in rows]
        return _account(before, self.rows(), rows, outcomes) if verb == "upsert" else outcomes

    def _one(self, verb: str, row: Row, on_conflict: str) -> str:
        names = ", ".join(row)
        tail = ""
        if verb == "upsert":
            sets = ", ".join(f"{name} = excluded.{name}" for name in row if name not in ("a", "b"))
            tail = f" ON CONFLICT (a, b) DO UPDATE SET {sets}"
        elif on_conflict == "ignore":
            tail = " ON CONFLICT (a, b) DO NOTHING"
        marks = ", ".join(f":{name}" for name in row)
        try:
            done = self.connection.execute(f"INSERT INTO items ({names}) VALUES ({marks}){tail}", dict(row))
        except sqlite3.IntegrityError:
            return "rejected"
        return "inserted" if done.rowcount else "ignored"

    def rows(self) -> dict[tuple[int, str], tuple[Any, ...]]:
        """All rows by key."""
        found = self.connection.execute("SELECT a, b, code, x, y, parent, amount FROM items")
        return {(row[0], row[1]): row for row in found}


def _account(
    before: dict[Any, Any], after: dict[Any, Any], rows: list[Row], outcomes: list[str]
) -> list[str]:
    """Name outcomes as a batch does: by key, what its last accepted row left behind."""
    last: dict[Any, int] = {}
    for number, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
        if outcome != "rejected":
            last[row["a"], row["b"]] = number
    named = []
    for number, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
        key = (row["a"], row["b"])
        if outcome == "rejected":
            named.append("rejected")
        elif last[key] != number:
            named.append("duplicate")
        elif key not in before:
            named.append("inserted")
        else:
            named.append("updated" if before[key] != after[key] else "unchanged")
    return named
