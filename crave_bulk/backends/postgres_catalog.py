"""Read PostgreSQL's catalog: everything about one table in one query, as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from crave_bulk import sql
from crave_bulk.backends.catalog import ColumnFacts, KeyFacts, Overview, TableFacts, plain_column
from crave_bulk.backends.postgres_types import SqlType, dtype_of, parse_type, same_as_wire
from crave_bulk.table import Reference, TableName

NOT_TABLES = {
    "v": "is a view: write to the tables behind it",
    "m": "is a materialized view: write to the tables behind it, and refresh it",
    "f": "is a foreign table, which has no key: write to it on its own server",
}

_NEXTVAL = re.compile(r"nextval\(('(?:[^']|'')*')::regclass\)")
_RULES = "has rules, which PostgreSQL takes neither with MERGE nor with RETURNING: write them as triggers (CREATE TRIGGER)"

# NOT NULL is judged after the triggers that run before a row is inserted; a domain's own NOT NULL before them.
_BEFORE_INSERT_ROW = 7  # bits of pg_trigger.tgtype
_FILLING = f"""EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE NOT g.tgisinternal AND g.tgenabled [=] ANY ('{{O,A}}')
    AND (g.tgtype [&] {_BEFORE_INSERT_ROW}) [=] {_BEFORE_INSERT_ROW}
    AND (g.tgrelid [=] c.oid OR g.tgrelid [=] ANY (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))))"""

# A column of a domain is of what the domain is made of; the last step of the chain tells.
_COLUMNS = sql.pinned(f"""
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
  'name', a.attname, 'schema', tn.nspname, 'type', et.typname, 'text', pg_catalog.format_type(et.oid, et.typmod),
  'array', item.oid IS NOT NULL, 'plain', item.oid IS NULL OR item.oid [=] et.oid, 'filled', a.attnotnull OR bt.filled, 'identity', a.attidentity, 'generated', a.attgenerated [<>] '',
  'insert_only', a.attidentity [<>] '' AND NOT pg_catalog.has_sequence_privilege(
    pg_catalog.pg_get_serial_sequence(coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)::regclass::text, a.attname), 'USAGE, UPDATE'),
  'made_later', a.attnotnull AND NOT bt.filled AND {_FILLING},
  'labels', (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum AS e WHERE e.enumtypid [=] et.oid),
  'default', CASE WHEN a.attgenerated [<>] '' THEN NULL
    WHEN a.attidentity [<>] '' THEN pg_catalog.format('pg_catalog.nextval(%L::pg_catalog.regclass)', pg_catalog.pg_get_serial_sequence(coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)::regclass::text, a.attname))
    ELSE coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), bt.preset) END
) ORDER BY a.attnum), '[]')
FROM pg_catalog.pg_attribute AS a
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid [=] a.attrelid AND d.adnum [=] a.attnum
CROSS JOIN LATERAL (
  WITH RECURSIVE chain AS (
    SELECT t.oid, a.atttypmod AS typmod, t.typtype, t.typbasetype, t.typtypmod, t.typnotnull AS filled,
      pg_catalog.pg_get_expr(t.typdefaultbin, 0) AS preset, 0 AS step FROM pg_catalog.pg_type AS t WHERE t.oid [=] a.atttypid
    UNION ALL
    SELECT t.oid, b.typtypmod, t.typtype, t.typbasetype, t.typtypmod, b.filled OR t.typnotnull,
      coalesce(b.preset, pg_catalog.pg_get_expr(t.typdefaultbin, 0)), b.step [+] 1
    FROM chain AS b JOIN pg_catalog.pg_type AS t ON t.oid [=] b.typbasetype WHERE b.typtype [=] 'd'
  ) SELECT oid, typmod, filled, preset FROM chain ORDER BY step DESC LIMIT 1
) AS bt
LEFT JOIN pg_catalog.pg_type AS item ON item.typarray [=] bt.oid
CROSS JOIN LATERAL (
  WITH RECURSIVE chain AS (
    SELECT t.oid, bt.typmod, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod
    FROM pg_catalog.pg_type AS t WHERE t.oid [=] coalesce(item.oid, bt.oid)
    UNION ALL
    SELECT t.oid, b.typtypmod, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod
    FROM chain AS b JOIN pg_catalog.pg_type AS t ON t.oid [=] b.typbasetype WHERE b.typtype [=] 'd'
  ) SELECT oid, typmod, typname, typnamespace FROM chain WHERE typtype [<>] 'd'
) AS et
JOIN pg_catalog.pg_namespace AS tn ON tn.oid [=] et.typnamespace
WHERE a.attrelid [=] c.oid AND a.attnum [>] 0 AND NOT a.attisdropped
""")

# PostgreSQL compares a key by its operator class and collation: only where these are the plain ones are
# two values equal exactly when they look so.
_KEYS = sql.pinned("""
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
  'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] c.oid AND a.attnum [=] k.num WHERE k.n [<=] x.indnkeyatts),
  'primary', x.indisprimary,
  'plain', x.indimmediate AND NOT x.indisexclusion AND NOT x.indnullsnotdistinct AND am.amname [=] 'btree'
    AND NOT EXISTS (SELECT FROM pg_catalog.unnest(x.indclass::oid[]) AS u (oid) JOIN pg_catalog.pg_opclass AS o ON o.oid [=] u.oid
      WHERE NOT o.opcdefault)
    AND NOT EXISTS (SELECT FROM pg_catalog.unnest(x.indcollation::oid[]) AS u (oid) JOIN pg_catalog.pg_collation AS l ON l.oid [=] u.oid
      WHERE NOT l.collisdeterministic)
) ORDER BY x.indisprimary DESC, x.indexrelid::bigint), '[]')
FROM pg_catalog.pg_index AS x
JOIN pg_catalog.pg_class AS i ON i.oid [=] x.indexrelid
JOIN pg_catalog.pg_am AS am ON am.oid [=] i.relam
WHERE x.indrelid [=] c.oid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
""")

# A column that is an expression ends what an index begins with.
_INDEXES = sql.pinned("""
SELECT coalesce(pg_catalog.json_agg((SELECT pg_catalog.json_agg(a.attname ORDER BY k.n)
  FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS k (num, n)
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] c.oid AND a.attnum [=] k.num
  WHERE k.n [<=] x.indnkeyatts AND k.n [<] coalesce((SELECT pg_catalog.min(e.n)
    FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS e (num, n) WHERE e.num [=] 0), 1000))), '[]')
