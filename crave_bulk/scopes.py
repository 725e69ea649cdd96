"""The blocks that are open, and in which context: a transaction belongs to the task or thread that opened it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

from crave_bulk.session import Session
from crave_bulk.watch import Watch

_scopes: ContextVar[tuple[Scope, ...]] = ContextVar("crave_bulk_scopes", default=())
_mark: ContextVar[None] = ContextVar("crave_bulk_mark")


class Scope:
    """A block of a database: its connection, where it has borrowed one, and its watch.

    Attributes:
        thread: where it was opened.
    """

    def __init__(self, database: object, session: Session | None, watch: Watch | None) -> None:
        self.database, self.session, self.watch = database, session, watch
        self.thread = threading.get_ident()
        self._left = False
        self._token: Token[None] = _mark.set(None)

    @property
    def open(self) -> bool:
        """Whether the block has not been left, or one within it that is no transaction of its own."""
        return not self._left or (self.session is not None and self.session.outlived)

    def here(self) -> bool:
        """Tell whether the caller is in the context that opened the block, and not in a copy of it.

        Contexts are copied into tasks and by ``asyncio.to_thread``; a token works only in its own.
        """
        try:
            _mark.reset(self._token)
        except (ValueError, RuntimeError):
            return False
        self._token = _mark.set(None)
        return True

    def leave(self) -> None:
        """End the block, also for the copies of its context."""
        self._left = True
        if self.here():
            _scopes.set(tuple(scope for scope in _scopes.get() if scope.open))


def innermost(database: object) -> Scope | None:
    """Find the block of a database that was opened last in this context, or in the one that it is a copy of."""
    return next((s for s in reversed(_scopes.get()) if s.database is database and s.open), None)


@contextmanager
def entered(database: object, session: Session | None, watch: Watch | None) -> Iterator[Scope]:
    """Open a block in this context."""
    scope = Scope(database, session, watch)
    _scopes.set((*(scope for scope in _scopes.get() if scope.open), scope))
    try:
        yield scope
    finally:
        scope.leave()
