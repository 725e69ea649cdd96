"""Bisect: find the rows that a database refuses, and write the others.

A database says that a statement failed, and seldom for which row. So the rows are split until those that
fail are alone: k such rows among n are found in O(k·log n) statements. Each part runs in a savepoint, and
what has succeeded stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from crave_bulk.errors import DatabaseError, about_rows
from crave_bulk.session import Session

T = TypeVar("T")

# In four parts rather than two: a part with a bad row costs half of itself on average before it fails, and
# with two, most parts hold a bad row until they are small. 10 bad rows of 100,000: 1.8 times the work of a
# clean load rather than 3.2.
_PARTS = 4


def bisect(
    session: Session,
    rows: Sequence[int],
    attempt: Callable[[Sequence[int]], T],
    refuse: Callable[[int, DatabaseError], None],
    on_first: Callable[[], None] = lambda: None,
    again: Callable[[DatabaseError], bool] = lambda _: False,
) -> list[T]:
    """Run an attempt over rows, in ever smaller parts where the database refuses it.

    Args:
        session: the connection, in a transaction.
        rows: the numbers of the rows, in ascending order.
        attempt: writes some of the rows, which follow each other.
        refuse: is told each single row that was refused, and why.
        on_first: runs once, before anything is split.
        again: tells whether the same rows are to be tried again after a refusal, as the attempt knows better now.

    Returns:
        What the successful attempts returned, in the order of their rows.

    Raises:
        DatabaseError: no row is to blame: the statement fails without any, or for a lock or a full disk.

    Example:
        >>> import crave_bulk as cb
        >>> def attempt(rows):
        ...     if 3 in rows:
        ...         raise DatabaseError("3 is refused")
        ...     return list(rows)
        >>> with cb.connect() as db, db.session() as session, session.atomic():
        ...     bisect(session, range(5), attempt, lambda row, error: print(row, error))
        3 3 is refused
        [[0, 1], [2], [4]]
    """
    done: list[T] = []
    parts, split = [(0, len(rows))] if rows else [], False
    while parts:
        start, end = parts.pop()
        try:
            with session.atomic():
                done.append(attempt(rows[start:end]))
        except DatabaseError as error:
            if again(error):
                parts.append((start, end))
                continue
            if not about_rows(error):
                raise
            if not split:
                _clear_of_rows(session, attempt)
                on_first()
                split = True
            if end - start == 1:
                refuse(rows[start], error)
            else:
                parts += reversed(_split(start, end))
    return done


def _clear_of_rows(session: Session, attempt: Callable[[Sequence[int]], T]) -> None:
    """Try without any row: what fails then is the fault of the statement, and raised as it is."""
    with session.atomic():
        attempt([])


def _split(start: int, end: int) -> list[tuple[int, int]]:
    size = -(-(end - start) // _PARTS)
    return [(at, min(at + size, end)) for at in range(start, end, size)]