FROM pg_catalog.pg_index AS x
JOIN pg_catalog.pg_class AS i ON i.oid [=] x.indexrelid
JOIN pg_catalog.pg_am AS am ON am.oid [=] i.relam
WHERE x.indrelid [=] c.oid AND x.indisvalid AND x.indpred IS NULL AND am.amname [=] 'btree'
""")

# A reference to a partitioned table has one more entry for each partition. Later versions have
# references that are not enforced or that hold for a period, hence to_jsonb.
_REFERENCES = sql.pinned("""
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
  'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] f.conrelid AND a.attnum [=] k.num),
  'targets', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] f.confrelid AND a.attnum [=] k.num),
  'schema', pn.nspname, 'table', p.relname, 'visible', pg_catalog.pg_table_is_visible(p.oid), 'self', p.oid [=] c.oid,
  'deferred', f.condeferred
) ORDER BY f.oid), '[]')
FROM pg_catalog.pg_constraint AS f
JOIN pg_catalog.pg_class AS p ON p.oid [=] f.confrelid
JOIN pg_catalog.pg_namespace AS pn ON pn.oid [=] p.relnamespace
WHERE f.conrelid [=] c.oid AND f.contype [=] 'f'
  AND coalesce(pg_catalog.to_jsonb(f) [->>] 'conenforced', 'true') [=] 'true' AND coalesce(pg_catalog.to_jsonb(f) [->>] 'conperiod', 'false') [=] 'false'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS whole WHERE whole.oid [=] f.conparentid AND whole.conrelid [=] f.conrelid)
