"""Operations: a list of writes, run as one or each for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from crave_bulk.card import sentence
from crave_bulk.errors import (
    BulkError,
    Cancelled,
    ContractError,
    shown,
)
from crave_bulk.report import Report
from crave_bulk.scalar import is_utf8
from crave_bulk.where import settled_where

if TYPE_CHECKING:
    from crave_bulk.connections import Connections

Recovery = Literal["rollback", "retry", "skip", "partial"]
RECOVERIES = get_args(Recovery)
VERBS = ("insert", "upsert", "update", "delete", "sync", "update_where", "delete_where", "restore_where")


@dataclass(frozen=True, slots=True, repr=False)
class Operation:
    """One call of a verb, to be run later.

    Attributes:
        verb: the name of a verb that writes, such as ``"upsert"``.
        table: the table, or the name of an existing one.
        arguments: what follows the table: the frame, the keys, or the changes and the condition.
        options: the keyword arguments of the verb.
        name: what messages call it; the verb and the table where it has none.

    Example:
        >>> print(Operation("delete", "issues", ([1, 2],)))
        delete issues
    """

    verb: str
    table: Any
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def __repr__(self) -> str:
        return f"<Operation {self}>"

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ContractError(f"{shown(self.verb)} is no verb that writes: use one of {', '.join(VERBS)}")
        if not isinstance(self.arguments, list | tuple):
            raise ContractError(
                f"arguments={shown(self.arguments)} are no tuple of what follows the table: write (frame,)"
            )
        if not isinstance(self.options, Mapping) or not all(isinstance(name, str) for name in self.options):
            raise ContractError(
                f"options={shown(self.options)} are no keyword arguments of the verb: write {{'on_reject': 'keep'}}"
            )
        # An operation may be tried again, and so may not use up what it is given.
        object.__setattr__(self, "arguments", tuple(map(settled_where, self.arguments)))
        object.__setattr__(
            self, "options", {name: settled_where(part) for name, part in self.options.items()}
        )
        if not (isinstance(self.name, str) and is_utf8(self.name)):
            raise ContractError(f"name={shown(self.name)} is not text")

    def __str__(self) -> str:
        return self.name or f"{self.verb} {getattr(self.table, '__name__', self.table)}"


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What became of one operation: its report, the error that refused it, or neither where it was not run."""

    operation: Operation
    report: Report | None = None
    error: BulkError | None = None

    def __repr__(self) -> str:
        told = sentence(self.report.counts) if self.report else self.error or "not run"
        return f"<Result {self.operation}: {told}>"

    @property
    def status(self) -> str:
        """``completed``, ``failed``, or ``pending`` where it was not run."""
        return "completed" if self.report else "failed" if self.error else "pending"

    @property
    def succeeded(self) -> bool:
        """Whether the operation was written."""
        return self.report is not None


def run_all(
    db: Connections,
    call: Callable[[Operation], Report],
    operations: Sequence[Operation],
    recovery: Recovery,
    *,
    atomic: bool,
) -> list[Result]:
    """Run operations in order, and do what is agreed where one fails.

    Args:
        db: the database.
        call: runs one operation in the transaction that is open, or in one of its own.
        operations: in order.
        recovery: what to do when one fails.
        atomic: in one transaction.

    Returns:
        One result an operation.

    Raises:
        BulkError: an operation failed, under ``rollback`` or ``retry``; a note says which.
        Cancelled: the list was cancelled; what was committed before stays.
    """
    if not atomic:
        with db.watched(None):  # who cancels the list does not mean just one of it
            return _each(call, operations, recovery)

    if recovery == "retry":
        return db.atomically(lambda: _each(call, operations, recovery))
    with db.transaction():
        return _each(call, operations, recovery)


def _each(
    call: Callable[[Operation], Report], operations: Sequence[Operation], recovery: Recovery
) -> list[Result]:
    """Run operations one after the other; each that fails is back at the savepoint before it."""
    results: list[Result] = []
    for number, operation in enumerate(operations):
        try:
            results.append(Result(operation, call(operation)))
        except Cancelled:
            raise
        except BulkError as error:
            if recovery in ("rollback", "retry"):
                error.add_note(
                    f"operation {number} of {len(operations)} ({operation}) was refused, so none was written"
                )
                raise
            results.append(Result(operation, None, error))
            if recovery == "partial":
                return results + [Result(rest) for rest in operations[number + 1 :]]
    return results
