"""Connect, and the database that all verbs are called on."""

from __future__ import annotations

from collections.abc import Sequence

from crave_bulk.backends.postgres import Postgres
from crave_bulk.backends.sqlite import SQLite
from crave_bulk.engine import warm_up
from crave_bulk.errors import ContractError
from crave_bulk.operations import Operation, Result, run_all, run_each
from crave_bulk.report import Report
from crave_bulk.verbs.conditions import ConditionVerbs
from crave_bulk.verbs.rows import RowVerbs
from crave_bulk.verbs.schema import SchemaVerbs

_BACKENDS: dict[str, type[SQLite | Postgres]] = {
    "sqlite": SQLite,
    "postgresql": Postgres,
    "postgres": Postgres,
}


def connect(url: str = "sqlite://") -> Database:
    """Connect to a database.

    Args:
        url: ``sqlite://`` (in memory), ``sqlite:///file.db``, ``sqlite:////absolute/file.db``, with
            ``?mode=ro`` to read only; or any libpq URI, ``postgresql://user@host/name?sslmode=…``.

    Returns:
        The database: a context manager, pooled, and safe to share between threads.

    Raises:
        ContractError: the URL is not understood.
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
    warm_up()
    return Database(kind(f"{scheme.lower()}://{rest}"))


class Database(RowVerbs, ConditionVerbs, SchemaVerbs):
    """A database, and the verbs that write to it and read from it."""

    def run(self, operations: Sequence[Operation], *, atomic: bool = True) -> list[Result]:
        """Run a list of operations.

        Args:
            operations: in order.
            atomic: all or none are written; else each is written for itself, and the result of one that
                is refused holds its error.

        Returns:
            One result an operation.

        Raises:
            BulkError: an operation was refused, and `atomic`; nothing was written.

        Example:
            >>> import polars as pl
            >>> from crave_bulk.examples import Foods
            >>> soup = pl.DataFrame({"food_id": [1], "name": ["soup"]})
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     twice = [Operation("insert", Foods, (soup,)), Operation("insert", Foods, (soup,))]
            ...     [result.succeeded for result in db.run(twice, atomic=False)]
            [True, False]
        """
        if wrong := [part for part in operations if not isinstance(part, Operation)]:
            raise ContractError(
                f"{wrong[0]!r} is no operation: write cb.Operation(verb, table, (frame,), options)"
            )
        if not atomic:
            return run_each(self._call, operations)
        with self.transaction():
            return run_all(self._call, operations)

    def _call(self, operation: Operation) -> Report:
        report: Report = getattr(self, operation.verb)(
            operation.table, *operation.arguments, **operation.options
        )
        return report
