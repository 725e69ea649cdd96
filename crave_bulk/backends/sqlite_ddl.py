"""Change SQLite's tables: add what they lack, and tell which types will do for which.

SQLite can add a column and an index. For anything else the table is rebuilt, by the steps that its
documentation gives (https://www.sqlite.org/lang_altertable.html#otheralter): a new table from the old
text with the additions, the rows copied, the old one dropped and the new one given its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from crave_bulk import sql
from crave_bulk.backends.ddl import Alteration, Missing, fill_of, on_wire
from crave_bulk.backends.sqlite_types import codec, dtype_of, parse_type
from crave_bulk.table import Column, Reference

_NEW = "crave_bulk_new"
_PART = re.compile(
    r"""(--[^\n]*|/\*.*?\*/)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\w+|\S""", re.DOTALL
)
_CONSTRAINTS = ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN")
_MILLISECONDS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
# RFC 9562, version 7: 48 bits of time, then random ones, drawn anew for each row.
_UUID = (
    f"lower(printf('%08x-%04x-7', {_MILLISECONDS} >> 16, {_MILLISECONDS} & 65535) || substr(hex(randomblob(2)), 2) "
    "|| '-' || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
)


@dataclass(frozen=True, slots=True)
class Existing:
    """A table as SQLite keeps it.

    Attributes:
        name: unquoted, as it was created.
        text: its ``CREATE TABLE``.
        columns: the names of those that are stored.
        has_rowid: each row has a number.
        parts: the texts of its indexes and triggers.
        indexes: the names of all indexes of the database.
    """

    name: str
    text: str
    columns: tuple[str, ...]
    parts: tuple[str, ...]
    indexes: frozenset[str]
    has_rowid: bool = True

    @property
    def rowid(self) -> list[str]:
        """What the number of a row is called, unless columns have all of its names: others may know rows by it."""
        taken = {column.casefold() for column in self.columns}
        return [n for n in ("rowid", "_rowid_", "oid") if self.has_rowid and n not in taken][:1]


def existing_sql(name: str) -> str:
    """Ask for a table as SQLite keeps it.

    Args:
        name: its name, unquoted.

    Returns:
        A query: ``found``, one JSON text with the attributes of `Existing`.
    """
    table = sql.literal(name)
    return f"""SELECT json_object('name', m.name, 'text', m.sql,
  'columns', (SELECT json_group_array(name) FROM (SELECT name FROM pragma_table_xinfo({table}) WHERE hidden = 0 ORDER BY cid)),
  'parts', (SELECT json_group_array(sql) FROM (SELECT sql FROM sqlite_master
    WHERE tbl_name = {table} COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY rowid)),
  'has_rowid', (SELECT NOT wr FROM pragma_table_list WHERE schema = 'main' AND name = {table} COLLATE NOCASE),
  'indexes', (SELECT json_group_array(name) FROM sqlite_master WHERE type = 'index')) AS found
