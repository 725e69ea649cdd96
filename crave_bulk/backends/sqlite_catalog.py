"""Read SQLite's catalog: everything about one table in one query, as JSON.

One JSON text has one type, where the driver would infer the types of many columns from their first rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from crave_bulk import sql
from crave_bulk.backends.catalog import ColumnFacts, KeyFacts, Overview, TableFacts, plain_column
from crave_bulk.backends.sqlite_types import dtype_of, parse_type, same_as_wire, untyped
from crave_bulk.table import Reference, TableName

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\w+|\S""", re.DOTALL
)
# In DEFAULT, any other bare word is a string.
_WORDS = ("NULL", "TRUE", "FALSE", "CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME")

TABLES_SQL = (
    "SELECT name FROM pragma_table_list WHERE type IN ('table', 'view', 'virtual') "
    "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
)


def facts_sql(name: str) -> str:
    """Ask for everything about a table.

    Args:
        name: its name, unquoted.

    Returns:
        A query: ``facts``, one JSON text.
    """
    table = sql.literal(name)
    return f"""SELECT json_object(
  'table', json((SELECT json_object('name', name, 'type', type, 'rowid', NOT wr, 'strict', strict) FROM pragma_table_list
    WHERE name = {table} COLLATE NOCASE AND type <> 'shadow' ORDER BY schema <> 'temp', schema <> 'main' LIMIT 1)),
  'sql', (SELECT sql FROM (SELECT sql, name, type FROM sqlite_temp_master UNION ALL SELECT sql, name, type FROM sqlite_master)
    WHERE name = {table} COLLATE NOCASE AND type = 'table' LIMIT 1),
  'columns', (SELECT json_group_array(json_object('number', cid, 'name', name, 'type', type, 'filled', "notnull",
    'default', dflt_value, 'key', pk, 'hidden', hidden)) FROM pragma_table_xinfo({table})),
  'keys', (SELECT json_group_array(json_object('name', l.name, 'origin', l.origin, 'place', x.seqno,
    'column', CASE WHEN x.cid >= 0 THEN x.name END, 'plain', x.coll = 'BINARY'))
    FROM pragma_index_list({table}) AS l JOIN pragma_index_xinfo(l.name) AS x
    WHERE l."unique" AND NOT l.partial AND x.key),
  'indexes', (SELECT json_group_array(json_object('name', l.name, 'place', x.seqno, 'column', x.name))
    FROM pragma_index_list({table}) AS l JOIN pragma_index_info(l.name) AS x WHERE NOT l.partial),
  'references', (SELECT json_group_array(json_object('id', f.id, 'place', f.seq, 'table', f."table", 'from', f."from",
    'to', coalesce(f."to", (SELECT p.name FROM pragma_table_info(f."table") AS p WHERE p.pk = f.seq + 1))))
    FROM pragma_foreign_key_list({table}) AS f)) AS facts"""


def uniques_sql(table: str) -> str:
    """Ask which unique keys a table, whose name is given as a string of SQL, has, as of `Backend.uniques_sql`."""
    return f"""SELECT coalesce(json_group_array(json_object('name', u.name, 'columns', json(u.columns), 'others', json(u.others),
  'expression', json(iif(u.expression, 'true', 'false')), 'flaws', (SELECT json_group_array(f.name) FROM (
    SELECT 'partial' AS name WHERE u.partial UNION ALL SELECT 'expression' WHERE u.expression
    UNION ALL SELECT 'collation' WHERE u.collation) AS f))), '[]') AS found
FROM (SELECT l.name, l.partial, max(x.cid < 0) AS expression, max(x.cid >= 0 AND x.coll <> 'BINARY') AS collation,
    json_group_array(x.name) FILTER (WHERE x.cid >= 0) AS columns,
    (SELECT json_group_array(c.name) FROM pragma_table_info({table}) AS c
      JOIN sqlite_master AS m ON m.name = l.name WHERE instr(lower(m.sql), lower(c.name))) AS others
  FROM pragma_index_list({table}) AS l JOIN pragma_index_xinfo(l.name) AS x
  WHERE l."unique" AND x.key GROUP BY l.name) AS u"""


