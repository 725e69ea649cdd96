"""Operations: a list of writes, run as one or each for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crave_bulk.card import sentence
from crave_bulk.errors import BulkError, ContractError
from crave_bulk.report import Report

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
            raise ContractError(f"{self.verb!r} is no verb that writes: use one of {', '.join(VERBS)}")

    def __str__(self) -> str:
        return self.name or f"{self.verb} {getattr(self.table, '__name__', self.table)}"


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What became of one operation: its report, or the error that refused it."""

    operation: Operation
    report: Report | None = None
    error: BulkError | None = None

    def __repr__(self) -> str:
        return (
            f"<Result {self.operation}: {self.error or sentence(self.report.counts if self.report else {})}>"
        )

    @property
    def succeeded(self) -> bool:
        """Whether the operation was written."""
        return self.error is None


def run_each(call: Callable[[Operation], Report], operations: Sequence[Operation]) -> list[Result]:
    """Run operations each for itself: one that is refused does not keep the others from being written.

    Args:
        call: runs one operation in a transaction of its own.
        operations: in order.

    Returns:
        One result an operation.
    """
    results = []
    for operation in operations:
        try:
            results.append(Result(operation, call(operation)))
        except BulkError as error:
            results.append(Result(operation, None, error))
    return results


def run_all(call: Callable[[Operation], Report], operations: Sequence[Operation]) -> list[Result]:
    """Run operations as one: the first that is refused refuses all.

    Args:
        call: runs one operation in the transaction that is open.
        operations: in order.

    Returns:
        One result an operation.

    Raises:
        BulkError: an operation was refused; a note says which.
    """
    results = []
    for number, operation in enumerate(operations):
        try:
            results.append(Result(operation, call(operation)))
        except BulkError as error:
            error.add_note(
                f"operation {number} of {len(operations)} ({operation}) was refused, so none was written"
            )
            raise
    return results