FROM sqlite_master AS m WHERE m.name = {table} COLLATE NOCASE AND m.type = 'table'"""


def read_existing(text: str) -> Existing:
    """Read what SQLite said.

    Args:
        text: the JSON of `existing_sql`.

    Returns:
        The table.
    """
    found = json.loads(text)
    return Existing(
        found["name"],
        found["text"],
        tuple(found["columns"]),
        tuple(found["parts"]),
        frozenset(found["indexes"]),
        bool(found["has_rowid"]),
    )


def orphans_sql(name: str, columns: Sequence[str], parent: str) -> str:
    """Ask how many rows point at no row of another table.

    Args:
        name: the table, unquoted.
        columns: of one of its references, which exists by now.
        parent: the other table, unquoted.

    Returns:
        A query of one number.
    """
    table = sql.literal(name)
    same = " AND ".join(
        f"EXISTS (SELECT 1 FROM pragma_foreign_key_list({table}) AS p WHERE p.id = c.fkid AND p.seq = {at} "
        f'AND p."from" = {sql.literal(column)} COLLATE NOCASE)'
        for at, column in enumerate(columns)
    )
    other = sql.literal(parent)
    return f"SELECT count(*) AS n FROM pragma_foreign_key_check({table}) AS c WHERE c.parent = {other} COLLATE NOCASE AND {same}"


def holds(declared: Column, found: Column) -> bool:
    """Tell whether a column of the database holds every value of a declared one, in the same form.

    Args:
        declared: the column as declared.
        found: the column as it is there.

    Returns:
        Whether it does.
    """
    want, have = parse_type(codec(declared).sql_type), parse_type(codec(found).sql_type)
    expected, dtype = dtype_of(want), dtype_of(have)
    if isinstance(expected, pl.String):
        return isinstance(dtype, pl.String) and have.text
    if isinstance(expected, pl.Boolean):
        return isinstance(dtype, pl.Boolean | pl.Int64)
    if isinstance(expected, pl.Decimal):
        same_form = (have.name, have.args[1:]) == (want.name, want.args[1:])
        return same_form and have.args[0] >= want.args[0]
    if isinstance(expected, pl.Datetime):
        return have.name == want.name
    return expected == dtype


def keeps(declared: Column, found: Column) -> str:
    """Write the test for a value of a declared column that stays of its kind in a column of another affinity.

    Args:
        declared: the column as declared.
        found: the column as it is there.

    Returns:
        SQL over the staging table's column; nothing if every value is kept.

    Example:
        >>> from dataclasses import replace
        >>> from crave_bulk.table import FieldOptions
        >>> code = Column("code", pl.String(), False, True, False, FieldOptions())
        >>> keeps(code, replace(code, sql_type="NUMERIC"))
        'NOT ({0} = CAST({0} AS NUMERIC))'
    """
    if isinstance(declared.dtype, pl.Date | pl.Datetime | pl.Time):
        return ""  # no such text looks like a number
    wire, affinity = codec(declared).wire, parse_type(str(found.sql_type)).affinity
    if isinstance(wire, pl.String) and affinity in ("INTEGER", "NUMERIC", "REAL"):
        return "NOT ({0} = CAST({0} AS NUMERIC))"  # a text that looks like a number becomes one
    if isinstance(wire, pl.Int64 | pl.Float64) and affinity == "TEXT":
        return "{0} IS NULL"
    if isinstance(wire, pl.Int64) and affinity == "REAL":
        return "{0} IS NULL"
    if isinstance(wire, pl.Float64) and affinity in ("INTEGER", "NUMERIC"):
        return (
            f"abs({{0}}) <= {2**53}"  # a whole number is stored as an integer, which a real holds up to there
        )
    return ""


def alteration(existing: Existing, missing: Missing, parents: Sequence[str]) -> Alteration:
    """Write the statements that add what a table lacks, without a rebuild where SQLite can.

    Args:
        existing: the table.
        missing: what it lacks.
        parents: the quoted names of the tables that its new references point at.

    Returns:
        The statements.

    Example:
        >>> from crave_bulk.table import FieldOptions
        >>> rank = Column("rank", pl.Int32(), False, True, False, FieldOptions(default=1))
        >>> foods = Existing("foods", 'CREATE TABLE "foods" ("id" INTEGER)', ("id",), (), frozenset())
        >>> for statement in alteration(foods, Missing((rank,), (("name",),)), []).statements:
        ...     print(statement)
        ALTER TABLE "foods" ADD COLUMN "rank" INTEGER NOT NULL DEFAULT 1
        CREATE UNIQUE INDEX "foods_name_key" ON "foods" ("name")
    """
    points = [_points(r, parent) for r, parent in zip(missing.references, parents, strict=True)]
    inline = _inline(missing, points)
    indexes = [*_unique_indexes(existing, missing), *missing.indexes]
    if len(inline) < len(missing.references) or any(_needs_rebuild(c) for c in missing.columns):
        keys = [sql.quote_all(r.columns) for r in missing.references]
        clauses = [f"FOREIGN KEY ({key}){point}" for key, point in zip(keys, points, strict=True)]
        return Alteration((*_rebuild(existing, missing.columns, clauses), *indexes), rebuilds=True)
    table = sql.quote(existing.name)
    columns = [
        f"ALTER TABLE {table} ADD COLUMN {_definition(c)}{inline.get(c.name, '')}" for c in missing.columns
    ]
    fills = [
        f"UPDATE {table} SET {sql.quote(c.name)} = {_expression(c)}"
        for c in missing.columns
        if fill_of(c) is not None and not _is_constant(c)
    ]
    return Alteration((*columns, *fills, *indexes))


def _inline(missing: Missing, points: Sequence[str]) -> dict[str, str]:
    """Find the references that can be added with their column: SQLite asks that it is NULL in every row."""
    empty = {c.name for c in missing.columns if c.nullable and fill_of(c) is None}
    return {
        r.columns[0]: point
        for r, point in zip(missing.references, points, strict=True)
        if len(r.columns) == 1 and r.columns[0] in empty
    }


def _points(reference: Reference, parent: str) -> str:
    return f" REFERENCES {parent} ({sql.quote_all(reference.targets)})"


def _unique_indexes(existing: Existing, missing: Missing) -> list[str]:
    taken = {name.casefold() for name in existing.indexes}
    statements = []
    for key in missing.unique:
        name = base = f"{existing.name}_{'_'.join(key)}_key"
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}{number}"
        taken.add(name.casefold())
        columns = sql.quote_all(key)
        statements.append(f"CREATE UNIQUE INDEX {sql.quote(name)} ON {sql.quote(existing.name)} ({columns})")
    return statements


# -- columns -------------------------------------------------------------------------------------------


def _is_constant(column: Column) -> bool:
    fill = fill_of(column)
    return not (fill == "uuid" or (fill == "now" and isinstance(column.dtype, pl.Date | pl.Datetime)))


def _needs_rebuild(column: Column) -> bool:
    """Tell whether ADD COLUMN would refuse: NOT NULL asks for a DEFAULT there, which must be constant."""
    return not column.nullable and (fill_of(column) is None or not _is_constant(column))


def _definition(column: Column) -> str:
    default = (
        f" DEFAULT {_expression(column)}" if fill_of(column) is not None and _is_constant(column) else ""
    )
    return (
        f"{sql.quote(column.name)} {codec(column).sql_type}{'' if column.nullable else ' NOT NULL'}{default}"
    )


def _expression(column: Column) -> str:
    """Write what the rows that exist get."""
    fill = fill_of(column)
    if _is_constant(column):
        return "NULL" if fill is None else constant(on_wire(column, codec(column)))
    if fill == "uuid":
        return _UUID
    if isinstance(column.dtype, pl.Date):
        return "date('now')"
    zone = "+00:00" if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone else ""
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now') || '000{zone}'"


def constant(value: Any) -> str:
    """Write a constant.

    Args:
        value: as it travels to SQLite: text, bytes, or a number.

    Returns:
        SQL.

    Example:
        >>> constant("it's"), constant(b"a"), constant(-1.5), constant(float("inf"))
        ("'it''s'", "x'61'", '-1.5', '9e999')
    """
    if isinstance(value, str):
        return sql.literal(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return repr(value).replace("inf", "9e999")


# -- rebuilding ----------------------------------------------------------------------------------------


def _rebuild(existing: Existing, columns: Sequence[Column], clauses: Sequence[str]) -> list[str]:
    old, new = sql.quote(existing.name), sql.quote(_NEW)
    names = [*existing.rowid, *existing.columns, *(column.name for column in columns)]
    values = [
        *map(sql.quote, [*existing.rowid, *existing.columns]),
        *(_expression(column) for column in columns),
    ]
    copied = (
        []
        if not names
        else [f"INSERT INTO {new} ({sql.quote_all(names)}) SELECT {', '.join(values)} FROM {old}"]
    )
    return [
        # Views and triggers that name the table are left as they are while it is gone.
        "PRAGMA legacy_alter_table = ON",
        amended(existing.text, _NEW, [_definition(column) for column in columns], clauses),
        *copied,
        *_counter(existing),
        f"DROP TABLE {old}",
        f"ALTER TABLE {new} RENAME TO {old}",
        "PRAGMA legacy_alter_table = OFF",
        *existing.parts,
    ]


def _counter(existing: Existing) -> list[str]:
    """Keep the counter of AUTOINCREMENT, which may be above every row that is left."""
    if not any(part.group().upper() == "AUTOINCREMENT" for part in _PART.finditer(existing.text)):
        return []
    old, new = sql.literal(existing.name), sql.literal(_NEW)
    return [
        f"DELETE FROM sqlite_sequence WHERE name = {new}",
        f"INSERT INTO sqlite_sequence (name, seq) SELECT {new}, seq FROM sqlite_sequence WHERE name = {old}",
    ]


def amended(text: str, name: str, columns: Sequence[str], clauses: Sequence[str]) -> str:
    r"""Write a ``CREATE TABLE`` again, with another name, more columns and more constraints.

    Args:
        text: the statement as SQLite keeps it.
        name: the new name, unquoted.
        columns: definitions, which go after the last column.
        clauses: constraints, which go to the end.

    Returns:
        The statement; everything else in it is as it was, comments too.

    Example:
        >>> print(amended("CREATE TABLE t(a INT, -- the (key)\n  UNIQUE (a) -- end\n) STRICT", "u", ["b INT"], ["CHECK (b)"]))
        CREATE TABLE "u"(a INT, b INT, -- the (key)
          UNIQUE (a), CHECK (b) -- end
        ) STRICT
    """
    parts = [part for part in _PART.finditer(text) if part.group(1) is None]
    words = [part.group().upper() for part in parts]
    table = parts[words.index("TABLE") + 1]
    last_column, last = _ends(words)
    inserts = {parts[last].end(): "".join(f", {clause}" for clause in clauses)}
    at = parts[last_column].end()
    inserts[at] = "".join(f", {column}" for column in columns) + inserts.get(at, "")
    for place in sorted(inserts, reverse=True):
        text = text[:place] + inserts[place] + text[place:]
    return text[: table.start()] + sql.quote(name) + text[table.end() :]


def _ends(words: Sequence[str]) -> tuple[int, int]:
    """Find the last word of the last column, and the last word before the closing bracket."""
    depth, starts = 0, False
    last_column = None
    for at, word in enumerate(words):
        if starts and depth == 1 and word in _CONSTRAINTS and last_column is None:
            last_column = at - 2  # before the comma
        starts = depth <= 1 and word in "(,"
        depth += (word == "(") - (word == ")")
        if word == ")" and depth == 0:
            return (at - 1 if last_column is None else last_column), at - 1
    raise ValueError("the text has no list of columns")
