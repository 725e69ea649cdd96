"""The oracle: rows applied one at a time, each in a statement of its own, by SQLite's own constraints.

It shares no code with crave_bulk: the standard library's ``sqlite3``, one hand-written ``INSERT`` a row,
and whatever the database says about it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


class Oracle:
    """A table of items with a parent table, two unique keys, a CHECK, a reference, and one to good parents only."""

    def __init__(self, parents: Mapping[int, str]) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY, kind TEXT, UNIQUE (id, kind))")
        self.connection.executemany("INSERT INTO parents VALUES (?, ?)", parents.items())
        self.connection.execute(
            "CREATE TABLE items (a INTEGER NOT NULL, b TEXT NOT NULL, code INTEGER UNIQUE,"
            " x TEXT NOT NULL, y INTEGER, parent INTEGER REFERENCES parents (id), amount INTEGER NOT NULL"
            " CHECK (amount >= 0), best INTEGER, kind TEXT AS ('good') STORED, PRIMARY KEY (a, b), UNIQUE (x, y),"
            " FOREIGN KEY (best, kind) REFERENCES parents (id, kind))"
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
        found = self.connection.execute("SELECT a, b, code, x, y, parent, best, amount FROM items")
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


class MergingOracle:
    """A table whose columns are merged by every rule, and its parents: one hand-written statement a row."""

    COLUMNS = ("k", "code", "parent", "kept", "total", "best", "least", "note", "tags", "log", "at")
    RULES: Mapping[str, str] = {
        "code": "excluded.code",
        "parent": "excluded.parent",
        "kept": "t.kept",
        "total": "CASE WHEN t.total IS NULL OR excluded.total IS NULL THEN coalesce(t.total, excluded.total)"
        " ELSE t.total + excluded.total END",
        "best": "coalesce(max(t.best, excluded.best), t.best, excluded.best)",
        "least": "coalesce(min(t.least, excluded.least), t.least, excluded.least)",
        "note": "coalesce(excluded.note, t.note)",
        "tags": "united(t.tags, excluded.tags)",
        "log": "appended(t.log, excluded.log)",
        "at": "excluded.at",
    }

    def __init__(self, parents: Iterable[int]) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.create_function("united", 2, _united, deterministic=True)
        self.connection.create_function("appended", 2, _appended, deterministic=True)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        self.connection.executemany("INSERT INTO parents VALUES (?)", [(p,) for p in parents])
        self.connection.execute(
            "CREATE TABLE merged (k INTEGER PRIMARY KEY, code INTEGER UNIQUE, parent INTEGER REFERENCES parents (id),"
            " kept TEXT, total INTEGER, best INTEGER, least INTEGER, note TEXT, tags TEXT, log TEXT, at INTEGER)"
        )

    def apply(self, verb: str, rows: list[Row], newer: bool = False) -> list[str]:
        """Apply rows in order, and return the outcome of each as a batch names it."""
        table = "parents" if verb == "delete" else "merged"
        before = self.rows(table)
        outcomes = [getattr(self, f"_{verb}")(row, newer) for row in rows]
        key = "id" if verb == "delete" else "k"
        return _by_key(before, self.rows(table), [row[key] for row in rows], outcomes)

    def _upsert(self, row: Row, newer: bool) -> str:
        sets = ", ".join(f"{name} = {self.RULES[name]}" for name in row if name != "k")
        # A NULL is older than anything, and a row that is equally new is taken.
        where = " WHERE t.at IS NULL OR (excluded.at IS NOT NULL AND excluded.at >= t.at)" if newer else ""
        marks = ", ".join(f":{name}" for name in row)
        return self._run(
            f"INSERT INTO merged AS t ({', '.join(row)}) VALUES ({marks}) ON CONFLICT (k) DO UPDATE SET {sets}{where}",
            row,
            "stale",
        )

    def _update(self, row: Row, newer: bool) -> str:
        sets = ", ".join(f"{name} = :{name}" for name in row if name != "k")
        return self._run(f"UPDATE merged SET {sets} WHERE k = :k", row, "missing")

    def _delete(self, row: Row, newer: bool) -> str:
        return self._run("DELETE FROM parents WHERE id = :id", row, "missing")

    def _run(self, statement: str, row: Row, otherwise: str) -> str:
        values = {name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()}
        try:
            done = self.connection.execute(statement, values)
        except sqlite3.IntegrityError:
            return "rejected"
        return "written" if done.rowcount else otherwise

    def rows(self, table: str = "merged") -> dict[int, tuple[Any, ...]]:
        """All rows by key; lists as lists."""
        found = self.connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in found.description]
        return {
            row[0]: tuple(
                json.loads(v) if n in ("tags", "log") and v else v for n, v in zip(names, row, strict=True)
            )
            for row in found
        }


def _united(old: str | None, new: str | None) -> str | None:
    if old is None or new is None:
        return old or new
    before, added = json.loads(old), json.loads(new)
    return old if set(added) <= set(before) else json.dumps(list(dict.fromkeys(before + added)))


def _appended(old: str | None, new: str | None) -> str | None:
    if old is None or new is None:
        return old or new
    return json.dumps(json.loads(old) + json.loads(new))


def _by_key(before: dict[Any, Any], after: dict[Any, Any], keys: list[Any], outcomes: list[str]) -> list[str]:
    """Name outcomes as a batch does: on the last row of a key that was written."""
    last = {key: number for number, (key, o) in enumerate(zip(keys, outcomes, strict=True)) if o == "written"}
    named = []
    for number, (key, outcome) in enumerate(zip(keys, outcomes, strict=True)):
        gone = key in before and key not in after
        if gone:  # one at a time, a key can be deleted once; in a batch the last row of it tells
            named.append(
                "deleted" if number == max(i for i, k in enumerate(keys) if k == key) else "duplicate"
            )
        elif outcome != "written":
            named.append(outcome)
        elif last[key] != number:
            named.append("duplicate")
        elif key not in before:
            named.append("inserted")
        else:
            named.append("updated" if before[key] != after[key] else "unchanged")
    return named
