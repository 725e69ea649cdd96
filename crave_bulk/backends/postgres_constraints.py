"""Ask PostgreSQL's catalog what a constraint is about, and who refers to a table."""

from __future__ import annotations

from crave_bulk import sql

_NAMES = """(SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM pg_catalog.unnest({keys}) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] {table} AND a.attnum [=] k.num)"""
_OWN = _NAMES.format(keys="f.conkey", table="f.conrelid")
_OTHER = _NAMES.format(keys="f.confkey", table="f.confrelid")
_INDEX = _NAMES.format(keys="x.indkey::int2[]", table="x.indrelid")

# The {} of these is the table.
_CONSTRAINTS = sql.pinned(f"""SELECT coalesce(pg_catalog.json_object_agg(name, pg_catalog.json_build_object(
  'columns', coalesce(columns, '[]'), 'whole', whole)), '{{{{}}}}')::text AS found FROM (
  SELECT f.conname AS name, {_OWN} AS columns, true AS whole
  FROM pg_catalog.pg_constraint AS f WHERE f.conrelid [=] {{0}}::regclass AND f.contype [<>] 'x'
  UNION ALL
  SELECT i.relname, {_INDEX}, x.indpred IS NULL AND x.indexprs IS NULL
  FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid [=] x.indexrelid
  WHERE x.indrelid [=] {{0}}::regclass AND x.indisunique
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS f WHERE f.conindid [=] x.indexrelid AND f.conrelid [=] x.indrelid)
) AS constraints""")
# Which index finds the rows that point: its first columns are those of the reference, in any order.
_INDEXED = """EXISTS (SELECT FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid [=] x.indexrelid
  JOIN pg_catalog.pg_am AS am ON am.oid [=] i.relam
  WHERE x.indrelid [=] f.conrelid AND x.indisvalid AND am.amname [=] ANY ('{{btree,hash}}')
    AND (x.indkey::int2[])[0:pg_catalog.cardinality(f.conkey) [-] 1] [@>] f.conkey
    AND (x.indpred IS NULL OR pg_catalog.pg_get_expr(x.indpred, x.indrelid) [=] pg_catalog.format('(%I IS NOT NULL)',
      (SELECT a.attname FROM pg_catalog.pg_attribute AS a WHERE a.attrelid [=] f.conrelid AND a.attnum [=] f.conkey[1]))))"""
_POINTING = sql.pinned(f"""SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('schema',
  CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN NULL ELSE n.nspname END, 'table', c.relname, 'columns', {_OWN},
  'targets', {_OTHER}, 'forbids', f.confdeltype [=] ANY ('{{{{a,r}}}}'), 'deletes', f.confdeltype [=] 'c',
  'follows', f.confupdtype [=] ANY ('{{{{c,n,d}}}}'), 'cascades', f.confupdtype [=] 'c',
  'own', f.conrelid [=] f.confrelid, 'known_as', pg_catalog.format('%I.%I', n.nspname, c.relname), 'indexed', {_INDEXED}) ORDER BY f.oid), '[]')::text AS found
FROM pg_catalog.pg_constraint AS f JOIN pg_catalog.pg_class AS c ON c.oid [=] f.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid [=] c.relnamespace
WHERE f.confrelid [=] {{0}}::regclass AND f.contype [=] 'f' AND f.conparentid [=] 0""")


def constraints_sql(table: str) -> str:
    """Ask which columns each constraint and each unique index of a table is about.

    Args:
        table: its quoted name.

    Returns:
        A query: ``found``, a JSON object: name → ``columns``, and ``whole``, false where it holds for
        some rows only, or for expressions.
    """
    return _CONSTRAINTS.format(sql.literal(table))


_UNIQUES = sql.pinned("""SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('name', i.relname,
  'columns', coalesce((SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS k (num, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] x.indrelid AND a.attnum [=] k.num WHERE k.n [<=] x.indnkeyatts), '[]'),
  'others', coalesce((SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] d.refobjid AND a.attnum [=] d.refobjsubid
    WHERE d.classid [=] 'pg_catalog.pg_class'::regclass AND d.objid [=] x.indexrelid AND d.refobjid [=] x.indrelid
      AND d.refobjsubid [>] 0), '[]'),
  'expression', x.indexprs IS NOT NULL,
  'flaws', (SELECT coalesce(pg_catalog.json_agg(f.name), '[]') FROM (VALUES
    ('deferrable', NOT x.indimmediate), ('partial', x.indpred IS NOT NULL), ('expression', x.indexprs IS NOT NULL),
    ('nulls', x.indnullsnotdistinct),
    ('collation', EXISTS (SELECT FROM pg_catalog.unnest(x.indcollation::oid[]) AS u (oid)
      JOIN pg_catalog.pg_collation AS l ON l.oid [=] u.oid WHERE NOT l.collisdeterministic)),
    ('operators', EXISTS (SELECT FROM pg_catalog.unnest(x.indclass::oid[]) AS u (oid)
      JOIN pg_catalog.pg_opclass AS o ON o.oid [=] u.oid WHERE NOT o.opcdefault))) AS f (name, there) WHERE f.there)
) ORDER BY i.relname), '[]')::text AS found
FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid [=] x.indexrelid
WHERE x.indrelid [=] {oid} AND x.indisunique""")


def uniques_sql(table: str) -> str:
    """Ask which unique keys a table has, as of `Backend.uniques_sql`."""
    return _UNIQUES.replace("{oid}", f"{sql.literal(table)}::pg_catalog.regclass")


def pointing_sql(table: str) -> str:
    """Ask which references point at a table.

    Args:
        table: its quoted name.

    Returns:
        A query: ``found``, as of `Backend.pointing_sql`.
    """
    return _POINTING.format(sql.literal(table))
