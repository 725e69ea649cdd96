"""Connect, and the database that all verbs are called on."""

from __future__ import annotations

from collections.abc import Sequence

from crave_bulk import forks
from crave_bulk.backends.postgres import Postgres
from crave_bulk.backends.sqlite import SQLite
from crave_bulk.connections import one_of
from crave_bulk.engine import warm_up
from crave_bulk.errors import ContractError, shown
from crave_bulk.ledger import DEFAULT, Ledger
from crave_bulk.operations import RECOVERIES, Operation, Recovery, Result, run_all
from crave_bulk.report import Report
from crave_bulk.verbs.conditions import ConditionVerbs
from crave_bulk.verbs.ledger import LedgerVerbs
from crave_bulk.verbs.rows import RowVerbs
from crave_bulk.verbs.schema import SchemaVerbs

_BACKENDS: dict[str, type[SQLite | Postgres]] = {
    "sqlite": SQLite,
    "postgresql": Postgres,
    "postgres": Postgres,
}


def connect(url: str = "sqlite://", *, ledger: str | bool = True, keep_undo: int = 20) -> Database:
    """Connect to a database.

    Args:
        url: ``sqlite://`` (in memory), ``sqlite:///file.db``, ``sqlite:////absolute/file.db``, with
            ``?mode=ro`` to read only; or any libpq URI, ``postgresql://user@host/name?sslmode=…``.
        ledger: the table that has a row for each batch, with its schema where it has one; it is created
            on the first write. True for ``crave_bulk_batches``, False for none, and then no `undo` either.
        keep_undo: of how many batches the rows are kept as they were, for `Database.undo`; 1 or more.

    Returns:
        The database: a context manager, pooled, and safe to share between threads.

    Raises:
        ContractError: the URL or an option is not understood.
        ConnectionFailed: the database is not there or refuses the login.

    Example:
        >>> with connect() as db:
        ...     print(db)
        <Database sqlite://>
    """
    scheme, separator, rest = str(url).partition("://")
    kind = _BACKENDS.get(scheme.lower()) if separator else None
    if kind is None:
        raise ContractError(
            "the database URL is not understood: use 'sqlite:///file.db', or 'postgresql://user@host/name'"
        )
    if not isinstance(ledger, bool | str) or type(keep_undo) is not int or keep_undo < 1:
        raise ContractError(
            f"ledger={ledger!r}, keep_undo={keep_undo!r}: name a table, or say True or False; and keep 1 batch or more"
        )
    forks.check_polars()
    warm_up()
    backend = kind(f"{scheme.lower()}://{rest}")
    try:
        book = Ledger(backend, DEFAULT if ledger is True else ledger, keep_undo) if ledger else None
    except BaseException:
        backend.close()
        raise
    return Database(backend, book)


class Database(RowVerbs, ConditionVerbs, SchemaVerbs, LedgerVerbs):
    """A database, and the verbs that write to it and read from it."""

    def run(
        self,
        operations: Sequence[Operation],
        *,
        atomic: bool = True,
        recovery: Recovery | None = None,
    ) -> list[Result]:
        """Run a list of operations.

        Args:
            operations: in order.
            atomic: in one transaction; else each is written for itself.
            recovery: what to do when one fails. ``rollback`` writes nothing, and raises; ``retry`` does
                so too, but runs the whole list again first where others were in the way or the connection
                was lost; ``skip`` leaves that one out and goes on; ``partial`` keeps those before it and
                stops. None: ``rollback`` if `atomic`, else ``skip``.

        Returns:
            One result an operation: its report, or its error; neither where it was not run.

        Raises:
            BulkError: an operation failed, under ``rollback`` or ``retry``; nothing was written.

        Example:
            >>> import polars as pl
            >>> from crave_bulk.examples import Foods
            >>> soup = pl.DataFrame({"food_id": [1], "name": ["soup"]})
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     twice = [Operation("insert", Foods, (soup,)), Operation("insert", Foods, (soup,))]
            ...     [result.status for result in db.run(twice, recovery="partial")]
            ['completed', 'failed']
        """
        if not isinstance(operations, list | tuple):
            raise ContractError(f"{shown(operations)} is no list of operations: write [cb.Operation(…), …]")
        if wrong := [part for part in operations if not isinstance(part, Operation)]:
            raise ContractError(
                f"{wrong[0]!r} is no operation: write cb.Operation(verb, table, (frame,), options)"
            )
        chosen = recovery or ("rollback" if atomic else "skip")
        one_of("recovery", chosen, RECOVERIES)
        if not atomic and chosen in ("rollback", "retry"):
            raise ContractError(
                f"recovery={chosen!r} takes all operations back, which atomic=False has committed one by one: use "
                "'skip' or 'partial', or atomic=True"
            )
        return run_all(self, self._call, operations, chosen, atomic=atomic)

    def _call(self, operation: Operation) -> Report:
        with self.named(operation.name or None):
            report: Report = getattr(self, operation.verb)(
                operation.table, *operation.arguments, **operation.options
            )
        return report