def pointing_sql(table: str) -> str:
    """Ask which references point at a table.

    Args:
        table: its name, as a string of SQL.

    Returns:
        A query: ``found``, as of `Backend.pointing_sql`.
    """
    key = f"(SELECT p.name FROM pragma_table_info({table}) AS p WHERE p.pk = f.seq + 1)"
    return f"""SELECT coalesce(json_group_array(json_object('schema', NULL, 'table', r.name, 'columns', json(r.columns),
  'targets', json(r.targets), 'forbids', json(iif(r.action IN ('NO ACTION', 'RESTRICT'), 'true', 'false')),
  'deletes', json(iif(r.action = 'CASCADE', 'true', 'false')),
  'follows', json(iif(r.moved IN ('NO ACTION', 'RESTRICT'), 'false', 'true')),
  'cascades', json(iif(r.moved = 'CASCADE', 'true', 'false')),
  'own', json(iif(r.name = {table} COLLATE NOCASE, 'true', 'false')), 'known_as', lower(r.name),
  'indexed', json(iif(EXISTS (SELECT 1 FROM pragma_index_list(r.name) AS l JOIN pragma_index_info(l.name) AS x
      WHERE NOT l.partial AND x.seqno < r.parts
        AND EXISTS (SELECT 1 FROM json_each(r.columns) AS c WHERE c.value = x.name COLLATE NOCASE)
      GROUP BY l.name HAVING count(*) = r.parts)
    OR (SELECT group_concat(p.name) = json_extract(r.columns, '$[0]') AND upper(group_concat(p.type)) = 'INTEGER'
      FROM pragma_table_info(r.name) AS p WHERE p.pk) IS TRUE, 'true', 'false')))), '[]') AS found
FROM (SELECT m.name, json_group_array(f."from") AS columns, json_group_array(coalesce(f."to", {key})) AS targets,
    f.on_delete AS action, f.on_update AS moved, count(*) AS parts
  FROM sqlite_master AS m JOIN pragma_foreign_key_list(m.name) AS f
  WHERE m.type = 'table' AND f."table" = {table} COLLATE NOCASE GROUP BY m.name, f.id) AS r"""


def overview_sql(name: str) -> str:
    """Ask which columns a table has.

    Args:
        name: its name, unquoted.

    Returns:
        A query: ``facts``, a JSON list, empty where there is no such table.
    """
    strict = f"(SELECT max(strict) FROM pragma_table_list({sql.literal(name)}))"
    kind = f"iif(upper(type) = 'ANY' AND {strict}, '', type)"  # see `_typed`
    return (
        f"SELECT json_group_array(json_object('name', name, 'type', {kind}, 'filled', json(iif(\"notnull\" OR pk, 'true', "
        "'false')), 'generated', json(iif(hidden IN (2, 3), 'true', 'false')), 'identity_always', json('false')) "
        f"ORDER BY cid) AS facts FROM pragma_table_xinfo({sql.literal(name)}) WHERE hidden <> 1"
    )


def read_overview(text: str) -> Overview:
    """Read what the catalog said.

    Args:
        text: the JSON of `overview_sql`.

    Returns:
        The overview.
    """
    columns = (
        plain_column(c["name"], c["type"], dtype_of(parse_type(c["type"])), c) for c in json.loads(text)
    )
    return Overview(None, tuple(columns))


VIEW = "is a view: write to the tables behind it"


def read_facts(name: TableName, plain: str, text: str) -> TableFacts | None:
    """Read what the catalog said.

    Args:
        name: the table as the caller wrote it.
        plain: its name in SQLite, unquoted.
        text: the JSON of `facts_sql`.

    Returns:
        The facts, or None where there is no such table.
    """
    found = json.loads(text)
    if found["table"] is None:
        return None
    tokens = words(found["sql"] or "")
    alias = _rowid_alias(found)
    columns = sorted((c for c in found["columns"] if c["hidden"] != 1), key=lambda c: c["number"])
    is_view = found["table"]["type"] == "view"
    return TableFacts(
        name=name,
        columns=tuple(
            _column(_typed(found, column), _row_number(found, tokens) if column is alias else None)
            for column in columns
        ),
        keys=tuple(_keys(found, alias)),
        references=tuple(_references(name, plain, found, tokens)),
        not_a_table=f"{name} {VIEW}" if is_view else None,
        indexes=tuple(_indexes(found)) + (((alias["name"],),) if alias else ()),
    )


def words(text: str) -> list[str]:
    """Split SQL into words, quoted names, strings and signs, without comments.

    Args:
        text: the SQL.

    Returns:
        The parts in order; what is quoted keeps its quotes.

    Example:
        >>> words("a INT /* no AUTOINCREMENT */ DEFAULT 'it''s' -- end")
        ['a', 'INT', 'DEFAULT', "'it''s'"]
    """
    return [token for token in _TOKEN.findall(text) if not token.startswith(("--", "/*"))]


def deferred_references(tokens: list[str]) -> list[bool]:
    """Tell which references are checked at the commit, which no PRAGMA does.

    Args:
        tokens: the words of a ``CREATE TABLE``.

    Returns:
        For each reference, in the order of the text, whether it is INITIALLY DEFERRED.

    Example:
        >>> deferred_references(words("a REFERENCES b, c REFERENCES d(e) DEFERRABLE INITIALLY DEFERRED"))
        [False, True]
    """
    found: list[bool] = []
    upper = [token.upper() for token in tokens]
    for at, token in enumerate(upper):
        if token == "REFERENCES":  # noqa: S105 - a word of SQL
            found.append(False)
        elif (
            upper[at : at + 3] == ["DEFERRABLE", "INITIALLY", "DEFERRED"] and upper[at - 1] != "NOT" and found
        ):
            found[-1] = True
    return found


