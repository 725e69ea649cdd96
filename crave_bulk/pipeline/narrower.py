"""Narrower: declared columns over a table whose own columns would change a value and say nothing."""

from __future__ import annotations

from dataclasses import replace

from crave_bulk.errors import DatabaseError
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session

_NO_SUCH_CAST = "42"  # the class of SQLSTATEs


def narrowed(session: Session, wire: Wire) -> Wire:
    """Test the values of declared columns, if those of the database are of other types that cut them off or round.

    Args:
        session: a connection.
        wire: the table.

    Returns:
        A wire whose codecs say which values their columns keep; the same if all do.

    Raises:
        BulkError: the database refused.
    """
    backend = session.backend
    declared = {c.name: c for c in wire.contract.columns if c.sql_type is None}
    if not declared:
        return wire
    found = backend.overview(session, wire.contract.name)
    columns = backend.reflect(session, wire.contract.name).columns if found.own_types else found.columns
    tests = {
        c.name: replace(wire.codecs[c.name], kept=test, sql_type=c.sql_type or "", casts=True)
        for c in columns
        if c.name in declared and (test := backend.keeps(declared[c.name], c)) and _can_cast(session, test)
    }
    return Wire(wire.contract, backend, {**wire.codecs, **tests}) if tests else wire


def _can_cast(session: Session, test: str) -> bool:
    """Tell whether there is a cast between the types at all; if not, the database refuses the write itself."""
    try:
        with session.shielded():
            session.fetch(f"SELECT {test.format('NULL')} AS kept")
    except DatabaseError as error:
        if not error.sqlstate.startswith(_NO_SUCH_CAST):
            raise
        return False
    return True
