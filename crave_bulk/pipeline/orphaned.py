"""Orphaned rows: those that are deleted and point at nothing, so that the database would refuse to have them back."""

from __future__ import annotations

import json
from contextlib import suppress

import polars as pl

from crave_bulk.errors import PermissionRefused
from crave_bulk.pipeline.whole import Whole
from crave_bulk.session import Session
from crave_bulk.sql import quote

_STAGE = "crave_bulk_orphaned"


def orphaned_note(session: Session, wire: Whole, rows: pl.DataFrame) -> str | None:
    """Say how many rows could not be put back, as they point at no row: their reference was never checked.

    Args:
        session: the connection, in a transaction.
        wire: the table.
        rows: the short columns of the rows that are about to be deleted.

    Returns:
        A note for the report, or None.

    Raises:
        BulkError: the database refused.
    """
    backend, contract = session.backend, wire.contract
    references = [r for r in contract.references if r.table != contract.name] if rows.height else []
    if references and (query := backend.unchecked_sql(contract.name)):
        unchecked = json.loads(session.fetch(query).item())
        references = [r for r in references if list(r.columns) in unchecked]
    if not references:
        return None
    spelling, key = backend.spelling, wire.shorts(contract.key)
    session.ingest(_STAGE, rows.select(key))
    tests = []
    for reference in references:
        pairs = list(zip(reference.columns, reference.targets, strict=True))
        same = " AND ".join(
            spelling.equal(f"p.{quote(target)}", f"t.{quote(name)}") for name, target in pairs
        )
        filled = " AND ".join(f"t.{quote(name)} IS NOT NULL" for name in reference.columns)
        parent = backend.table(reference.table)
        tests.append(f"({filled} AND NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE {same}))")
    query = (
        f"SELECT {spelling.fn('count(*)')} AS n FROM {wire.target} AS t JOIN ({wire.staged(contract.key, _STAGE)}) AS s "
        f"ON {wire.equal(contract.key, 't', 's')} WHERE {' OR '.join(tests)}"
    )
    found = 0
    with suppress(PermissionRefused), session.shielded():  # a parent may be hidden from the login
        found = session.fetch(query).item()
    session.execute(f"DROP TABLE {spelling.temp(_STAGE)}")
    if not found:
        return None
    return (
        f"Rows that point at no row of {' or '.join(str(r.table) for r in references)}, and so can be put back by no undo: "
        f"{int(found):,}."
    )
