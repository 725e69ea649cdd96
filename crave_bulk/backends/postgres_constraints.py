"""Ask PostgreSQL's catalog what a constraint is about, and who refers to a table."""

from __future__ import annotations

from crave_bulk import sql

_NAMES = """(SELECT json_agg(a.attname ORDER BY k.n) FROM unnest({keys}) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = {table} AND a.attnum = k.num)"""


def constraints_sql(table: str) -> str:
    """Ask which columns each constraint and each unique index of a table is about.

    Args:
        table: its quoted name.

    Returns:
        A query: ``found``, a JSON object: name → ``columns``, and ``whole``, false where it holds for
        some rows only, or for expressions.
    """
    oid = f"{sql.literal(table)}::regclass"
    constraint = _NAMES.format(keys="f.conkey", table="f.conrelid")
    index = _NAMES.format(keys="x.indkey::int2[]", table="x.indrelid")
    return f"""SELECT coalesce(json_object_agg(name, json_build_object('columns', coalesce(columns, '[]'), 'whole', whole)), '{{}}')::text AS found FROM (
  SELECT f.conname AS name, {constraint} AS columns, true AS whole
  FROM pg_catalog.pg_constraint AS f WHERE f.conrelid = {oid} AND f.contype <> 'x'
  UNION ALL
  SELECT i.relname, {index}, x.indpred IS NULL AND x.indexprs IS NULL
  FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
  WHERE x.indrelid = {oid} AND x.indisunique
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS f WHERE f.conindid = x.indexrelid AND f.conrelid = x.indrelid)
) AS constraints"""


def dependents_sql(table: str) -> str:
    """Ask which references point at a table and forbid that their parents are deleted.

    Args:
        table: its quoted name.

    Returns:
        A query: ``found``, a JSON list of ``schema``, ``table``, ``columns`` and ``targets``.
    """
    return _references_sql(table, "f.conrelid <> f.confrelid AND f.confdeltype IN ('a', 'r')")


def cascades_sql(table: str) -> str:
    """Ask which references point at a table and change or delete their rows when their parents are deleted.

    Args:
        table: its quoted name.

    Returns:
        A query: ``found``, a JSON list as of `dependents_sql`, with ``deletes``, ``own`` where the table itself
        points, and ``known_as``, a name that is the table's alone.
    """
    return _references_sql(table, "f.confdeltype IN ('c', 'n', 'd')")


def _references_sql(table: str, which: str) -> str:
    oid = f"{sql.literal(table)}::regclass"
    columns = _NAMES.format(keys="f.conkey", table="f.conrelid")
    targets = _NAMES.format(keys="f.confkey", table="f.confrelid")
    return f"""SELECT coalesce(json_agg(json_build_object('schema', CASE WHEN pg_catalog.pg_table_is_visible(c.oid)
  THEN NULL ELSE n.nspname END, 'table', c.relname, 'columns', {columns},
  'targets', {targets}, 'deletes', f.confdeltype = 'c', 'own', f.conrelid = f.confrelid,
  'known_as', c.oid::text) ORDER BY f.oid), '[]')::text AS found
FROM pg_catalog.pg_constraint AS f JOIN pg_catalog.pg_class AS c ON c.oid = f.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE f.confrelid = {oid} AND f.contype = 'f' AND f.conparentid = 0 AND {which}"""
