"""Facts: what a batch has to know of its table beyond the contract, in one query of the catalog."""

from __future__ import annotations

import json
from dataclasses import dataclass

from crave_bulk.errors import ContractError
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalog says of a table.

    Attributes:
        some: it has rows.
        watched: triggers or rules may skip rows without an error.
        triggered: there are triggers at all, which may write under another key.
        exact: a row will stand there just as it is written: there are no triggers, and every column has the declared type.
        deferred: constraints are checked at the commit.
        inherited: other tables than its partitions inherit from it.
        followed: references to it may change with what they point at.
        blind: the columns of references to tables of which the login may not see every row, as the database can.
        strict: what makes a broken constraint an error, behind INSERT or UPDATE.
    """

    some: bool
    watched: bool
    triggered: bool
    exact: bool
    deferred: bool
    inherited: bool
    followed: bool
    strict: str
    blind: frozenset[frozenset[str]]


def facts_of(session: Session, wire: Wire, *, known: bool = False) -> Facts:
    """Ask for the facts of a table.

    Args:
        session: the connection, in a transaction.
        wire: the table.

        known: take what was found before, where it was.

    Returns:
        The facts.

    Raises:
        ContractError: it is no table, but a view or the like, or its key is no plain one.
        BulkError: the database refused.
    """
    backend = session.backend
    if known and wire.target in backend.seen:
        return backend.seen[wire.target]
    query = f"SELECT EXISTS (SELECT 1 FROM {wire.target}) AS some, {backend.facts(wire.contract)}"
    found = session.fetch(query).row(0, named=True)
    why = backend.not_tables.get(str(found["kind"]))
    if why:
        raise ContractError(f"{wire.contract.name} {why}; nothing was written")
    if found["folds"]:
        raise ContractError(
            f"the key ({', '.join(wire.contract.key)}) of table {wire.contract.name} has a collation by which different texts "
            "are equal, such as NOCASE, so a row cannot be found by it for certain: declare a key of another unique column; "
            "nothing was written"
        )
    backend.seen[wire.target] = facts = Facts(
        some=bool(found["some"]),
        watched=bool(found["watched"]),
        triggered=bool(found["triggered"]),
        exact=bool(found["exact"]),
        deferred=bool(found["deferred"]),
        inherited=bool(found["inherited"]),
        followed=bool(found["followed"]),
        strict=backend.strict if found["lenient"] else "",
        blind=frozenset(map(frozenset, json.loads(found["blind"] or "[]"))),
    )
    return facts