def _rowid_alias(found: dict[str, Any]) -> dict[str, Any] | None:
    """Find the column that is another name of the rowid; any other primary key has an index."""
    key = [column for column in found["columns"] if column["key"]]
    indexed = any(part["origin"] == "pk" for part in found["keys"])
    if len(key) != 1 or indexed or not found["table"]["rowid"] or key[0]["type"].upper() != "INTEGER":
        return None
    column: dict[str, Any] = key[0]
    return column


def _row_number(found: dict[str, Any], tokens: list[str]) -> str:
    """Write what SQLite gives the next rows: above all that are there or, by AUTOINCREMENT, ever were."""
    name = found["table"]["name"]
    column = next(column["name"] for column in found["columns"] if column["key"])
    last = f"(SELECT coalesce(max({sql.quote(column)}), 0) FROM {sql.quote(name)})"
    if any(token.upper() == "AUTOINCREMENT" for token in tokens):
        ever = f"coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = {sql.literal(name)}), 0)"
        last = f"max({last}, {ever})"
    return f"{last} + i"


def _typed(found: dict[str, Any], column: dict[str, Any]) -> dict[str, Any]:
    """Take the type ANY for none where the table is STRICT; elsewhere it makes numbers of texts that look like one."""
    strict_any = found["table"]["strict"] and column["type"].upper() == "ANY"
    return {**column, "type": ""} if strict_any else column


def _column(found: dict[str, Any], row_number: str | None) -> ColumnFacts:
    kind = parse_type(found["type"])
    dtype = dtype_of(kind)
    return ColumnFacts(
        name=found["name"],
        sql_type=found["type"],
        dtype=dtype,
        nullable=not (found["filled"] or found["key"]),
        default_sql=row_number or _default(found["default"]),
        generated=found["hidden"] in (2, 3),
        untyped=untyped(kind),
        uuid=kind.name in ("UUID_TEXT", "UUID"),
        json=kind.name in ("JSON_TEXT", "JSON", "JSONB"),
        longest=kind.args[0] if "CHAR" in kind.name and kind.args else None,
        distinct=same_as_wire(kind, dtype),
    )


def _default(text: str | None) -> str | None:
    if text is None or text.upper() == "NULL":
        return None
    if re.fullmatch(r"[A-Za-z_]\w*", text) and text.upper() not in _WORDS:
        return sql.literal(text)
    if text.startswith('"') and text.endswith('"'):
        return sql.literal(text[1:-1].replace('""', '"'))
    return f"({text})"


def _keys(found: dict[str, Any], alias: dict[str, Any] | None) -> list[KeyFacts]:
    keys = [] if alias is None else [KeyFacts((alias["name"],), True, True)]
    by_index: dict[str, list[dict[str, Any]]] = {}
    for part in sorted(found["keys"], key=lambda part: (part["origin"] != "pk", part["name"], part["place"])):
        by_index.setdefault(part["name"], []).append(part)
    for parts in by_index.values():
        if all(part["column"] is not None for part in parts):
            plain = all(part["plain"] for part in parts)
            keys.append(KeyFacts(tuple(part["column"] for part in parts), parts[0]["origin"] == "pk", plain))
    return keys


def _indexes(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Give what each index begins with: a column that is an expression ends it."""
    by_index: dict[str, list[str | None]] = {}
    for part in sorted(found["indexes"], key=lambda part: (part["name"], part["place"])):
        by_index.setdefault(part["name"], []).append(part["column"])
    for columns in by_index.values():
        if begins := tuple(takewhile(lambda column: column is not None, columns)):
            yield begins  # type: ignore[misc]


def _references(name: TableName, plain: str, found: dict[str, Any], tokens: list[str]) -> list[Reference]:
    """Put references together, in the order of the text: SQLite counts them from the last."""
    deferred = deferred_references(tokens)
    references = []
    for number in sorted({part["id"] for part in found["references"]}, reverse=True):
        parts = sorted((p for p in found["references"] if p["id"] == number), key=lambda p: p["place"])
        if any(part["to"] is None for part in parts):
            continue  # to a table that is not there, or has no key: every write fails, and says why
        other = parts[0]["table"]
        references.append(
            Reference(
                columns=tuple(part["from"] for part in parts),
                table=name if other.casefold() == plain.casefold() else TableName(other),
                targets=tuple(part["to"] for part in parts),
                deferred=number < len(deferred) and deferred[-1 - number],
            )
        )
    return references
