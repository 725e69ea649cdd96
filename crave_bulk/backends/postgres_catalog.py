"""Read PostgreSQL's catalog: everything about one table in one query, as JSON."""

from __future__ import annotations

import json
from typing import Any

from crave_bulk import sql
from crave_bulk.backends.catalog import ColumnFacts, KeyFacts, TableFacts
from crave_bulk.backends.postgres_types import SqlType, dtype_of, parse_type, same_as_wire
from crave_bulk.table import Reference, TableName

_KINDS = {
    "v": "is a view: write to the tables behind it",
    "m": "is a materialized view: write to the tables behind it, and refresh it",
    "f": "is a foreign table, which has no key: write to it on its own server",
}

_RULES = "has rules, which PostgreSQL takes neither with MERGE nor with RETURNING: write them as triggers (CREATE TRIGGER)"

# A column of a domain is of what the domain is made of; the last step of the chain tells.
_COLUMNS = """
SELECT coalesce(json_agg(json_build_object(
  'name', a.attname, 'schema', tn.nspname, 'type', et.typname, 'text', format_type(et.oid, et.typmod),
  'array', item.oid IS NOT NULL, 'plain', item.oid IS NULL OR item.oid = et.oid, 'filled', a.attnotnull OR bt.filled, 'identity', a.attidentity, 'generated', a.attgenerated <> '',
  'labels', (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = et.oid),
  'default', CASE WHEN a.attgenerated <> '' THEN NULL
    WHEN a.attidentity <> '' THEN format('nextval(%L::regclass)', pg_get_serial_sequence(c.oid::regclass::text, a.attname))
    ELSE coalesce(pg_get_expr(d.adbin, d.adrelid), bt.preset) END
) ORDER BY a.attnum), '[]')
FROM pg_catalog.pg_attribute AS a
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
CROSS JOIN LATERAL (
  WITH RECURSIVE chain AS (
    SELECT t.oid, a.atttypmod AS typmod, t.typtype, t.typbasetype, t.typtypmod, t.typnotnull AS filled,
      pg_get_expr(t.typdefaultbin, 0) AS preset, 0 AS step FROM pg_catalog.pg_type AS t WHERE t.oid = a.atttypid
    UNION ALL
    SELECT t.oid, b.typtypmod, t.typtype, t.typbasetype, t.typtypmod, b.filled OR t.typnotnull,
      coalesce(b.preset, pg_get_expr(t.typdefaultbin, 0)), b.step + 1
    FROM chain AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
  ) SELECT oid, typmod, filled, preset FROM chain ORDER BY step DESC LIMIT 1
) AS bt
LEFT JOIN pg_catalog.pg_type AS item ON item.typarray = bt.oid
CROSS JOIN LATERAL (
  WITH RECURSIVE chain AS (
    SELECT t.oid, bt.typmod, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod
    FROM pg_catalog.pg_type AS t WHERE t.oid = coalesce(item.oid, bt.oid)
    UNION ALL
    SELECT t.oid, b.typtypmod, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod
    FROM chain AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
  ) SELECT oid, typmod, typname, typnamespace FROM chain WHERE typtype <> 'd'
) AS et
JOIN pg_catalog.pg_namespace AS tn ON tn.oid = et.typnamespace
WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
"""

# PostgreSQL compares a key by its operator class and collation: only where these are the plain ones are
# two values equal exactly when they look so.
_KEYS = """
SELECT coalesce(json_agg(json_build_object(
  'columns', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.num WHERE k.n <= x.indnkeyatts),
  'primary', x.indisprimary,
  'plain', x.indimmediate AND NOT x.indisexclusion AND NOT x.indnullsnotdistinct AND am.amname = 'btree'
    AND NOT EXISTS (SELECT FROM unnest(x.indclass::oid[]) AS u (oid) JOIN pg_catalog.pg_opclass AS o ON o.oid = u.oid
      WHERE NOT o.opcdefault)
    AND NOT EXISTS (SELECT FROM unnest(x.indcollation::oid[]) AS u (oid) JOIN pg_catalog.pg_collation AS l ON l.oid = u.oid
      WHERE NOT l.collisdeterministic)
) ORDER BY x.indisprimary DESC, x.indexrelid::bigint), '[]')
FROM pg_catalog.pg_index AS x
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_am AS am ON am.oid = i.relam
WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
"""

# A reference to a partitioned table has one more entry for each partition. Later versions have
# references that are not enforced or that hold for a period, hence to_jsonb.
_REFERENCES = """
SELECT coalesce(json_agg(json_build_object(
  'columns', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.num),
  'targets', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.confrelid AND a.attnum = k.num),
  'schema', pn.nspname, 'table', p.relname, 'visible', pg_table_is_visible(p.oid), 'self', p.oid = c.oid,
  'deferred', f.condeferred
) ORDER BY f.oid), '[]')
FROM pg_catalog.pg_constraint AS f
JOIN pg_catalog.pg_class AS p ON p.oid = f.confrelid
JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace
WHERE f.conrelid = c.oid AND f.contype = 'f'
  AND coalesce(to_jsonb(f) ->> 'conenforced', 'true') = 'true' AND coalesce(to_jsonb(f) ->> 'conperiod', 'false') = 'false'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS whole WHERE whole.oid = f.conparentid AND whole.conrelid = f.conrelid)
"""


def facts_sql(table: str) -> str:
    """Ask for everything about a table.

    Args:
        table: its quoted name; without a schema, the search path finds it.

    Returns:
        A query: ``facts``, one JSON text; no row where there is no such table.
    """
    return (
        f"SELECT json_build_object('kind', c.relkind, 'rules', c.relhasrules, 'columns', ({_COLUMNS}), 'keys', ({_KEYS}), "
        f"'references', ({_REFERENCES}))::text AS facts\n"
        f"FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass({sql.literal(table)}) "
        "AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
    )


TABLES_SQL = """
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname::text ELSE n.nspname || '.' || c.relname END AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY name
"""


def read_facts(name: TableName, text: str) -> TableFacts:
    """Read what the catalog said.

    Args:
        name: the table as the caller wrote it.
        text: the JSON of `facts_sql`.

    Returns:
        The facts.
    """
    found = json.loads(text)
    why = _KINDS.get(found["kind"]) or (_RULES if found["rules"] else None)
    return TableFacts(
        name=name,
        columns=tuple(_column(column) for column in found["columns"]),
        keys=tuple(KeyFacts(tuple(k["columns"]), k["primary"], k["plain"]) for k in found["keys"]),
        references=tuple(_reference(name, reference) for reference in found["references"]),
        not_a_table=f"{name} {why}" if why else None,
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
    return default if default.startswith("nextval(") else f"({default})"


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