""")


_TABLE = "c.relkind [=] ANY ('{{r,p,v,m,f}}')"
_FOUND = sql.pinned(f"c.oid [=] pg_catalog.to_regclass({{}}) AND {_TABLE}")


def facts_sql(table: str) -> str:
    """Ask for everything about a table.

    Args:
        table: its quoted name; without a schema, the search path finds it.

    Returns:
        A query: ``facts``, one JSON text; no row where there is no such table.
    """
    return (
        f"SELECT pg_catalog.json_build_object('kind', c.relkind, 'rules', c.relhasrules, 'columns', ({_COLUMNS}), 'keys', ({_KEYS}), "
        f"'indexes', ({_INDEXES}), 'references', ({_REFERENCES}))::text AS facts\n"
        f"FROM pg_catalog.pg_class AS c WHERE {_FOUND.format(sql.literal(table))}"
    )


def overview_sql(table: str) -> str:
    """Ask which columns a table has.

    Args:
        table: its quoted name.

    Returns:
        A query: ``facts``, one JSON text; no row where there is no such table.
    """
    return _OVERVIEW.format(sql.literal(table))


_OVERVIEW = sql.pinned("""SELECT pg_catalog.json_build_object('schema', n.nspname, 'policies', c.relrowsecurity, 'columns', (
  SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname,
    'text', pg_catalog.format_type(a.atttypid, a.atttypmod),
    'plain', t.typtype [=] 'b' AND t.typnamespace [=] 'pg_catalog'::regnamespace, 'filled', a.attnotnull,
    'generated', a.attgenerated [<>] '', 'identity_always', a.attidentity [=] 'a') ORDER BY a.attnum), '[]')
  FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid [=] a.atttypid
  WHERE a.attrelid [=] c.oid AND a.attnum [>] 0 AND NOT a.attisdropped), 'children', (
  SELECT coalesce(pg_catalog.json_agg(i.inhrelid::regclass::text), '[]') FROM pg_catalog.pg_inherits AS i
  WHERE i.inhparent [=] c.oid AND c.relkind [=] 'r'))::text AS facts
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid [=] c.relnamespace
WHERE c.oid [=] pg_catalog.to_regclass({})""")


def read_overview(text: str) -> Overview:
    """Read what the catalog said.

    Args:
        text: the JSON of `overview_sql`.

    Returns:
        The overview.
    """
    found = json.loads(text)
    columns = (
        plain_column(c["name"], c["text"], dtype_of(parse_type(c["text"]), None), c) for c in found["columns"]
    )
    own = not all(column["plain"] for column in found["columns"])
    return Overview(found["schema"], tuple(columns), own, tuple(found["children"]), found["policies"])


TABLES_SQL = sql.pinned(f"""
SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN c.relname::text ELSE n.nspname::text [||] '.' [||] c.relname::text END AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid [=] c.relnamespace
WHERE {_TABLE.format()} AND n.nspname [!~] '^pg_' AND n.nspname [<>] 'information_schema'
ORDER BY name
""")


def read_facts(name: TableName, text: str) -> TableFacts:
    """Read what the catalog said.

    Args:
        name: the table as the caller wrote it.
        text: the JSON of `facts_sql`.

    Returns:
        The facts.
    """
    found = json.loads(text)
    why = NOT_TABLES.get(found["kind"]) or (_RULES if found["rules"] else None)
    return TableFacts(
        name=name,
        columns=tuple(_column(column) for column in found["columns"]),
        keys=tuple(KeyFacts(tuple(k["columns"]), k["primary"], k["plain"]) for k in found["keys"]),
        references=tuple(_reference(name, reference) for reference in found["references"]),
        not_a_table=f"{name} {why}" if why else None,
        indexes=tuple(tuple(index) for index in found["indexes"] if index),
    )


def _column(found: dict[str, Any]) -> ColumnFacts:
    sql_type = _sql_type(found)
    kind = parse_type(sql_type)
    dtype = dtype_of(kind, found["labels"])
    default = found["default"]
    return ColumnFacts(
        name=found["name"],
        sql_type=sql_type,
        dtype=dtype,
        nullable=not found["filled"],
        default_sql=None
        if default in (None, "NULL") or default.startswith("NULL::")
        else _expression(default),
        generated=found["generated"],
        identity_always=found["identity"] == "a",
        insert_only=bool(found["insert_only"]),
        filled_by_trigger=found["made_later"] and default is None and not found["generated"],
        uuid=kind.base == "uuid",
        json=kind.base in ("json", "jsonb") and not kind.array,
        longest=_longest(kind),
        distinct=found["plain"] and same_as_wire(kind, dtype),
    )


def _sql_type(found: dict[str, Any]) -> str:
    """Write the type: a user's own always with its schema, whatever the search path says."""
    own = found["schema"] != "pg_catalog"
    name = f"{sql.quote(found['schema'])}.{sql.quote(found['type'])}" if own else found["text"]
    return f"{name}[]" if found["array"] else str(name)


def _expression(default: str) -> str:
    """Write a default so that it is found again, the commonest one also when somebody has made a function like it."""
    if sequence := _NEXTVAL.fullmatch(default):
        return f"pg_catalog.nextval({sequence[1]}::pg_catalog.regclass)"
    return default if default.startswith("pg_catalog.nextval(") else f"({default})"


def _longest(kind: SqlType) -> int | None:
    if kind.array or kind.base not in ("character varying", "character") or not kind.args:
        return None
    return kind.args[0]


def _reference(name: TableName, found: dict[str, Any]) -> Reference:
    """Name the other table as the caller named this one: with its schema where that is written or needed."""
    qualified = name.schema is not None or not found["visible"]
    other = TableName(found["table"], found["schema"] if qualified else None)
    return Reference(
        columns=tuple(found["columns"]),
        table=name if found["self"] else other,
        targets=tuple(found["targets"]),
        deferred=found["deferred"],
    )
